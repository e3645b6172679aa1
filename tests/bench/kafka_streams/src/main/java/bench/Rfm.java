package bench;

import static bench.Policy.*;

import bench.Outputs.AtRisk;
import bench.Outputs.CustomerTiers;
import bench.Outputs.HeldTier;
import bench.Outputs.Next;
import bench.Outputs.TierChange;
import bench.Outputs.Why;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** The job: one order and one customer's state in, outputs out. The same as tests/bench/peers/rfm.py. */
final class Rfm {
    private Rfm() {}

    record Decision(List<TierChange> changes, CustomerTiers tiers) {}

    /** Applies an order to a customer's state and returns the outputs. */
    static Decision apply(Customer customer, Order order) {
        List<TierChange> changes = new ArrayList<>(2);
        if (!customer.knows(order.id())) {
            while (!customer.isNew()) {
                long due = nextInstant(customer);
                if (due >= order.at()) {
                    break;
                }
                evaluate(customer, order.customer(), due, "time", changes);
            }
            customer.add(new Customer.Entry(order.id(), order.at(), order.cents()));
            evaluate(customer, order.customer(), order.at(), "order", changes);
        }
        return new Decision(changes, tiers(customer, order.customer()));
    }

    /** The first instant at which time alone may change anything; it may come early, never late. */
    private static long nextInstant(Customer customer) {
        long due =
                switch (customer.held[STAGE].rank()) {
                    case NEW -> customer.first() + NEW_MS + 1;
                    case ACTIVE -> customer.last() + ACTIVE_MS + 1;
                    case DORMANT -> customer.last() + DORMANT_MS + 1;
                    default -> Long.MAX_VALUE;
                };
        if (!customer.orders.isEmpty()) {
            due = Math.min(due, customer.orders.getFirst().at() + WINDOW_MS);
        }
        if (customer.belowSince != Customer.NOT_BELOW) {
            return Math.min(due, customer.belowSince + GRACE_MS);
        }
        boolean silenceCounts = customer.held[LOYALTY].rank() == PLATINUM;
        return silenceCounts ? Math.min(due, customer.last() + PLATINUM_MS + 1) : due;
    }

    /** Brings a customer up to an instant: up at once, down after the grace, from stage to stage at once. */
    private static void evaluate(Customer customer, String id, long at, String cause, List<TierChange> changes) {
        customer.expire(at - WINDOW_MS);
        Metrics metrics = customer.metrics(at);
        int rank = loyalty(metrics.frequency(), metrics.monetary(), metrics.recency());
        int before = customer.isNew() ? -1 : customer.held[LOYALTY].rank();
        if (rank < before && customer.belowSince == Customer.NOT_BELOW) {
            customer.belowSince = at;
        }
        if (rank > before || (rank < before && at >= customer.belowSince + GRACE_MS)) {
            List<Why> why = ChangeDetails.whyLoyalty(rank, before, metrics);
            Next next = ChangeDetails.nextLoyalty(rank, metrics);
            AtRisk atRisk = ChangeDetails.loyaltyAtRisk(rank, customer);
            Outputs.Metrics shown = ChangeDetails.metrics(metrics, false);
            changes.add(move(customer, id, LOYALTY, rank, at, cause, shown, why, next, atRisk));
            before = rank;
        }
        if (rank == before) {
            customer.belowSince = Customer.NOT_BELOW;
        }
        int stage = stage(metrics.recency(), metrics.tenure());
        if (customer.held[STAGE] == null || customer.held[STAGE].rank() != stage) {
            List<Why> why = ChangeDetails.whyStage(stage, metrics);
            AtRisk atRisk = ChangeDetails.stageAtRisk(stage, customer);
            Outputs.Metrics shown = ChangeDetails.metrics(metrics, true);
            changes.add(move(customer, id, STAGE, stage, at, cause, shown, why, null, atRisk));
        }
    }

    /** Puts the customer into a tier; returns the tier change. */
    private static TierChange move(
            Customer customer,
            String id,
            int scheme,
            int rank,
            long at,
            String cause,
            Outputs.Metrics metrics,
            List<Why> why,
            Next next,
            AtRisk atRisk) {
        Customer.Held held = customer.held[scheme];
        int sequence = held == null ? 1 : held.sequence() + 1;
        customer.held[scheme] = new Customer.Held(rank, at, sequence);
        String from = held == null ? null : TIERS[scheme][held.rank()];
        String to = TIERS[scheme][rank];
        String direction = held == null ? "enter" : rank > held.rank() ? "up" : "down";
        String name =
                String.join("|", id, SCHEMES[scheme], Integer.toString(sequence), from, to, Long.toString(at));
        String eventId =
                UUID.nameUUIDFromBytes(name.getBytes(StandardCharsets.UTF_8)).toString();
        String decided = ChangeDetails.instant(System.currentTimeMillis());
        return new TierChange(
                eventId,
                id,
                SCHEMES[scheme],
                from,
                to,
                direction,
                ChangeDetails.instant(at),
                decided,
                sequence,
                cause,
                VERSION,
                metrics,
                why,
                next,
                atRisk);
    }

    private static CustomerTiers tiers(Customer customer, String id) {
        Map<String, HeldTier> tiers = new LinkedHashMap<>();
        for (int scheme = 0; scheme < SCHEMES.length; scheme++) {
            Customer.Held held = customer.held[scheme];
            String since = ChangeDetails.instant(held.since());
            tiers.put(SCHEMES[scheme], new HeldTier(TIERS[scheme][held.rank()], since, held.sequence()));
        }
        Outputs.Metrics shown = ChangeDetails.metrics(customer.metrics(customer.last()), true);
        return new CustomerTiers(id, ChangeDetails.instant(customer.last()), tiers, shown, VERSION);
    }
}
