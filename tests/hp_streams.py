"""A server whose demo project streams its metrics, and a consumer's view of it."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pika

from conftest import RunningServer


class Shop:
    """A server with a project, an endpoint, and a consumer's view of it."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.server = RunningServer(
            folder / "var", {"HELIOMETER_COLLECTOR_ENABLED": "false", **(environment or {})}
        )
        self.endpoint: dict[str, Any] = {}
        self.project = "demo"

    def start(self) -> Self:
        self.server.start()
        self.client = self.server.client()
        return self

    @contextmanager
    def neighbour(self) -> Iterator["Shop"]:
        """Another project on the same server, which runs on."""
        other = Shop(self.server.data_dir)
        other.server = self.server.tenant()
        other.project = other.server.project
        with other.server.client() as other.client:
            yield other

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.client.close()
        return self.server.stop(number)

    def open(self, *wanted: tuple[str, dict[str, str]]) -> None:
        """An endpoint that subscribes to something."""
        self.endpoint = self.client.post("/v1.1/endpoints").json()["endpoint"]
        for namespace, dimensions in wanted:
            self.subscribe(namespace, dimensions)

    def subscribe(self, namespace: str, dimensions: dict[str, str]) -> str:
        fields = {
            "endpoint_id": self.endpoint["id"],
            "namespace": namespace,
            "dimensions": dimensions,
        }
        reply = self.client.post("/v1.1/subscriptions", json={"subscription": fields})
        assert reply.status_code == 201, reply.text
        subscription_id: str = reply.json()["subscription"]["id"]
        return subscription_id

    def post(self, namespace: str, dimensions: dict[str, str], *values: float) -> None:
        metrics = [
            {"namespace": namespace, "dimensions": dimensions, "value": value} for value in values
        ]
        reply = self.client.post("/v1.1/metrics/aggregate", json=metrics)
        assert reply.status_code == 204, reply.text

    def connect(self, password: str | None = None) -> pika.BlockingConnection:
        # The port is another after a restart; a client would be told the same one.
        path = f"/v1.1/endpoints/{self.endpoint['id']}"
        where = pika.URLParameters(self.client.get(path).json()["endpoint"]["uri"])
        meta = self.endpoint["meta"]
        where.credentials = pika.PlainCredentials(
            meta["amqp_username"], password or meta["amqp_password"]
        )
        return pika.BlockingConnection(where)

    def take(self, number: int, *, ack: bool = True) -> list[Any]:
        """The next messages, decoded."""
        taken: list[Any] = []
        with self.connect() as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=number)
            for method, _, body in channel.consume(
                self.endpoint["meta"]["amqp_queue"], inactivity_timeout=10
            ):
                assert method is not None, f"only {len(taken)} of {number} messages came"
                taken.append(json.loads(body))
                if ack:
                    channel.basic_ack(method.delivery_tag)
                if len(taken) == number:
                    break
        return taken

    def queue(self) -> dict[str, int]:
        reply = self.client.get(f"/v1.1/endpoints/{self.endpoint['id']}")
        queue: dict[str, int] = reply.json()["endpoint"]["queue"]
        return queue
