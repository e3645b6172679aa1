package bench;

import static bench.Policy.*;

import bench.Outputs.AtRisk;
import bench.Outputs.Need;
import bench.Outputs.Next;
import bench.Outputs.Why;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;

/** The details of a change: metrics, why the tier, the next tier, the tier at risk. The same as in change_details.py. */
final class ChangeDetails {
    private ChangeDetails() {}

    static String instant(long at) {
        return Instant.ofEpochMilli(at).toString();
    }

    static String money(long cents) {
        long rest = cents % 100;
        return cents / 100 + (rest < 10 ? ".0" : ".") + rest;
    }

    /** The metrics as outputs show them; the stages also show the days since the first order. */
    static Outputs.Metrics metrics(Metrics found, boolean withTenure) {
        Double tenure = withTenure ? days(found.tenure()) : null;
        return new Outputs.Metrics(days(found.recency()), found.frequency(), money(found.monetary()), tenure);
    }

    /** The comparisons that hold in the tier's rule; for a fall, or an entry at the bottom, those that fail above. */
    static List<Why> whyLoyalty(int rank, int before, Metrics found) {
        boolean down = rank < before;
        boolean truth = !down && rank > REGULAR;
        int lowest = down ? rank + 1 : Math.max(rank, SILVER);
        List<Why> why = new ArrayList<>(4);
        for (int rule = lowest; rule <= (down ? before : lowest); rule++) {
            boolean paid = found.monetary() >= CENTS[rule], ordered = found.frequency() >= ORDERS[rule];
            if (paid == truth) {
                why.add(new Why("monetary", money(found.monetary()), ">=", money(CENTS[rule]), truth));
            }
            if (ordered == truth) {
                why.add(new Why("frequency", found.frequency(), ">=", ORDERS[rule], truth));
            }
            if (rule == PLATINUM && found.recency() <= PLATINUM_MS == truth) {
                why.add(new Why("recency_days", days(found.recency()), "<=", PLATINUM_MS / DAY_MS, truth));
            }
        }
        return why;
    }

    /** The next tier up and what it still requires. Gold can be reached in two ways: the nearer one counts. */
    static Next nextLoyalty(int rank, Metrics found) {
        if (rank == PLATINUM) {
            return null;
        }
        int upper = rank + 1;
        long cents = CENTS[upper] - found.monetary();
        int orders = ORDERS[upper] - found.frequency();
        if (upper == GOLD) {
            boolean byOrders = orders * CENTS[GOLD] < cents * ORDERS[GOLD];
            cents = byOrders ? 0 : cents;
            orders = byOrders ? orders : 0;
        }
        List<Need> needs = new ArrayList<>(3);
        if (cents > 0) {
            needs.add(new Need("monetary", money(cents)));
        }
        if (orders > 0) {
            needs.add(new Need("frequency", orders));
        }
        if (upper == PLATINUM && found.recency() > PLATINUM_MS) {
            needs.add(new Need("recency_days", days(found.recency() - PLATINUM_MS)));
        }
        return new Next(TIERS[LOYALTY][upper], needs);
    }

    /**
     * The tier to which a customer falls without another order, and when; null if never.
     *
     * <p>Take the fewest latest orders for which the rule holds. It fails when the oldest of them leaves the window, and
     * the fall comes one grace later.
     */
    static AtRisk loyaltyAtRisk(int rank, Customer customer) {
        if (rank == REGULAR) {
            return null;
        }
        int frequency = 0;
        long monetary = 0, below = 0;
        for (Iterator<Customer.Entry> latest = customer.orders.descendingIterator(); latest.hasNext(); ) {
            Customer.Entry order = latest.next();
            monetary += order.cents();
            if (loyalty(++frequency, monetary, 0) >= rank) {
                below = order.at() + WINDOW_MS;
                break;
            }
        }
        if (rank == PLATINUM) {
            below = Math.min(below, customer.last() + PLATINUM_MS + 1);
        }
        long falls = below + GRACE_MS;
        frequency = 0;
        monetary = 0;
        for (Iterator<Customer.Entry> latest = customer.orders.descendingIterator(); latest.hasNext(); ) {
            Customer.Entry order = latest.next();
            if (order.at() <= falls - WINDOW_MS) {
                break;
            }
            frequency++;
            monetary += order.cents();
        }
        int lower = loyalty(frequency, monetary, falls - customer.last());
        return new AtRisk(TIERS[LOYALTY][lower], instant(falls));
    }

    /** The comparisons that hold for "new" and "active", or those that fail for the other stages. */
    static List<Why> whyStage(int rank, Metrics found) {
        double recency = days(found.recency()), tenure = days(found.tenure());
        long fresh = NEW_MS / DAY_MS, active = ACTIVE_MS / DAY_MS;
        return switch (rank) {
            case CHURNED -> List.of(new Why("recency_days", recency, "<=", DORMANT_MS / DAY_MS, false));
            case DORMANT -> List.of(
                    new Why("first_order_days", tenure, "<", 0, false),
                    new Why("first_order_days", tenure, "<=", fresh, false),
                    new Why("recency_days", recency, "<=", active, false));
            default -> List.of(
                    new Why("first_order_days", tenure, rank == NEW ? "<=" : ">", fresh, true),
                    new Why("recency_days", recency, "<=", active, true));
        };
    }

    /** The stage that follows without another order, and when; null for the last stage. */
    static AtRisk stageAtRisk(int rank, Customer customer) {
        return switch (rank) {
            case CHURNED -> null;
            case DORMANT -> new AtRisk(TIERS[STAGE][CHURNED], instant(customer.last() + DORMANT_MS + 1));
            default -> new AtRisk(TIERS[STAGE][DORMANT], instant(customer.last() + ACTIVE_MS + 1));
        };
    }

    private static double days(long duration) {
        return (double) duration / DAY_MS;
    }
}
