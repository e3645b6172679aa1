"""The facts tidemark consumes, normalised: instants in ms, money in minor units, ids as 64-bit numbers.

The core works on them, and a customer's state keeps them while a decision is pending. `models.wire` decodes them.
"""

from enum import IntEnum
from typing import Any, final

import msgspec

from models.instants import MIN_INSTANT


class Topic(IntEnum):
    """The input topics. The value is the rank at equal instants: profiles, orders, interactions, campaigns."""

    CUSTOMERS = 0
    ORDERS = 1
    INTERACTIONS = 2
    CAMPAIGNS = 3

    @property
    def label(self) -> str:
        """The topic's name without any prefix."""
        return self.name.lower()


#: The instant (ms) of what has none: it holds from the beginning.
BEGINNING = MIN_INSTANT - 1
#: The topics whose events are each about one customer.
CUSTOMER_TOPICS = (Topic.CUSTOMERS, Topic.ORDERS, Topic.INTERACTIONS)


@final
class OrderPlaced(msgspec.Struct, array_like=True, frozen=True, tag="o", gc=False):
    """An order of `amount` minor units, placed at `at` (ms). `margin` in minor units may be negative.

    `own` is (currency, minor units of it) if the order was paid in another currency than the policy's.
    """

    at: int
    order: int
    amount: int
    margin: int | None = None
    own: tuple[str, int] | None = None


@final
class OrderRefunded(msgspec.Struct, array_like=True, frozen=True, tag="r", gc=False):
    """A refund of `amount` minor units for `order` at `at` (ms). `own` is as in `OrderPlaced`."""

    at: int
    refund: int
    order: int
    amount: int
    own: tuple[str, int] | None = None


@final
class OrderCancelled(msgspec.Struct, array_like=True, frozen=True, tag="c", gc=False):
    """A cancellation: `order` no longer counts from `at` (ms) on."""

    at: int
    order: int


@final
class Interaction(msgspec.Struct, array_like=True, frozen=True, tag="i", gc=False):
    """Something the customer did or said at `at` (ms). `value` is in thousandths (a survey's 8.5 is 8500).

    `action` is the hashed id of the care action that it answers, if any.
    """

    at: int
    interaction: int
    kind: str
    value: int | None = None
    action: int | None = None


class Consent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Whether marketing is allowed, and through which channels, in lower case. `channels` None: any."""

    marketing: bool = False
    channels: tuple[str, ...] | None = None


@final
class Profile(msgspec.Struct, array_like=True, frozen=True, tag="p", gc=False):
    """What the shop knows of a customer. `at` is `updated_at`, else `registered_at`, else None (ms)."""

    at: int | None
    birthday: str | None = None
    timezone: str | None = None
    locale: str | None = None
    consent: Consent | None = None
    registered_at: int | None = None
    attributes: dict[str, Any] = {}
    updated_at: int | None = None

    def replaces(self, other: "Profile") -> bool:
        """Whether this later arrival wins: by `updated_at` if both have one, else because it arrived later.

        If both were updated at one instant, their content decides, so that the order of arrival does not.
        """
        if self.updated_at is None or other.updated_at is None:
            return True
        if self.updated_at == other.updated_at:
            return content_of(self) >= content_of(other)
        return self.updated_at > other.updated_at


@final
class Erasure(msgspec.Struct, array_like=True, frozen=True, tag="e", gc=False):
    """A request to forget the customer in the state, the changelog and `customer-tiers`."""

    at: None = None


@final
class Campaign(msgspec.Struct, frozen=True, gc=False):
    """An announcement at `at` (ms) on a subject, to customers in one of `tiers` with one of the values of attributes.

    Empty `tiers` means any. A campaign reaches every customer of a partition (`streams.partition.campaigns`).
    """

    at: int
    campaign: str
    subject: str
    tiers: tuple[str, ...] = ()
    attributes: dict[str, tuple[str, ...]] = {}


Event = OrderPlaced | OrderRefunded | OrderCancelled | Interaction | Profile | Erasure
#: What can wait in a customer's state until its instant is settled (an erasure never waits).
Pending = OrderPlaced | OrderRefunded | OrderCancelled | Interaction | Profile

#: The interaction kinds of the contract. Others are accepted and have no weight unless a policy gives them one.
KNOWN_KINDS = frozenset(
    {
        "visit",
        "app_open",
        "email_open",
        "click",
        "review",
        "referral",
        "support_ticket",
        "complaint",
        "survey",
        "event_attended",
        "call",
        "unsubscribe",
        "care.delivered",
        "care.opened",
        "care.clicked",
        "care.converted",
    }
)


_RANKS = {Profile: Topic.CUSTOMERS, Erasure: Topic.CUSTOMERS, Interaction: Topic.INTERACTIONS}
_IDS: dict[type, str] = {
    OrderPlaced: "order",
    OrderRefunded: "refund",
    OrderCancelled: "order",
    Interaction: "interaction",
}
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def rank(event: Event) -> int:
    """Return the topic rank by which events of one instant are ordered."""
    return _RANKS.get(type(event), Topic.ORDERS)


def order_of(event: Event) -> tuple[int, int, str, int]:
    """Return the place of an event among a customer's: its instant (ms), the rank of its topic, its type, its id.

    An event without an instant comes first. The id is a hash, so ties follow the content and not the order of arrival.
    """
    kind = type(event)
    at = BEGINNING if event.at is None else event.at
    return at, _RANKS.get(kind, Topic.ORDERS), str(kind.__struct_config__.tag), getattr(event, _IDS.get(kind, ""), 0)


def content_of(event: Event | Campaign) -> bytes:
    """Return the content of an event as bytes that are equal for equal events."""
    return _encode(event)
