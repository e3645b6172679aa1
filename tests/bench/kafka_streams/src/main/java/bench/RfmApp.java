package bench;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The Kafka Streams peer: a processor on a RocksDB store with cache and changelog, one stream thread.
 *
 * <p>Arguments as in tests/bench/peers/arguments.py: broker, group, orders, prefix, partitions, directory.
 */
public final class RfmApp {
    private static final String CUSTOMERS = "customers";
    private static final String TIER_CHANGES = "tier-changes";
    private static final String CUSTOMER_TIERS = "customer-tiers";
    private static final String DEAD_LETTERS = "dead-letters";

    private RfmApp() {}

    public static void main(String[] arguments) throws InterruptedException {
        Properties settings = settings(arguments[0], arguments[1], arguments[5]);
        KafkaStreams streams = new KafkaStreams(topology(arguments[2], arguments[3]), settings);
        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close();
            stopped.countDown();
        }));
        streams.start();
        stopped.await();
    }

    private static Properties settings(String broker, String group, String directory) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, broker);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, directory);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        // The cache holds every customer of the load. With the default interval of 30 s, a run would commit only once.
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 128L * 1024 * 1024);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 5_000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 131_072);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        return settings;
    }

    private static Topology topology(String orders, String prefix) {
        StringSerializer key = new StringSerializer();
        ByteArraySerializer value = new ByteArraySerializer();
        var store = Stores.keyValueStoreBuilder(
                        Stores.persistentKeyValueStore(CUSTOMERS), Serdes.String(), Customer.serde())
                .withCachingEnabled()
                .withLoggingEnabled(Map.of());
        return new Topology()
                .addSource("orders", new StringDeserializer(), new ByteArrayDeserializer(), orders)
                .addProcessor("rfm", Decide::new, "orders")
                .addStateStore(store, "rfm")
                .addSink(TIER_CHANGES, prefix + TIER_CHANGES, key, value, "rfm")
                .addSink(CUSTOMER_TIERS, prefix + CUSTOMER_TIERS, key, value, "rfm")
                .addSink(DEAD_LETTERS, prefix + DEAD_LETTERS, key, value, "rfm");
    }

    private static final class Decide implements Processor<String, byte[], String, byte[]> {
        private final ObjectWriter json = JsonMapper.builder().build().writer();
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, Customer> customers;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            this.customers = context.getStateStore(CUSTOMERS);
        }

        @Override
        public void process(Record<String, byte[]> record) {
            Order order;
            try {
                order = Order.parse(record.key(), record.value());
            } catch (Order.Invalid invalid) {
                context.forward(record, DEAD_LETTERS);
                return;
            }
            Customer known = customers.get(order.customer());
            Customer customer = known == null ? new Customer() : known;
            Rfm.Decision decision = Rfm.apply(customer, order);
            customers.put(order.customer(), customer);
            for (Outputs.TierChange change : decision.changes()) {
                context.forward(record.withValue(encode(change)), TIER_CHANGES);
            }
            context.forward(record.withValue(encode(decision.tiers())), CUSTOMER_TIERS);
        }

        private byte[] encode(Object value) {
            try {
                return json.writeValueAsBytes(value);
            } catch (JsonProcessingException error) {
                throw new IllegalStateException(error);
            }
        }
    }
}
