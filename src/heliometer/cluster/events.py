"""The events between the processes of a cluster: one typed union, and its encoded form.

An event only says *what* has changed; receivers that need it read the database. Each is encoded as
``[kind, content, reply_to, token]``. Kinds and contents that a process cannot read are ignored:
they come from another version.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from heliometer.feed.model import Usage
from heliometer.metrics.model import Series


class Event(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The fields that all events have besides their content."""

    reply_to: str = ""
    """The sender's queue, where it waits for ``Handled``; empty if it does not wait."""
    token: str = ""


class Handled(Event, frozen=True, array_like=True, tag="heard"):
    """A process has handled an event: the event's token, and the process's name."""

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
    """Numbers of the shards that it owns."""
    lag_s: float = 0.0
    """The lag of its slowest shard, in seconds."""
    failed: dict[str, str] = {}
    """What does not work in that process, and why."""
    of: int = 0
    """How many shards its settings have; 0 if unknown."""


class MemberHere(Event, frozen=True, array_like=True, tag="here"):
    """A process is running; sent every few seconds."""

    member: Member


class MemberLeft(Event, frozen=True, array_like=True, tag="gone"):
    """A process is exiting, and sends nothing more."""

    name: str


class SeriesStored(Event, frozen=True, array_like=True, tag="series"):
    """The store has these series now, with their shared ids."""

    series: Sequence[Series]


class AlarmName(msgspec.Struct, frozen=True):
    """Identifies an alarm by its project and id."""

    project: str
    alarm: str


class AlarmChanged(Event, frozen=True, array_like=True, tag="alarm"):
    """An alarm was created, changed or deleted."""

    alarm: AlarmName


class SubscriptionsChanged(Event, frozen=True, array_like=True, tag="subscriptions"):
    """The subscriptions of a project were changed."""

    project_id: str


class EndpointChanged(Event, frozen=True, array_like=True, tag="endpoint"):
    """The endpoint of a project was created, changed or deleted."""

    project_id: str


class MetersChanged(Event, frozen=True, array_like=True, tag="meters"):
    """The custom meters of a project were changed."""

    project_id: str


class OutboxFilled(Event, frozen=True, array_like=True, tag="outbox"):
    """The outbox has notifications to send."""

    content: None = None


class UsageQuestion(NamedTuple):
    """The project whose queue is asked about, and the queue for the answer."""

    project_id: str
    reply_queue: str


class UsageAsked(Event, frozen=True, array_like=True, tag="ask usage"):
    """Asks how much the feed's queue of a project holds."""

    question: UsageQuestion


class ProjectUsage(NamedTuple):
    """How much the feed's queue of a project holds."""

    project_id: str
    usage: Usage


class UsageAnswered(Event, frozen=True, array_like=True, tag="usage"):
    """The answer to ``UsageAsked``."""

    answer: ProjectUsage


class MessageStored(NamedTuple):
    """A stored message of measurements: its token, and the idempotency keys that were refused, each
    with the reason."""

    token: str
    refused: Mapping[str, str]


class MessagesStored(Event, frozen=True, array_like=True, tag="stored"):
    """The owner of a shard has stored messages that the receiver sent."""

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
    """Decode an event. Raises ValueError for anything else, and for another version's events."""
    try:
        event: AnyEvent = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    return event
