"""All settings together, and what follows from several of them."""

from pathlib import Path

from msgspec import Struct

from heliometer.config.sections.alarms import AlarmSettings
from heliometer.config.sections.cluster import BusSettings, ClusterSettings
from heliometer.config.sections.collectors import CollectorSettings, StatsdSettings
from heliometer.config.sections.feed import AmqpSettings
from heliometer.config.sections.identity import IdentitySettings
from heliometer.config.sections.limits import LimitSettings
from heliometer.config.sections.notifications import (
    EmailSettings,
    NotifySettings,
    SmsSettings,
    WebhookSettings,
)
from heliometer.config.sections.secrets import SecretSettings
from heliometer.config.sections.server import LogSettings, ServerSettings
from heliometer.config.sections.storage import MetricSettings, ResourceSettings
from heliometer.config.values import Network, parse_address, parse_expected, parse_networks

KEY_FILE = "secrets.key"
"""In the data directory, unless ``secrets.key_file`` names another file."""


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
    cluster: ClusterSettings = ClusterSettings()
    identity: IdentitySettings = IdentitySettings()
    secrets: SecretSettings = SecretSettings()
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
    def secret_key_file(self) -> Path:
        """File of the keys by which secrets are encrypted."""
        if self.secrets.key_file:
            return Path(self.secrets.key_file).expanduser()
        return self.data_dir / KEY_FILE

    @property
    def clustered(self) -> bool:
        """Whether other processes have a part in this service."""
        return self.bus.url not in ("", "inproc:")

    @property
    def expected_processes(self) -> dict[str, int]:
        """How many processes should have each role that is named."""
        return parse_expected(self.cluster.expected)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return parse_address(self.server.listen)

    @property
    def trusted_proxies(self) -> tuple[Network, ...]:
        """The proxies whose headers about the client are trusted."""
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
