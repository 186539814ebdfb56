"""Settings: defaults, then a TOML file, then the environment, then flags; validated before use.

Every setting has a default, a key ``[section] key`` in the TOML file and an environment variable
``HELIOMETER_SECTION_KEY``. ``sections/`` declares them; their descriptions are the reference in
``docs/settings.md``.
"""

from heliometer.config.errors import WrongSetting
from heliometer.config.loading import BOOTSTRAP_PASSWORD, from_variable, load
from heliometer.config.reference import Entry, entries
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
from heliometer.config.settings import KEY_FILE, Settings
from heliometer.config.values import ROLE_NAMES, Network, parse_address, parse_networks, parse_roles

__all__ = [
    "BOOTSTRAP_PASSWORD",
    "KEY_FILE",
    "ROLE_NAMES",
    "AlarmSettings",
    "AmqpSettings",
    "BusSettings",
    "ClusterSettings",
    "CollectorSettings",
    "EmailSettings",
    "Entry",
    "IdentitySettings",
    "LimitSettings",
    "LogSettings",
    "MetricSettings",
    "Network",
    "NotifySettings",
    "ResourceSettings",
    "SecretSettings",
    "ServerSettings",
    "Settings",
    "SmsSettings",
    "StatsdSettings",
    "WebhookSettings",
    "WrongSetting",
    "entries",
    "from_variable",
    "load",
    "parse_address",
    "parse_networks",
    "parse_roles",
]
