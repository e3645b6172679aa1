package bench;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;
import java.util.Map;

/** The outputs, in the shape that Jackson writes. */
final class Outputs {
    private Outputs() {}

    record Metrics(
            @JsonProperty("recency_days") double recencyDays,
            int frequency,
            String monetary,
            @JsonProperty("first_order_days") @JsonInclude(JsonInclude.Include.NON_NULL) Double firstOrderDays) {}

    record Why(String metric, Object value, String op, Object threshold, boolean met) {}

    record Need(String metric, Object missing) {}

    record Next(String tier, List<Need> needs) {}

    record AtRisk(String tier, String on) {}

    record TierChange(
            @JsonProperty("event_id") String eventId,
            @JsonProperty("customer_id") String customerId,
            String scheme,
            String from,
            String to,
            String direction,
            @JsonProperty("effective_at") String effectiveAt,
            @JsonProperty("decided_at") String decidedAt,
            int sequence,
            String cause,
            @JsonProperty("policy_version") String policyVersion,
            Metrics metrics,
            List<Why> why,
            Next next,
            @JsonProperty("at_risk") AtRisk atRisk) {}

    record HeldTier(String tier, String since, int sequence) {}

    record CustomerTiers(
            @JsonProperty("customer_id") String customerId,
            @JsonProperty("as_of") String asOf,
            Map<String, HeldTier> tiers,
            Metrics metrics,
            @JsonProperty("policy_version") String policyVersion) {}
}
