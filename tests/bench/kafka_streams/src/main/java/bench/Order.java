package bench;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.time.DateTimeException;
import java.time.OffsetDateTime;

/** A valid order: instant in ms, amount in cents. */
record Order(String id, String customer, long at, long cents) {

    /** The record is not an order; it becomes a dead letter. */
    static final class Invalid extends Exception {
        Invalid(String message) {
            super(message, null, false, false);
        }
    }

    private record Raw(
            String type,
            @JsonProperty("order_id") String orderId,
            @JsonProperty("customer_id") String customerId,
            @JsonProperty("occurred_at") Object occurredAt,
            Object amount) {}

    private static final ObjectReader READER = JsonMapper.builder()
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .build()
            .readerFor(Raw.class);

    static Order parse(String key, byte[] value) throws Invalid {
        Raw raw;
        try {
            raw = READER.readValue(value);
        } catch (JacksonException | IllegalArgumentException error) {
            throw new Invalid("not an order in JSON");
        } catch (IOException error) {
            throw new Invalid("unreadable");
        }
        if (raw == null || !"order.placed".equals(raw.type)) {
            throw new Invalid("another type");
        }
        if (!isId(raw.orderId) || !isId(raw.customerId) || !raw.customerId.equals(key)) {
            throw new Invalid("an id is missing, or the key is not the customer");
        }
        return new Order(raw.orderId, raw.customerId, instant(raw.occurredAt), cents(raw.amount));
    }

    private static boolean isId(String id) {
        return id != null && !id.isEmpty() && id.length() <= 256;
    }

    private static long instant(Object occurredAt) throws Invalid {
        if (occurredAt instanceof Long || occurredAt instanceof Integer) {
            return ((Number) occurredAt).longValue();
        }
        try {
            return OffsetDateTime.parse((String) occurredAt).toInstant().toEpochMilli();
        } catch (DateTimeException | ClassCastException | NullPointerException error) {
            throw new Invalid("neither RFC 3339 with an offset nor epoch milliseconds");
        }
    }

    private static long cents(Object amount) throws Invalid {
        try {
            BigDecimal cents = new BigDecimal((String) amount).movePointRight(2);
            if (cents.signum() < 0) {
                throw new Invalid("the amount is negative");
            }
            return cents.setScale(0, RoundingMode.HALF_EVEN).longValueExact();
        } catch (ArithmeticException | NumberFormatException | ClassCastException | NullPointerException error) {
            throw new Invalid("the amount is not a decimal text");
        }
    }
}
