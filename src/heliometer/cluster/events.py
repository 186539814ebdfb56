"""What the processes of a cluster tell each other: one typed union, and its encoded form.

An event says only *what* to look at again; whoever cares reads the database. Each is encoded as
``[kind, content, reply_to, token]``. A process ignores kinds and contents that it cannot read: they
come from another version.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from heliometer.feed.model import Usage
from heliometer.metrics.model import Series


class Event(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What all events have besides their content."""

    reply_to: str = ""
    """Queue of the sender, where it waits for ``Handled``; empty: it does not wait."""
    token: str = ""


class Handled(Event, frozen=True, array_like=True, tag="heard"):
    """A process has done what it does upon an event: the event's token, and the process."""

    by: tuple[str, str]


class Member(msgspec.Struct, frozen=True):
    """A process of the service, as it describes itself."""

    name: str
    roles: list[str]
    host: str
    pid: int
    version: str
    url: str
    parts: list[int] = []
    """The shards that it owns."""
    lag_s: float = 0.0
    """How far the furthest behind of its shards is behind, in seconds."""
    failed: dict[str, str] = {}
    """What does not work there, and why."""
    of: int = 0
    """How many shards its settings have; 0: it does not say."""


class MemberHere(Event, frozen=True, array_like=True, tag="here"):
    """A process is there; repeated every few seconds."""

    member: Member


class MemberLeft(Event, frozen=True, array_like=True, tag="gone"):
    """A process ends, and will not be heard of again."""

    name: str


class SeriesStored(Event, frozen=True, array_like=True, tag="series"):
    """The store has these series now. Ids are the shared ones."""

    series: Sequence[Series]


class AlarmName(msgspec.Struct, frozen=True):
    """What identifies an alarm."""

    project: str
    alarm: str


class AlarmChanged(Event, frozen=True, array_like=True, tag="alarm"):
    """An alarm was made, changed or deleted."""

    alarm: AlarmName


class SubscriptionsChanged(Event, frozen=True, array_like=True, tag="subscriptions"):
    """The subscriptions of a project were changed."""

    project_id: str


class EndpointChanged(Event, frozen=True, array_like=True, tag="endpoint"):
    """The endpoint of a project was made, changed or deleted."""

    project_id: str


class MetersChanged(Event, frozen=True, array_like=True, tag="meters"):
    """The custom meters of a project were changed."""

    project_id: str


class OutboxFilled(Event, frozen=True, array_like=True, tag="outbox"):
    """There is something to send."""

    content: None = None


class UsageQuestion(NamedTuple):
    """Whose queue is asked about, and the queue for the answer."""

    project_id: str
    reply_queue: str


class UsageAsked(Event, frozen=True, array_like=True, tag="ask usage"):
    """What does the feed's queue of a project hold?"""

    question: UsageQuestion


class ProjectUsage(NamedTuple):
    """What the queue of a project holds."""

    project_id: str
    usage: Usage


class UsageAnswered(Event, frozen=True, array_like=True, tag="usage"):
    """The answer to ``UsageAsked``."""

    answer: ProjectUsage


class MessageStored(NamedTuple):
    """A message of measurements that is stored: its token, and the idempotency keys that were
    refused, each with the reason."""

    token: str
    refused: Mapping[str, str]


class MessagesStored(Event, frozen=True, array_like=True, tag="stored"):
    """The owner of a shard has stored messages of the receiver."""

    messages: Sequence[MessageStored]


AnyEvent = (
    Handled
    | MemberHere
    | MemberLeft
    | SeriesStored
    | AlarmChanged
    | SubscriptionsChanged
    | EndpointChanged
    | MetersChanged
    | OutboxFilled
    | UsageAsked
    | UsageAnswered
    | MessagesStored
)

encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(AnyEvent)


def decode(body: bytes) -> AnyEvent:
    """The event back. Raises ValueError for what is none, or of another version."""
    try:
        event: AnyEvent = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    return event
