"""Settings: defaults, then a TOML file, then the environment, then flags; validated before use.

Every setting has a default, a key ``[section] key`` in the TOML file and an environment variable
``HELIOMETER_SECTION_KEY``. The descriptions below are the reference in ``docs/settings.md``.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from heliometer.identity.model import read_roles

PREFIX = "HELIOMETER_"
BOOTSTRAP_PASSWORD = "HELIOMETER_BOOTSTRAP_PASSWORD"
DEFAULT_PORT = 8779

Seconds = Annotated[int, Meta(ge=0)]
Network = IPv4Network | IPv6Network


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[str, Meta(description="Address and port of the HTTP listener.")] = (
        f"127.0.0.1:{DEFAULT_PORT}"
    )
    data_dir: Annotated[str, Meta(description="Folder of the embedded data.")] = "./var"
    public_url: Annotated[
        str,
        Meta(
            description="URL that clients reach the service at, for links and the service "
            "catalog; empty: what the request's Host header says."
        ),
    ] = ""
    tls_cert: Annotated[
        str, Meta(description="PEM file of the certificate chain; enables TLS.")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file of the certificate's private key.")] = ""
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Addresses and networks of the proxies in front, separated by commas, such "
            "as 127.0.0.1,10.0.0.0/8: what they say of the client in X-Forwarded-For, -Proto and "
            "-Host is believed; empty: nobody is."
        ),
    ] = ""
    drain_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=300,
            description="Seconds that an API process of several (bus.url) goes on serving after "
            "SIGTERM, with /v2/health at 503, so that proxies go elsewhere; one that is alone "
            "stops at once.",
        ),
    ] = 1


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severity logged.")
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"],
        Meta(description="Form of the log; auto is text on a terminal and JSON elsewhere."),
    ] = "auto"
    access: Annotated[
        Literal["all", "problems", "off"],
        Meta(description="Requests that are logged; problems are faults and slow requests."),
    ] = "problems"


class EmailSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Where e-mail goes: smtp://[user:password@]host[:port] (with STARTTLS "
            "where the server offers it), smtps:// (TLS from the start), or maildir:[FOLDER]; "
            "empty folder: outbox/email in the data directory.",
            pattern="^(smtps?://|maildir:)",
        ),
    ] = "maildir:"
    starttls: Annotated[
        Literal["offered", "required", "never"],
        Meta(description="Whether smtp:// goes over to TLS; with a password, it must."),
    ] = "offered"
    ca: Annotated[
        str, Meta(description="PEM file of the authorities that the relay's certificate is from.")
    ] = ""
    sender: Annotated[
        str, Meta(min_length=3, description="Sender of e-mail.", pattern="^[^\\s@]+@[^\\s@]+$")
    ] = "heliometer@localhost"


class SmsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Where SMS go: http:// or https:// of a gateway that takes JSON with to, "
            "text and id, or folder:[FOLDER]; empty folder: outbox/sms in the data directory.",
            pattern="^(https?://|folder:)",
        ),
    ] = "folder:"
    authorization: Annotated[
        str, Meta(description="Authorization header that the gateway wants, such as Bearer TOKEN.")
    ] = ""


class WebhookSettings(Struct, frozen=True, forbid_unknown_fields=True):
    allow_private: Annotated[
        bool,
        Meta(description="Whether webhooks may go to private, loopback and link-local addresses."),
    ] = False
    require_https: Annotated[
        bool, Meta(description="Whether webhooks must be https://, not http://.")
    ] = False


class NotifySettings(Struct, frozen=True, forbid_unknown_fields=True):
    retry_period: Annotated[
        int,
        Meta(ge=60, le=30 * 86_400, description="Seconds after which a notification is given up."),
    ] = 86_400
    per_address_per_hour: Annotated[
        int,
        Meta(ge=1, description="Messages an hour to one address; further ones come as a digest."),
    ] = 30
    digest_interval: Annotated[
        int, Meta(ge=10, le=3600, description="Seconds between two digests to one address.")
    ] = 600
    keep_days: Annotated[
        int, Meta(ge=1, description="Days that sent notifications and history are kept.")
    ] = 90
    apprise_schemes: Annotated[
        str,
        Meta(
            description="Kinds of apprise URLs that tenants may use, separated by commas, such as "
            "slack,pagerduty (needs heliometer[apprise])."
        ),
    ] = ""
    heartbeat_to: Annotated[
        str,
        Meta(
            description="Who is told that the service lives, as mailto:ADDRESS or a URL that is "
            "posted to; silence means trouble.",
            pattern="^($|mailto:|https?://)",
        ),
    ] = ""
    heartbeat_interval: Annotated[
        int, Meta(ge=10, le=86_400, description="Seconds between two heartbeats.")
    ] = 3600


class AmqpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    backend: Annotated[
        Literal["builtin", "rabbitmq"],
        Meta(description="What serves the feed: the built-in AMQP listener, or a RabbitMQ."),
    ] = "builtin"
    listen: Annotated[
        str,
        Meta(description="Address and port of the built-in AMQP listener; empty: it is off."),
    ] = "127.0.0.1:5672"
    url: Annotated[
        str,
        Meta(
            description="RabbitMQ and its administrator: amqp://user:password@host:5672.",
            pattern="^($|amqps?://)",
        ),
    ] = ""
    management_url: Annotated[
        str,
        Meta(
            description="RabbitMQ's management API; empty: port 15672 of the host in amqp.url.",
            pattern="^($|https?://)",
        ),
    ] = ""
    public_url: Annotated[
        str,
        Meta(
            description="What clients are told to connect to, amqp://host:port; empty: the "
            "listener's or RabbitMQ's own address.",
            pattern="^($|amqps?://)",
        ),
    ] = ""
    tls_cert: Annotated[
        str,
        Meta(description="PEM file of the AMQP listener's certificate chain; enables TLS."),
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file of that certificate's private key.")] = ""
    heartbeat: Annotated[
        int,
        Meta(
            ge=0, le=3600, description="Seconds between heartbeats, suggested to clients; 0: off."
        ),
    ] = 60
    connections: Annotated[
        int, Meta(ge=1, description="AMQP clients that may be connected at once.")
    ] = 1_000
    connections_per_project: Annotated[int, Meta(ge=1, description="… and of one project.")] = 100
    queue_messages: Annotated[
        int,
        Meta(
            ge=1000,
            description="Messages that wait for a project's consumers at most; beyond it the "
            "oldest are dropped and counted.",
        ),
    ] = 1_000_000
    queue_age: Annotated[
        int,
        Meta(
            ge=60,
            le=14 * 86_400,
            description="Seconds that they wait at most, before they are dropped and counted.",
        ),
    ] = 7 * 86_400


class ResourceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Database of projects, users and the like: "
            "postgresql://user:password@host/database, or sqlite:///FILE; empty: resources.sqlite "
            "in the data directory.",
            pattern="^($|sqlite|postgresql)",
        ),
    ] = ""
    connections: Annotated[
        int, Meta(ge=2, le=1000, description="Connections to PostgreSQL that a process keeps.")
    ] = 10


class MetricSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Store of the measurements: clickhouse://user:password@host:8123/database "
            "(its HTTP interface; clickhouses:// with TLS); empty: DuckDB in the data directory.",
            pattern="^($|clickhouses?://)",
        ),
    ] = ""
    cluster: Annotated[
        str,
        Meta(
            description="ClickHouse's name of the cluster that measurements are spread over, "
            "replicated; empty: one server.",
            pattern="^[A-Za-z0-9_-]{0,64}$",
        ),
    ] = ""
    insert_quorum: Annotated[
        int,
        Meta(
            ge=0,
            le=16,
            description="Replicas that must have measurements before they count as stored; 0: one.",
        ),
    ] = 0
    retention_days: Annotated[
        int, Meta(ge=15, le=36500, description="Days that measurements are kept.")
    ] = 45
    seal_rows: Annotated[
        int,
        Meta(
            ge=1000,
            description="Measurements of one day that are kept in arrival order before they are "
            "sealed into a sorted partition without waiting for the day to end.",
        ),
    ] = 20_000_000
    seal_after: Annotated[
        Seconds, Meta(description="Seconds after a day's end at which it is sealed.")
    ] = 900
    memory_bytes: Annotated[
        int, Meta(ge=64 << 20, description="Memory that the embedded store may use, in bytes.")
    ] = 1 << 30
    min_free_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Free space on the data directory's disk below which writes are refused "
            "(503), in bytes.",
        ),
    ] = 256 << 20


class BusSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Hand-over between processes: amqp://user:password@host:5672/vhost of a "
            "RabbitMQ; empty: one process does everything.",
            pattern="^(|inproc:|amqps?://.+)$",
        ),
    ] = ""
    partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Parts that projects are divided into; each is stored and evaluated by one "
            "process at a time. The same in all processes.",
        ),
    ] = 8
    queue_type: Annotated[
        Literal["quorum", "classic"],
        Meta(description="Kind of RabbitMQ's queues; quorum is replicated where it is a cluster."),
    ] = "quorum"
    queue_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            description="Bytes that wait in RabbitMQ for one part's process before posts get a "
            "503.",
        ),
    ] = 512 << 20
    settle_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000,
            description="Milliseconds that a post waits to be readable, once RabbitMQ has it "
            "safely; 0: it does not.",
        ),
    ] = 1000


class IdentitySettings(Struct, frozen=True, forbid_unknown_fields=True):
    backend: Annotated[
        Literal["builtin", "keystone"],
        Meta(description="Where users and projects live: here, or in OpenStack's Keystone."),
    ] = "builtin"
    keystone_url: Annotated[
        str,
        Meta(
            description="Keystone's public URL, such as https://keystone.example/v3.",
            pattern="^($|https?://)",
        ),
    ] = ""
    keystone_user: Annotated[str, Meta(description="Service user that checks tokens.")] = (
        "heliometer"
    )
    keystone_password: Annotated[str, Meta(description="Its password.")] = ""
    keystone_project: Annotated[str, Meta(description="Its project.")] = "service"
    keystone_domain: Annotated[
        str, Meta(description="Name of its domain, and of users that name none.")
    ] = "Default"
    keystone_ca: Annotated[
        str, Meta(description="PEM file of the authorities that Keystone's certificate is from.")
    ] = ""
    keystone_roles: Annotated[
        str,
        Meta(
            description="Which role here each of Keystone's roles is, as KEYSTONE=HERE separated "
            "by commas; users with none of them are refused."
        ),
    ] = "reader=reader,member=member,admin=admin,service=agent"
    region: Annotated[str, Meta(min_length=1, description="Region in the service catalog.")] = (
        "region-a.geo-1"
    )
    token_lifetime: Annotated[
        int, Meta(ge=60, le=30 * 86400, description="Seconds that a token is valid.")
    ] = 86_400


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    body_bytes: Annotated[
        int, Meta(ge=1024, description="Largest request body, inflated, in bytes (413).")
    ] = 16 << 20
    bodies_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            description="Memory for the bodies of all requests under way, in bytes (503 beyond).",
        ),
    ] = 256 << 20
    requests_per_second: Annotated[
        float,
        Meta(
            ge=0,
            description="Requests a second of one project, with a burst of twice as many (429); "
            "0: no limit.",
        ),
    ] = 20_000.0
    series_per_project: Annotated[
        int, Meta(ge=1, description="Series that one project may have (429 for more).")
    ] = 250_000
    series_per_query: Annotated[
        int, Meta(ge=1, description="Series that one query may return (400).")
    ] = 5_000
    datapoints_per_query: Annotated[
        int, Meta(ge=1, description="Datapoints that one query may return (400).")
    ] = 1_000_000
    pending_measurements: Annotated[
        int,
        Meta(
            ge=1000, description="Measurements that may wait to be stored before posts get a 503."
        ),
    ] = 2_000_000
    alarms_per_project: Annotated[
        int, Meta(ge=1, description="Alarms that one project may have (429 for more).")
    ] = 10_000
    alarm_minutes_per_project: Annotated[
        int,
        Meta(
            ge=1000,
            description="Minutes of windows that are kept in memory for one project's alarms, 32 "
            "bytes each (429 for more): long periods take many.",
        ),
    ] = 5_000_000
    methods_per_project: Annotated[
        int,
        Meta(
            ge=1,
            description="Notification methods, and as many addresses, that one project may have "
            "(429 for more).",
        ),
    ] = 1_000
    subscriptions_per_project: Annotated[
        int, Meta(ge=1, description="Subscriptions that one project may have (429 for more).")
    ] = 10_000
    custom_meters_per_project: Annotated[
        int, Meta(ge=1, description="Custom meters that one project may have (400 for more).")
    ] = 500
    active_meters_basic: Annotated[
        int,
        Meta(ge=1, description="Custom meters that may get samples in 24 hours at level basic."),
    ] = 1
    active_meters_premium: Annotated[int, Meta(ge=1, description="… and at level premium.")] = 30
    samples_per_meter_and_day: Annotated[
        int, Meta(ge=1, description="Samples of one custom meter in a UTC day (400 for more).")
    ] = 1500
    sign_in_failures: Annotated[
        int,
        Meta(
            ge=1,
            description="Wrong passwords in a row for one user from one address before further "
            "tries are slowed (429).",
        ),
    ] = 5


class AlarmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    grace: Annotated[
        int,
        Meta(
            ge=0,
            le=55,
            description="Seconds after each minute at which alarms are evaluated, for measurements "
            "that arrive late.",
        ),
    ] = 5
    at_once: Annotated[
        bool,
        Meta(
            description="Whether an alarm goes off as soon as a measurement makes it certain, "
            "without waiting for the minute."
        ),
    ] = True
    flapping_changes: Annotated[
        int,
        Meta(
            ge=2,
            le=100,
            description="State changes within the span below beyond which an alarm is flapping.",
        ),
    ] = 4
    flapping_span: Annotated[
        int, Meta(ge=60, le=86_400, description="Seconds in which those changes are counted.")
    ] = 600


class CollectorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    enabled: Annotated[
        bool, Meta(description="Whether the collector role reports this machine.")
    ] = True
    project: Annotated[
        str, Meta(description="Project, by name, that this machine is reported to.")
    ] = "demo"
    interval: Annotated[
        int,
        Meta(
            ge=0,
            description="Seconds between two collections; 0: as the project's monitoring level "
            "says (300 or 60).",
        ),
    ] = 0
    libvirt_uri: Annotated[
        str,
        Meta(
            description="Hypervisor whose virtual machines are reported to the projects that own "
            "them, such as qemu:///system; empty: none."
        ),
    ] = ""
    owners: Annotated[
        str,
        Meta(
            description="TOML file that says which project owns which virtual machine, where "
            "OpenStack Nova does not."
        ),
    ] = ""


class StatsdSettings(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[
        str,
        Meta(
            description="UDP address that StatsD's samples are taken at, such as 127.0.0.1:8125, "
            "or empty: none are. Whoever reaches it may send: it knows no passwords."
        ),
    ] = ""
    project: Annotated[str, Meta(description="Project, by name, that they go to.")] = "demo"
    namespace: Annotated[
        str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$", description="Namespace of their series.")
    ] = "statsd"
    interval: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds over which they are gathered.")
    ] = 10


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings, as one immutable value."""

    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    email: EmailSettings = EmailSettings()
    sms: SmsSettings = SmsSettings()
    webhook: WebhookSettings = WebhookSettings()
    notify: NotifySettings = NotifySettings()
    amqp: AmqpSettings = AmqpSettings()
    resources: ResourceSettings = ResourceSettings()
    metrics: MetricSettings = MetricSettings()
    bus: BusSettings = BusSettings()
    identity: IdentitySettings = IdentitySettings()
    alarms: AlarmSettings = AlarmSettings()
    limits: LimitSettings = LimitSettings()
    collector: CollectorSettings = CollectorSettings()
    statsd: StatsdSettings = StatsdSettings()

    @property
    def data_dir(self) -> Path:
        """Folder of the embedded data."""
        return Path(self.server.data_dir).expanduser()

    @property
    def resources_url(self) -> str:
        """SQLAlchemy's URL of the resource database."""
        return self.resources.url or f"sqlite+aiosqlite:///{self.data_dir / 'resources.sqlite'}"

    @property
    def clustered(self) -> bool:
        """Whether other processes have a part in this service."""
        return self.bus.url not in ("", "inproc:")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return parse_address(self.server.listen)

    @property
    def trusted_proxies(self) -> tuple[Network, ...]:
        """Whose word about the client counts."""
        return parse_networks(self.server.trusted_proxies)

    @property
    def base_url(self) -> str:
        """The URL in messages, without a final slash."""
        url = self.server.public_url or f"{self.scheme}://{self.server.listen}"
        return url.rstrip("/")

    @property
    def scheme(self) -> str:
        """``https`` where a certificate is set."""
        return "https" if self.server.tls_cert else "http"


