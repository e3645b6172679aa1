package bench;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** The job: one order and one customer's state in, the outputs out. The same as tests/bench/peers/rfm.py. */
final class Rfm {
    static final String[] SCHEMES = {"loyalty", "stage"};
    private static final String[][] TIERS = {
        {"regular", "silver", "gold", "platinum"}, {"churned", "dormant", "prospect", "new", "active"}
    };
    private static final long DAY_MS = 86_400_000L;
    private static final long WINDOW_MS = 90 * DAY_MS;
    private static final long[] GRACES_MS = {30 * DAY_MS, 0};
    private static final int REGULAR = 0, SILVER = 1, GOLD = 2, PLATINUM = 3;
    private static final int CHURNED = 0, DORMANT = 1, PROSPECT = 2, NEW = 3, ACTIVE = 4;

    private Rfm() {}

    record Metrics(
            @JsonProperty("recency_days") double recencyDays, int frequency, String monetary) {}

    record TierChange(
            @JsonProperty("event_id") String eventId,
            @JsonProperty("customer_id") String customerId,
            String scheme,
            String from,
            String to,
            String direction,
            @JsonProperty("effective_at") String effectiveAt,
            int sequence,
            Metrics metrics) {}

    record HeldTier(String tier, String since, int sequence) {}

    record CustomerTiers(
            @JsonProperty("customer_id") String customerId,
            @JsonProperty("as_of") String asOf,
            Map<String, HeldTier> tiers,
            Metrics metrics) {}

    record Decision(List<TierChange> changes, CustomerTiers tiers) {}

    /** Takes an order into a customer's state and returns what is to be told. */
    static Decision apply(Customer customer, Order order) {
        customer.add(new Customer.Entry(order.id(), order.at(), order.cents()));
        customer.expire(order.at() - WINDOW_MS);
        int frequency = customer.orders.size();
        long recency = frequency == 0 ? WINDOW_MS : order.at() - customer.orders.getLast().at();
        long tenure = frequency == 0 ? WINDOW_MS : order.at() - customer.orders.getFirst().at();
        Metrics metrics = new Metrics(
                Math.round(recency * 1e6 / DAY_MS) / 1e6, frequency, money(customer.monetary()));
        List<TierChange> changes = new ArrayList<>(2);
        int[] qualified = {loyalty(customer.monetary(), frequency, recency), stage(frequency, recency, tenure)};
        for (int scheme = 0; scheme < qualified.length; scheme++) {
            TierChange change = settle(customer, scheme, qualified[scheme], order, metrics);
            if (change != null) {
                changes.add(change);
            }
        }
        Map<String, HeldTier> tiers = new LinkedHashMap<>();
        for (int scheme = 0; scheme < qualified.length; scheme++) {
            Customer.Held held = customer.held[scheme];
            tiers.put(SCHEMES[scheme], new HeldTier(TIERS[scheme][held.rank()], text(held.since()), held.sequence()));
        }
        return new Decision(changes, new CustomerTiers(order.customer(), text(order.at()), tiers, metrics));
    }

    private static int loyalty(long monetary, int frequency, long recency) {
        if (monetary >= 250_000 && frequency >= 15 && recency <= 60 * DAY_MS) {
            return PLATINUM;
        }
        if (monetary >= 120_000 || frequency >= 12) {
            return GOLD;
        }
        return monetary >= 30_000 && frequency >= 3 ? SILVER : REGULAR;
    }

    private static int stage(int frequency, long recency, long tenure) {
        if (frequency == 0) {
            return PROSPECT;
        }
        if (recency <= 45 * DAY_MS) {
            return tenure <= 30 * DAY_MS ? NEW : ACTIVE;
        }
        return recency <= 120 * DAY_MS ? DORMANT : CHURNED;
    }

    /** Moves a customer up at once, down after the grace; returns the tier change, null where there is none. */
    private static TierChange settle(Customer customer, int scheme, int qualified, Order order, Metrics metrics) {
        Customer.Held held = customer.held[scheme];
        String direction;
        if (held == null) {
            direction = "enter";
        } else if (qualified == held.rank()) {
            customer.held[scheme] = new Customer.Held(qualified, held.since(), held.sequence(), -1);
            return null;
        } else if (qualified > held.rank()) {
            direction = "up";
        } else {
            long belowSince = held.belowSince() < 0 ? order.at() : held.belowSince();
            if (order.at() < belowSince + GRACES_MS[scheme]) {
                customer.held[scheme] = new Customer.Held(held.rank(), held.since(), held.sequence(), belowSince);
                return null;
            }
            direction = "down";
        }
        int sequence = held == null ? 1 : held.sequence() + 1;
        customer.held[scheme] = new Customer.Held(qualified, order.at(), sequence, -1);
        String from = held == null ? null : TIERS[scheme][held.rank()];
        String to = TIERS[scheme][qualified];
        String name = String.join(
                "|", order.customer(), SCHEMES[scheme], Integer.toString(sequence), from, to, Long.toString(order.at()));
        String id = UUID.nameUUIDFromBytes(name.getBytes(StandardCharsets.UTF_8)).toString();
        return new TierChange(
                id, order.customer(), SCHEMES[scheme], from, to, direction, text(order.at()), sequence, metrics);
    }

    private static String money(long cents) {
        long rest = cents % 100;
        return cents / 100 + (rest < 10 ? ".0" : ".") + rest;
    }

    private static String text(long at) {
        return Instant.ofEpochMilli(at).toString();
    }
}
