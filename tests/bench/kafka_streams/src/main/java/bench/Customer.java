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

/** A customer's ledger and tiers, kept in the store in a compact binary form. */
final class Customer {
    /** An order that counts: instant in ms, amount in cents. */
    record Entry(String id, long at, long cents) {}

    /** The tier held in a scheme, by rank; `belowSince` is -1 while the customer does not stand below it. */
    record Held(int rank, long since, int sequence, long belowSince) {}

    final ArrayDeque<Entry> orders = new ArrayDeque<>();
    final Held[] held = new Held[Rfm.SCHEMES.length];
    private final Set<String> ids = new HashSet<>();
    private long monetary;

    /** Adds an order, the first of an id only. */
    void add(Entry entry) {
        if (ids.add(entry.id)) {
            orders.addLast(entry);
            monetary += entry.cents;
        }
    }

    /** Drops orders that left the window. They were added in the order of their time, so the first is the oldest. */
    void expire(long until) {
        while (!orders.isEmpty() && orders.getFirst().at <= until) {
            Entry oldest = orders.removeFirst();
            ids.remove(oldest.id);
            monetary -= oldest.cents;
        }
    }

    long monetary() {
        return monetary;
    }

    static Serde<Customer> serde() {
        Serializer<Customer> write = (topic, customer) -> customer == null ? null : customer.toBytes();
        Deserializer<Customer> read = (topic, bytes) -> bytes == null ? null : fromBytes(bytes);
        return Serdes.serdeFrom(write, read);
    }

    private byte[] toBytes() {
        int size = 4 + 21 * held.length;
        byte[][] names = new byte[orders.size()][];
        int place = 0;
        for (Entry entry : orders) {
            names[place] = entry.id.getBytes(StandardCharsets.UTF_8);
            size += 2 + names[place++].length + 16;
        }
        ByteBuffer buffer = ByteBuffer.allocate(size);
        for (Held one : held) {
            Held written = one == null ? new Held(-1, 0, 0, -1) : one;
            buffer.put((byte) written.rank).putLong(written.since).putInt(written.sequence);
            buffer.putLong(written.belowSince);
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
        for (int scheme = 0; scheme < customer.held.length; scheme++) {
            int rank = buffer.get();
            Held held = new Held(rank, buffer.getLong(), buffer.getInt(), buffer.getLong());
            customer.held[scheme] = rank < 0 ? null : held;
        }
        for (int count = buffer.getInt(); count > 0; count--) {
            byte[] name = new byte[buffer.getShort()];
            buffer.get(name);
            customer.add(new Entry(new String(name, StandardCharsets.UTF_8), buffer.getLong(), buffer.getLong()));
        }
        return customer;
    }
}
