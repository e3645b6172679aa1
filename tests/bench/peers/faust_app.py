"""The Faust peer: an agent that takes one order at a time, a table of dicts, three output topics.

It follows the Faust user guide (agents, tables, `await topic.send`), with the Cython extensions of the wheel and with
orjson, which Faust uses if it is installed. Values are bytes until the agent, because dead letters need the original.
"""

import faust

from tests.bench.peers.arguments import Arguments
from tests.bench.peers.orders import Invalid, parse
from tests.bench.peers.rfm import apply


def build(arguments: Arguments) -> faust.App:
    """Return the app."""
    partitions = int(arguments.partitions)
    app = faust.App(
        arguments.group,
        broker=f"kafka://{arguments.broker}",
        store="memory://",
        datadir=arguments.directory,
        topic_partitions=partitions,
        topic_disable_leader=True,
        topic_replication_factor=1,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        # The check relies on listed end offsets, which are too low on the embedded broker. tidemark disables it too.
        recovery_consistency_check=False,
        # Without a linger, nearly every record is its own request.
        producer_linger=0.01,
        producer_max_batch_size=131_072,
        web_enabled=False,
    )
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    orders = app.topic(arguments.orders, **raw)
    dead_letters = app.topic(f"{arguments.prefix}dead-letters", **raw)
    json = {"key_type": bytes, "key_serializer": "raw", "value_serializer": "json"}
    tier_changes = app.topic(f"{arguments.prefix}tier-changes", **json)
    customer_tiers = app.topic(f"{arguments.prefix}customer-tiers", **json)
    customers = app.Table("customers", key_type=str, value_type=dict, partitions=partitions)

    @app.agent(orders)
    async def decide(stream: faust.Stream[bytes]) -> None:
        async for event in stream.events():
            key = event.key
            try:
                order = parse(key, event.value)
            except Invalid:
                await dead_letters.send(key=key, value=event.value)
                continue
            state, changes, tiers = apply(customers.get(order.customer_id), order)
            customers[order.customer_id] = state
            for change in changes:
                await tier_changes.send(key=key, value=change)
            await customer_tiers.send(key=key, value=tiers)

    return app


if __name__ == "__main__":
    worker = faust.Worker(build(Arguments.parse()), loglevel="warning", redirect_stdouts=False)
    worker.execute_from_commandline()
