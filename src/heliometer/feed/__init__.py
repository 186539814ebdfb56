"""The feed: a project's metrics as AMQP messages, by a listener of our own or through a broker."""

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from heliometer.config import AmqpSettings
from heliometer.core.background import Supervisor
from heliometer.feed.hub import FeedHub

if TYPE_CHECKING:
    from heliometer.feed.builtin import BuiltinFeed
    from heliometer.feed.rabbitmq import RabbitFeed

Feed: TypeAlias = "BuiltinFeed | RabbitFeed"
"""What serves endpoints from this process."""


def load_feed(
    settings: AmqpSettings, queues: FeedHub, tasks: Supervisor, refusals: Counter[str]
) -> Feed:
    """What the settings name, imported only then. ``refusals`` counts what a budget refused."""
    if settings.backend == "rabbitmq":
        from heliometer.feed.rabbitmq import RabbitFeed

        return RabbitFeed(settings, queues, tasks)
    from heliometer.feed.builtin import BuiltinFeed

    return BuiltinFeed(settings, queues, tasks, refusals)
