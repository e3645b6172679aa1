"""The shapes of records on the input topics (docs/contract.md), for the typed decoder. Nothing else is checked here."""

from datetime import datetime
from typing import Annotated, Any

import msgspec

from models.events import Topic

#: A whole number is the text of its digits.
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Short = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
When = int | Annotated[datetime, msgspec.Meta(tz=True)]
Amount = str | int | float


_Values = Annotated[tuple[Short, ...], msgspec.Meta(min_length=1, max_length=64)]


class PlacedShape(msgspec.Struct, tag="order.placed", tag_field="type", gc=False):
    """`order.placed`."""

    order_id: Id
    customer_id: Id
    occurred_at: When
    amount: Amount
    margin: Amount | None = None
    currency: str | None = None


class RefundedShape(msgspec.Struct, tag="order.refunded", tag_field="type", gc=False):
    """`order.refunded`."""

    refund_id: Id
    order_id: Id
    customer_id: Id
    occurred_at: When
    amount: Amount
    currency: str | None = None


class CancelledShape(msgspec.Struct, tag="order.cancelled", tag_field="type", gc=False):
    """`order.cancelled`."""

    order_id: Id
    customer_id: Id
    occurred_at: When


class InteractionShape(msgspec.Struct, tag="interaction", tag_field="type", gc=False):
    """`interaction`."""

    interaction_id: Id
    customer_id: Id
    occurred_at: When
    kind: Short
    value: float | None = None
    action_id: Id | None = None


class ConsentShape(msgspec.Struct, gc=False):
    """The consent of a profile."""

    marketing: bool = False
    channels: Annotated[tuple[Short, ...], msgspec.Meta(max_length=16)] | None = None


class ProfileShape(msgspec.Struct, gc=False):
    """A record of `customers`."""

    customer_id: Id
    birthday: str | None = None
    timezone: str | None = None
    locale: Short | None = None
    consent: ConsentShape | None = None
    registered_at: When | None = None
    updated_at: When | None = None
    attributes: dict[str, Any] | None = None


class CampaignShape(msgspec.Struct, tag="campaign", tag_field="type", gc=False):
    """`campaign`."""

    campaign_id: Id
    occurred_at: When
    subject: Short
    tiers: Annotated[tuple[Short, ...], msgspec.Meta(max_length=32)] = ()
    attributes: Annotated[dict[Short, _Values], msgspec.Meta(max_length=8)] = {}


#: The typed decoders by topic.
DECODERS: dict[Topic, msgspec.json.Decoder[Any]] = {
    Topic.ORDERS: msgspec.json.Decoder(PlacedShape | RefundedShape | CancelledShape),
    Topic.INTERACTIONS: msgspec.json.Decoder(InteractionShape),
    Topic.CUSTOMERS: msgspec.json.Decoder(ProfileShape),
    Topic.CAMPAIGNS: msgspec.json.Decoder(CampaignShape),
}
#: The fields that hold ids, by shape.
ID_FIELDS = {
    kind: tuple(name for name in kind.__struct_fields__ if name.endswith("_id"))
    for kind in (PlacedShape, RefundedShape, CancelledShape, InteractionShape, ProfileShape)
}