class WrongSetting(Exception):
    """A setting cannot be used. The message is one line: which, why, and what is allowed."""


def load(
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Settings:
    """Build the settings; later sources win over earlier ones.

    ``flags`` maps ``section.key`` to text as given on the command line. Raises WrongSetting.
    """
    environment = os.environ if environment is None else environment
    layers: dict[str, dict[str, Any]] = {}
    origin: dict[str, str] = {}
    if config is not None:
        for name, value in _from_file(config):
            _put(layers, origin, name, value, f"in {config}")
    for name, variable, value in _from_environment(environment):
        _put(layers, origin, name, value, f"from {variable}")
    for name, value in (flags or {}).items():
        _put(layers, origin, name, value, "from the command line")
    settings = _convert(layers, origin)
    _check_together(settings, origin)
    return settings


def entries() -> Iterator[tuple[str, str, Any, str, str]]:
    """Every setting as (section, key, default, what is allowed, description)."""
    for section in Settings.__struct_fields__:
        kind = get_type_hints(Settings)[section]
        hints = get_type_hints(kind, include_extras=True)
        for key in kind.__struct_fields__:
            hint = hints[key]
            metas = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Meta)]
            description = next((m.description for m in metas if m.description), "")
            default = getattr(getattr(Settings(), section), key)
            yield section, key, default, _allowed(hint), description


