package bench;

import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;

/**
 * The job without Kafka, for tests. An input line is a customer, a space and an order; each output is a JSON line.
 *
 * <p>State is converted to its binary form and back at every order, as in a store.
 */
public final class Lines {
    private Lines() {}

    public static void main(String[] arguments) throws IOException, Order.Invalid {
        ObjectWriter json = JsonMapper.builder().build().writer();
        Map<String, byte[]> customers = new HashMap<>();
        var serde = Customer.serde();
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            int space = line.indexOf(' ');
            Order order = Order.parse(
                    line.substring(0, space), line.substring(space + 1).getBytes(StandardCharsets.UTF_8));
            Customer known = serde.deserializer().deserialize("", customers.get(order.customer()));
            Customer customer = known == null ? new Customer() : known;
            Rfm.Decision decision = Rfm.apply(customer, order);
            customers.put(order.customer(), serde.serializer().serialize("", customer));
            for (Outputs.TierChange change : decision.changes()) {
                System.out.println(json.writeValueAsString(change));
            }
            System.out.println(json.writeValueAsString(decision.tiers()));
        }
    }
}
