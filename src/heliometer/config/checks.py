"""What a single field's type cannot say: forms of text, files that must exist, settings that need
each other."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from heliometer.config.errors import WrongSetting
from heliometer.config.redaction import redacted, redacted_value
from heliometer.config.settings import Settings
from heliometer.config.values import parse_address, parse_expected, parse_networks, parse_roles


def check_together(settings: Settings, origin: Mapping[str, str]) -> None:
    """Raise WrongSetting for the first problem; ``origin`` says where each setting came from."""
    checks = _Checks(settings, origin)
    checks.listener("server.listen", settings.server.listen, "HOST:PORT, such as 127.0.0.1:8779")
    checks.server_urls()
    checks.certificate("server", settings.server.tls_cert, settings.server.tls_key)
    checks.certificate("amqp", settings.amqp.tls_cert, settings.amqp.tls_key)
    if settings.amqp.listen:
        checks.listener(
            "amqp.listen", settings.amqp.listen, "HOST:PORT, such as 127.0.0.1:5672, or empty"
        )
    checks.expected()
    if settings.clustered:
        checks.cluster()
    if settings.identity.backend == "keystone":
        checks.keystone()
    if settings.statsd.listen:
        checks.listener(
            "statsd.listen", settings.statsd.listen, "HOST:PORT, such as 127.0.0.1:8125, or empty"
        )
    checks.feed()


class _Checks:
    def __init__(self, settings: Settings, origin: Mapping[str, str]) -> None:
        self._settings = settings
        self._origin = origin

    def listener(self, name: str, value: str, allowed: str) -> None:
        try:
            parse_address(value)
        except ValueError as error:
            raise self._wrong(name, value, f"allowed: {allowed}") from error

    def certificate(self, section: str, cert: str, key: str) -> None:
        for name, path, other, other_path in (
            ("tls_cert", cert, "tls_key", key),
            ("tls_key", key, "tls_cert", cert),
        ):
            if path and not other_path:
                raise self._wrong(
                    f"{section}.{name}", path, f"{section}.{other} must be set with it"
                )
            self._file(f"{section}.{name}", path)

    def server_urls(self) -> None:
        server = self._settings.server
        parts = urlsplit(server.public_url)
        if server.public_url and (parts.scheme not in ("http", "https") or not parts.netloc):
            raise self._wrong(
                "server.public_url", server.public_url, "allowed: an http:// or https:// URL"
            )
        try:
            parse_networks(server.trusted_proxies)
        except ValueError as error:
            raise self._wrong(
                "server.trusted_proxies",
                server.trusted_proxies,
                f"{error}; allowed: addresses and networks separated by commas, such as "
                "127.0.0.1,10.0.0.0/8",
            ) from error

    def expected(self) -> None:
        value = self._settings.cluster.expected
        try:
            parse_expected(value)
        except ValueError as error:
            raise self._wrong("cluster.expected", value, str(error)) from error

    def cluster(self) -> None:
        settings = self._settings
        for name, good, example in (
            ("resources.url", settings.resources.url.startswith("postgresql"), "postgresql://…"),
            ("metrics.url", bool(settings.metrics.url), "clickhouse://…"),
        ):
            if not good:
                raise self._incomplete(
                    name,
                    f"must be {example} when bus.url names a RabbitMQ: an embedded database serves "
                    "one process only",
                )

    def keystone(self) -> None:
        identity = self._settings.identity
        for name, value in (
            ("identity.keystone_url", identity.keystone_url),
            ("identity.keystone_password", identity.keystone_password),
        ):
            if not value:
                raise self._incomplete(name, "must be set when identity.backend is keystone")
        try:
            parse_roles(identity.keystone_roles)
        except ValueError as error:
            raise self._wrong(
                "identity.keystone_roles", identity.keystone_roles, str(error)
            ) from error
        self._file("identity.keystone_ca", identity.keystone_ca)

    def feed(self) -> None:
        amqp = self._settings.amqp
        if amqp.public_url and not urlsplit(amqp.public_url).hostname:
            raise self._wrong("amqp.public_url", amqp.public_url, "allowed: amqp://HOST:PORT")
        if amqp.backend == "rabbitmq":
            parts = urlsplit(amqp.url)
            if not parts.hostname or not parts.username:
                raise self._incomplete(
                    "amqp.url",
                    "must name RabbitMQ and its administrator: amqp://user:password@host:5672",
                )

    def _file(self, name: str, path: str) -> None:
        if path and not Path(path).is_file():
            raise self._wrong(name, path, "there is no such file")

    def _wrong(self, name: str, value: str, why: str) -> WrongSetting:
        where = self._origin.get(name, "default")
        return WrongSetting(
            f"{name} ({where}): {redacted_value(name, value)} is not allowed: {redacted(why)}"
        )

    def _incomplete(self, name: str, need: str) -> WrongSetting:
        return WrongSetting(f"{name} ({self._origin.get(name, 'default')}) {need}")