def parse_address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` as a pair; raise ValueError otherwise."""
    parts = urlsplit(f"//{text}")
    whole = parts.netloc == text and "@" not in text
    if not whole or not parts.hostname or parts.port is None:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return parts.hostname, parts.port


def parse_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, separated by commas; raise ValueError for what is neither."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _put(
    layers: dict[str, dict[str, Any]], origin: dict[str, str], name: str, value: Any, where: str
) -> None:
    section, _, key = name.partition(".")
    known = [f"{s}.{k}" for s, k, *_ in entries()]
    if name not in known:
        close = difflib.get_close_matches(name, known, 1, 0.6)
        hint = f"did you mean {close[0]}?" if close else f"sections are {', '.join(_sections())}"
        raise WrongSetting(f"{name} ({where}) is not a setting; {hint}")
    layers.setdefault(section, {})[key] = value
    origin[name] = where


def _from_file(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongSetting(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongSetting(f"{path} is not valid TOML: {error}") from error
    for section, table in document.items():
        if not isinstance(table, dict):
            raise WrongSetting(
                f"{section} (in {path}) stands outside a section; "
                f"sections are {', '.join(_sections())}"
            )
        for key, value in table.items():
            yield f"{section}.{key}", value


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for variable in sorted(environment):
        match = re.fullmatch(rf"{PREFIX}({'|'.join(_sections()).upper()})_(\w+)", variable)
        if match:
            name = f"{match[1].lower()}.{match[2].lower()}"
            yield name, variable, environment[variable]


def _convert(layers: dict[str, dict[str, Any]], origin: dict[str, str]) -> Settings:
    # Text comes from the environment and the command line; strict=False reads numbers out of it.
    try:
        return msgspec.convert(layers, Settings, strict=False)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`")
        section, _, key = name.partition(".")
        value = layers.get(section, {}).get(key)
        allowed = next((a for s, k, _, a, _ in entries() if f"{s}.{k}" == name), "")
        raise WrongSetting(
            f"{name} ({origin.get(name, '')}): {_shown(name, value)} is not allowed: "
            f"{_masked(reason[:1].lower() + reason[1:].replace('`', ''))}; allowed: {allowed}"
        ) from error


