package bench;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.HashSet;
import java.util.Set;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;

/** A customer's ledger and tiers, kept in the store in a compact binary form. Instants in ms, amounts in cents. */
final class Customer {
    /** The value of belowSince while the customer is not below the tier held. */
    static final long NOT_BELOW = -1;

    /** A counted order. */
    record Entry(String id, long at, long cents) {}

    /** The tier held in a scheme, by rank. */
    record Held(int rank, long since, int sequence) {}

    /** The orders in the window, oldest first. */
    final ArrayDeque<Entry> orders = new ArrayDeque<>();

    final Held[] held = new Held[Policy.SCHEMES.length];
    /** The instant since which the ladder's tier is below the one held. */
    long belowSince = NOT_BELOW;

    private final Set<String> ids = new HashSet<>();
    private long first;
    private long last;
    private long monetary;

    boolean isNew() {
        return held[0] == null;
    }

    boolean knows(String id) {
        return ids.contains(id);
    }

    void add(Entry entry) {
        if (isNew()) {
            first = entry.at;
        }
        last = entry.at;
        count(entry);
    }

    /** Drops orders that left the window. They were added in order of time, so the first is the oldest. */
    void expire(long until) {
        while (!orders.isEmpty() && orders.getFirst().at <= until) {
            Entry oldest = orders.removeFirst();
            ids.remove(oldest.id);
            monetary -= oldest.cents;
        }
    }

    long first() {
        return first;
    }

    long last() {
        return last;
    }

    Policy.Metrics metrics(long at) {
        return new Policy.Metrics(orders.size(), monetary, at - last, at - first);
    }

    static Serde<Customer> serde() {
        Serializer<Customer> write = (topic, customer) -> customer == null ? null : customer.toBytes();
        Deserializer<Customer> read = (topic, bytes) -> bytes == null ? null : fromBytes(bytes);
        return Serdes.serdeFrom(write, read);
    }

    private void count(Entry entry) {
        ids.add(entry.id);
        orders.addLast(entry);
        monetary += entry.cents;
    }

    private byte[] toBytes() {
        int size = 3 * 8 + 13 * held.length + 4;
        byte[][] names = new byte[orders.size()][];
        int place = 0;
        for (Entry entry : orders) {
            names[place] = entry.id.getBytes(StandardCharsets.UTF_8);
            size += 2 + names[place++].length + 16;
        }
        ByteBuffer buffer = ByteBuffer.allocate(size);
        buffer.putLong(first).putLong(last).putLong(belowSince);
        for (Held one : held) {
            buffer.put((byte) one.rank).putLong(one.since).putInt(one.sequence);
        }
        buffer.putInt(orders.size());
        place = 0;
        for (Entry entry : orders) {
            byte[] name = names[place++];
            buffer.putShort((short) name.length).put(name).putLong(entry.at).putLong(entry.cents);
        }
        return buffer.array();
    }

    private static Customer fromBytes(byte[] bytes) {
        Customer customer = new Customer();
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        customer.first = buffer.getLong();
        customer.last = buffer.getLong();
        customer.belowSince = buffer.getLong();
        for (int scheme = 0; scheme < customer.held.length; scheme++) {
            customer.held[scheme] = new Held(buffer.get(), buffer.getLong(), buffer.getInt());
        }
        for (int count = buffer.getInt(); count > 0; count--) {
            byte[] name = new byte[buffer.getShort()];
            buffer.get(name);
            customer.count(new Entry(new String(name, StandardCharsets.UTF_8), buffer.getLong(), buffer.getLong()));
        }
        return customer;
    }
}
