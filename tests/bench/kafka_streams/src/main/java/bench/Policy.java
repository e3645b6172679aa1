package bench;

/** The policy of rfm.yaml, as code. Durations in ms, money in cents; tiers by rank, lowest first. */
final class Policy {
    static final String VERSION = "2026-11-01";
    static final String[] SCHEMES = {"loyalty", "stage"};
    static final int LOYALTY = 0, STAGE = 1;
    static final String[][] TIERS = {
        {"regular", "silver", "gold", "platinum"}, {"churned", "dormant", "prospect", "new", "active"}
    };
    static final int REGULAR = 0, SILVER = 1, GOLD = 2, PLATINUM = 3;
    static final int CHURNED = 0, DORMANT = 1, NEW = 3, ACTIVE = 4;

    static final long DAY_MS = 86_400_000L;
    static final long WINDOW_MS = 90 * DAY_MS, GRACE_MS = 30 * DAY_MS;
    static final long NEW_MS = 30 * DAY_MS, ACTIVE_MS = 45 * DAY_MS, DORMANT_MS = 120 * DAY_MS;
    static final long PLATINUM_MS = 60 * DAY_MS;
    /** The thresholds of the ladder, by rank. */
    static final long[] CENTS = {0, 300_00, 1200_00, 2500_00};
    static final int[] ORDERS = {0, 3, 12, 15};

    private Policy() {}

    /** Metrics at an instant: orders in the window, their sum, the time since the last and since the first order. */
    record Metrics(int frequency, long monetary, long recency, long tenure) {}

    /** The highest tier of the ladder whose rule holds. */
    static int loyalty(int frequency, long monetary, long recency) {
        if (monetary >= CENTS[PLATINUM] && frequency >= ORDERS[PLATINUM] && recency <= PLATINUM_MS) {
            return PLATINUM;
        }
        if (monetary >= CENTS[GOLD] || frequency >= ORDERS[GOLD]) {
            return GOLD;
        }
        return monetary >= CENTS[SILVER] && frequency >= ORDERS[SILVER] ? SILVER : REGULAR;
    }

    /** The stage of a customer's life. Every customer has ordered, so there are no prospects. */
    static int stage(long recency, long tenure) {
        if (recency <= ACTIVE_MS) {
            return tenure <= NEW_MS ? NEW : ACTIVE;
        }
        return recency <= DORMANT_MS ? DORMANT : CHURNED;
    }
}