def _check_together(settings: Settings, origin: Mapping[str, str]) -> None:
    def wrong(name: str, value: str, why: str) -> WrongSetting:
        where = origin.get(name, "default")
        return WrongSetting(
            f"{name} ({where}): {_shown(name, value)} is not allowed: {_masked(why)}"
        )

    try:
        parse_address(settings.server.listen)
    except ValueError as error:
        raise wrong(
            "server.listen", settings.server.listen, "allowed: HOST:PORT, such as 127.0.0.1:8779"
        ) from error
    url = settings.server.public_url
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc):
        raise wrong("server.public_url", url, "allowed: an http:// or https:// URL")
    try:
        parse_networks(settings.server.trusted_proxies)
    except ValueError as error:
        raise wrong(
            "server.trusted_proxies",
            settings.server.trusted_proxies,
            f"{error}; allowed: addresses and networks separated by commas, such as "
            "127.0.0.1,10.0.0.0/8",
        ) from error
    for section in ("server", "amqp"):
        for key, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
            path = getattr(getattr(settings, section), key)
            if path and not getattr(getattr(settings, section), other):
                raise wrong(f"{section}.{key}", path, f"{section}.{other} must be set with it")
            if path and not Path(path).is_file():
                raise wrong(f"{section}.{key}", path, "there is no such file")
    amqp = settings.amqp
    if amqp.listen:
        try:
            parse_address(amqp.listen)
        except ValueError as error:
            raise wrong(
                "amqp.listen", amqp.listen, "allowed: HOST:PORT, such as 127.0.0.1:5672, or empty"
            ) from error
    if settings.clustered:
        for name, needed, example in (
            ("resources.url", settings.resources.url.startswith("postgresql"), "postgresql://…"),
            ("metrics.url", bool(settings.metrics.url), "clickhouse://…"),
        ):
            if not needed:
                raise WrongSetting(
                    f"{name} ({origin.get(name, 'default')}) must be {example} when bus.url names "
                    "a RabbitMQ: an embedded database serves one process only"
                )
    if settings.identity.backend == "keystone":
        for key in ("keystone_url", "keystone_password"):
            if not getattr(settings.identity, key):
                name = f"identity.{key}"
                raise WrongSetting(
                    f"{name} ({origin.get(name, 'default')}) must be set when identity.backend is "
                    "keystone"
                )
        try:
            read_roles(settings.identity.keystone_roles)
        except ValueError as error:
            raise wrong(
                "identity.keystone_roles", settings.identity.keystone_roles, str(error)
            ) from error
        ca = settings.identity.keystone_ca
        if ca and not Path(ca).is_file():
            raise wrong("identity.keystone_ca", ca, "there is no such file")
    if settings.statsd.listen:
        try:
            parse_address(settings.statsd.listen)
        except ValueError as error:
            raise wrong(
                "statsd.listen",
                settings.statsd.listen,
                "allowed: HOST:PORT, such as 127.0.0.1:8125, or empty",
            ) from error
    if amqp.public_url and not urlsplit(amqp.public_url).hostname:
        raise wrong("amqp.public_url", amqp.public_url, "allowed: amqp://HOST:PORT")
    if amqp.backend == "rabbitmq":
        parts = urlsplit(amqp.url)
        if not parts.hostname or not parts.username:
            raise WrongSetting(
                f"amqp.url ({origin.get('amqp.url', 'default')}) must name RabbitMQ and its "
                "administrator: amqp://user:password@host:5672"
            )


