"""A consumer that stands still while messages come: what is kept of them is bounded, each is
accounted for, and other projects get theirs."""

import time
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from amqp_feed import PASSWORD, SHOP, STOCK, AmqpFeed
from effort import effort
from eventually import eventually
from soak.recording import Measured

LIMIT = 1000
IN_FLIGHT = 50
SECONDS = effort(0, 3600)
AT_LEAST = 3 * LIMIT
EACH = 100


def channel(feed: AmqpFeed, project_id: str) -> BlockingChannel:
    credentials = pika.PlainCredentials(f"mon-{project_id}", PASSWORD)
    parameters = pika.ConnectionParameters("127.0.0.1", feed.port, project_id, credentials)
    opened: BlockingChannel = pika.BlockingConnection(parameters).channel()
    return opened


def read(neighbour: BlockingChannel, number: int) -> None:
    """Its next messages, each at once."""
    for method, _, _ in neighbour.consume(f"metrics-{STOCK}", inactivity_timeout=60):
        assert method is not None, f"{number} more should come"
        neighbour.basic_ack(method.delivery_tag)
        number -= 1
        if not number:
            return


@pytest.mark.reliability(11)
def test_each_message_is_delivered_dropped_or_queued(tmp_path: Path, measured: Measured) -> None:
    feed = AmqpFeed(tmp_path, limit=LIMIT).start()
    try:
        stalled = channel(feed, SHOP)
        stalled.basic_qos(prefetch_count=IN_FLIGHT)
        held: list[int] = []
        stalled.basic_consume(f"metrics-{SHOP}", lambda *got: held.append(got[1].delivery_tag))
        neighbour = channel(feed, STOCK)
        until = time.monotonic() + SECONDS
        posted = 0
        while posted < AT_LEAST or time.monotonic() < until:
            feed.post(EACH, series=1)
            feed.post(EACH, series=2)
            posted += EACH
            read(neighbour, EACH)
            stalled.connection.process_data_events(0)
            usage = feed.usage()
            assert usage.queued <= LIMIT + IN_FLIGHT
            assert usage.published == usage.delivered + usage.dropped + usage.queued == posted
        assert feed.wait(STOCK, queued=0).dropped == 0
        # It goes on, with what it held and the newest that are left.
        left = feed.usage().queued
        for tag in held:
            stalled.basic_ack(tag)
        taken = len(held)

        def all_taken() -> bool:
            nonlocal taken
            stalled.connection.process_data_events(0.05)
            for tag in held[taken:]:
                stalled.basic_ack(tag)
            taken = len(held)
            return taken == left

        eventually(all_taken, why=lambda: (left, taken, feed.usage()))
        usage = feed.wait(queued=0)
        assert usage.delivered + usage.dropped == usage.published == posted
        measured(
            published=posted, delivered=usage.delivered, dropped=usage.dropped, unaccounted_for=0
        )
    finally:
        feed.stop()
