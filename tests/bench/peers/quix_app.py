"""The Quix Streams peer: a stateful `apply` on RocksDB with a changelog, and three output topics.

It follows the documentation of Quix Streams. Branches copy every value (pickle), as the chapter on branching says, so
one expanded list goes to the topics by `to_topic` with a callable. The checkpoints every 5 s and the idempotent
producer are defaults.
"""

from typing import Any

from quixstreams import Application, State
from quixstreams.models import Topic

from tests.bench.peers.arguments import Arguments
from tests.bench.peers.orders import Invalid, parse
from tests.bench.peers.rfm import apply


def build(arguments: Arguments) -> Application:
    """Return the application."""
    app = Application(
        broker_address=arguments.broker,
        consumer_group=arguments.group,
        auto_offset_reset="earliest",
        commit_interval=5.0,
        state_dir=arguments.directory,
        # Larger batches for fewer requests; see librdkafka's INTRODUCTION.md, "Performance".
        producer_extra_config={"linger.ms": 50, "batch.size": 1_000_000, "queue.buffering.max.messages": 500_000},
        loglevel="WARNING",
    )
    orders = app.topic(arguments.orders, key_deserializer="bytes", value_deserializer="bytes")
    dead_letters = app.topic(f"{arguments.prefix}dead-letters", key_serializer="bytes", value_serializer="bytes")
    tier_changes = app.topic(f"{arguments.prefix}tier-changes", key_serializer="bytes", value_serializer="json")
    customer_tiers = app.topic(f"{arguments.prefix}customer-tiers", key_serializer="bytes", value_serializer="json")

    def decide(value: bytes, key: bytes, _timestamp: int, _headers: Any, state: State) -> list[Any]:
        try:
            order = parse(key, value)
        except Invalid:
            return [value]
        customer, changes, tiers = apply(state.get("customer"), order)
        state.set("customer", customer)
        return [*changes, tiers]

    def choose(value: Any, _key: bytes, _timestamp: int, _headers: Any) -> Topic:
        if type(value) is bytes:
            return dead_letters
        return tier_changes if "scheme" in value else customer_tiers

    app.dataframe(orders).apply(decide, stateful=True, expand=True, metadata=True).to_topic(choose)
    return app


if __name__ == "__main__":
    build(Arguments.parse()).run()