_SECRETS = ("password", "authorization")
"""What the keys of settings end in that are secret as a whole."""
# Up to the last @: a password that should have been percent-encoded may have one, or a slash.
_PASSWORD = re.compile(r"(//[^:@]*:|^[^:/]*:(?!//)).*@", re.DOTALL)
_PARAMETER = re.compile(r"((?:password|passwd|secret|token)=)[^&\s'\"]*", re.IGNORECASE)


def _shown(name: str, value: Any) -> str:
    """A value as it may stand in a message, whoever reads the log."""
    return "'…'" if name.endswith(_SECRETS) and value else _masked(repr(value))


def _masked(text: str) -> str:
    """The text without the password of a URL in it, or of what was meant to be one."""
    return _PARAMETER.sub(r"\1…", _PASSWORD.sub(r"\1…@", text))


_PATTERNS = {
    "^(|inproc:|amqps?://.+)$": "empty, or a URL that starts with amqp:// or amqps://",
    "^($|sqlite|postgresql)": "empty, or a URL that starts with postgresql:// or sqlite:",
    "^($|clickhouses?://)": "empty, or a URL that starts with clickhouse:// or clickhouses://",
    "^[A-Za-z0-9_-]{0,64}$": "empty, or up to 64 of the characters a-z A-Z 0-9 - _",
    "^(smtps?://|maildir:)": "a URL that starts with smtp://, smtps:// or maildir:",
    "^(https?://|folder:)": "a URL that starts with http://, https:// or folder:",
    "^($|mailto:|https?://)": "empty, or a URL that starts with mailto:, http:// or https://",
    "^($|amqps?://)": "empty, or a URL that starts with amqp:// or amqps://",
    "^($|https?://)": "empty, or a URL that starts with http:// or https://",
    "^[^\\s@]+@[^\\s@]+$": "an e-mail address",
    "^[A-Za-z0-9._-]{1,64}$": "1 to 64 of the characters a-z A-Z 0-9 . - _",
}
"""What the patterns of settings mean, in words."""


def _sections() -> tuple[str, ...]:
    return Settings.__struct_fields__


def _allowed(hint: Any) -> str:
    """What a setting may be, in words."""
    base, metas = hint, []
    while get_origin(base) is Annotated:
        metas += [m for m in base.__metadata__ if isinstance(m, Meta)]
        base = get_args(base)[0]
    if get_origin(base) is Literal:
        return " or ".join(get_args(base))
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[base]
    least = next((m.ge for m in metas if m.ge is not None), None)
    most = next((m.le for m in metas if m.le is not None), None)
    pattern = next((m.pattern for m in metas if m.pattern), None)
    if least is not None:
        words += f" from {least}"
    if most is not None:
        words += f" to {most}"
    if pattern:
        words = _PATTERNS[pattern]
    return words
