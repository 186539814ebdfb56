"""Settings: where they come from, which wins, and what a wrong one says."""

import re
from pathlib import Path
from typing import Any

import pytest

from heliometer import config
from heliometer.config import Settings, WrongSetting


def load(
    toml: str | bytes | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[str, str] | None = None,
    *,
    folder: Path | None = None,
) -> Settings:
    path = None
    if toml is not None:
        assert folder is not None
        path = folder / "heliometer.toml"
        path.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    return config.load(path, environment or {}, flags)


def complaint(*arguments: Any, **more: Any) -> str:
    with pytest.raises(WrongSetting) as wrong:
        load(*arguments, **more)
    text = str(wrong.value)
    assert len(text.splitlines()) == 1, "the complaint is one line"
    return text


def test_without_anything_every_setting_has_its_default() -> None:
    assert load() == Settings()
    for section, key, default, *_ in config.entries():
        assert getattr(getattr(Settings(), section), key) == default


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    toml = '[server]\nlisten = "127.0.0.1:1"\ndata_dir = "/file"\npublic_url = "http://file"\n'
    environment = {"HELIOMETER_SERVER_LISTEN": "127.0.0.1:2", "HELIOMETER_SERVER_DATA_DIR": "/env"}
    server = load(toml, environment, {"server.listen": "127.0.0.1:3"}, folder=tmp_path).server
    assert (server.listen, server.data_dir, server.public_url) == (
        "127.0.0.1:3", "/env", "http://file",
    )  # fmt: skip


SAMPLES: dict[str, tuple[str, Any]] = {
    "alarms.grace": ("9", 9),
    "alarms.at_once": ("false", False),
    "alarms.flapping_changes": ("7", 7),
    "cluster.expected": ("api=2,evaluator=2", "api=2,evaluator=2"),
    "email.url": ("smtp://relay:25", "smtp://relay:25"),
    "email.sender": ("monitoring@shop.se", "monitoring@shop.se"),
    "email.starttls": ("required", "required"),
    "sms.url": ("https://gateway/sms", "https://gateway/sms"),
    "webhook.allow_private": ("true", True),
    "webhook.require_https": ("true", True),
    "notify.digest_interval": ("60", 60),
    "notify.heartbeat_to": ("mailto:ops@shop.se", "mailto:ops@shop.se"),
    "server.listen": ("0.0.0.0:80", "0.0.0.0:80"),
    "server.drain_seconds": ("30", 30),
    "server.trusted_proxies": ("127.0.0.1, 10.0.0.0/8,::1", "127.0.0.1, 10.0.0.0/8,::1"),
    "server.public_url": ("https://m.example.org/", "https://m.example.org/"),
    "resources.url": ("sqlite+aiosqlite:////x", "sqlite+aiosqlite:////x"),
    "resources.connections": ("25", 25),
    "metrics.url": ("clickhouse://h:8123/db", "clickhouse://h:8123/db"),
    "metrics.cluster": ("two_shards", "two_shards"),
    "metrics.insert_quorum": ("2", 2),
    "metrics.retention_days": ("20", 20),
    "metrics.memory_bytes": ("100000000", 100_000_000),
    "limits.requests_per_second": ("2.5", 2.5),
    "collector.enabled": ("false", False),
    "email.allow_local": ("true", True),
    "bus.url": ("inproc:", "inproc:"),
    "bus.partitions": ("16", 16),
    "bus.queue_type": ("classic", "classic"),
    "bus.queue_bytes": ("2000000", 2_000_000),
    "log.level": ("debug", "debug"),
    "log.format": ("json", "json"),
    "log.access": ("all", "all"),
    "amqp.backend": ("builtin", "builtin"),
    "amqp.listen": ("[::1]:0", "[::1]:0"),
    "amqp.url": ("amqp://u:p@h", "amqp://u:p@h"),
    "amqp.management_url": ("http://h:15672", "http://h:15672"),
    "amqp.public_url": ("amqps://h:5671", "amqps://h:5671"),
    "amqp.heartbeat": ("0", 0),
    "statsd.listen": ("127.0.0.1:0", "127.0.0.1:0"),
    "statsd.interval": ("60", 60),
    "identity.backend": ("builtin", "builtin"),
    "identity.keystone_url": ("https://k.example.org/v3", "https://k.example.org/v3"),
}
ENTRIES = [(section, key, default) for section, key, default, *_ in config.entries()]


@pytest.mark.parametrize(("section", "key", "default"), ENTRIES, ids=lambda v: str(v)[:20])
def test_every_setting_can_be_given_in_the_environment(
    section: str, key: str, default: Any, tmp_path: Path
) -> None:
    text, value = SAMPLES.get(f"{section}.{key}", ("7777", type(default)(7777)))
    if key in ("tls_cert", "tls_key"):
        text = value = str(tmp_path / key)
        Path(text).touch()
    environment = {f"HELIOMETER_{section}_{key}".upper(): text}
    if key in ("tls_cert", "tls_key"):
        environment |= {
            f"HELIOMETER_{section}_{other}".upper(): str(tmp_path / key)
            for other in ("tls_cert", "tls_key")
            if other != key
        }
    assert getattr(getattr(load(environment=environment), section), key) == value


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"HELIOMETER_METRICS_RETENTION_DAYS": "1"},
            "metrics.retention_days (from HELIOMETER_METRICS_RETENTION_DAYS): '1' is not allowed: "
            "expected int >= 15; allowed: a whole number from 15 to 36500",
        ),
        (
            {"HELIOMETER_METRICS_RETENTION_DAYS": "many\nlines"},
            "metrics.retention_days (from HELIOMETER_METRICS_RETENTION_DAYS): 'many\\nlines' is "
            "not allowed: expected int, got str; allowed: a whole number from 15 to 36500",
        ),
        (
            {"HELIOMETER_COLLECTOR_ENABLED": "perhaps"},
            "collector.enabled (from HELIOMETER_COLLECTOR_ENABLED): 'perhaps' is not allowed: "
            "expected bool, got str; allowed: true or false",
        ),
        (
            {"HELIOMETER_LOG_LEVEL": "loud"},
            "log.level (from HELIOMETER_LOG_LEVEL): 'loud' is not allowed: invalid enum value "
            "'loud'; allowed: debug or info or warning or error",
        ),
        (
            {"HELIOMETER_SERVER_LISTEN": "8779"},
            "server.listen (from HELIOMETER_SERVER_LISTEN): '8779' is not allowed: allowed: "
            "HOST:PORT, such as 127.0.0.1:8779",
        ),
        (
            {"HELIOMETER_LIMITS_BODY_BITES": "1"},
            "limits.body_bites (from HELIOMETER_LIMITS_BODY_BITES) is not a setting; did you mean "
            "limits.body_bytes?",
        ),
        (
            {"HELIOMETER_METRICS_URL": "influx://x"},
            "metrics.url (from HELIOMETER_METRICS_URL): 'influx://x' is not allowed: expected str "
            "matching regex '^($|clickhouses?://)'; allowed: empty, or a URL that starts with "
            "clickhouse:// or clickhouses://",
        ),
        (
            {"HELIOMETER_LIMITS_REQUESTS_PER_SECOND": "nan"},
            "limits.requests_per_second (from HELIOMETER_LIMITS_REQUESTS_PER_SECOND): 'nan' is "
            "not allowed: expected float >= 0.0; allowed: a number from 0",
        ),
    ],
)
def test_a_wrong_value_is_one_line_that_says_which_why_and_what_is_allowed(
    environment: dict[str, str], expected: str
) -> None:
    assert complaint(None, environment) == expected


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[metrics]\nretention_days = 'x'", r"metrics\.retention_days \(in .*\): 'x' is not allow"),
        ("[metrics]\nretention_days = 1.5", r"metrics\.retention_days \(in .*\): 1.5 is not allow"),
        ("[metrics]\nretention_days = [1]", r"metrics\.retention_days .*expected int, got array"),
        ("[server]\nlisten = 8779", r"server\.listen .*expected str, got int; allowed: text"),
        ("[server]\nlissten = ''", r"server\.lissten .*not a setting; did you mean server\.listen"),
        ("[server.tls]\ncert = ''", r"server\.tls .*is not a setting; did you mean server\.tls_"),
        ("[sever]\nlisten = ''", r"sever\.listen .*is not a setting; did you mean server\.listen"),
        ("[wholly]\nunknown = 1", r"wholly\.unknown .*is not a setting; sections are server, log"),
        ("listen = ''", r"listen \(in .*\) stands outside a section; sections are server, log"),
        ("[server", r"heliometer\.toml is not valid TOML: Expected"),
        ("[a]\nx = 1\n[a]\n", r"is not valid TOML"),
        (b"[server]\nlisten = '\xff'", r"is not valid TOML"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, toml: str | bytes, expected: str) -> None:
    text = complaint(toml, folder=tmp_path)
    assert re.search(expected, text), text


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(WrongSetting, match=r"cannot read .*missing\.toml: No such file"):
        config.load(tmp_path / "missing.toml", {})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HELIOMETER_SERVER_PUBLIC_URL": "example.org"}, "allowed: an http:// or https:// URL"),
        ({"HELIOMETER_SERVER_PUBLIC_URL": "ftp://x"}, "allowed: an http:// or https:// URL"),
        ({"HELIOMETER_SERVER_TLS_CERT": "/x"}, "server.tls_key must be set with it"),
        ({"HELIOMETER_SERVER_TLS_KEY": "/x"}, "server.tls_cert must be set with it"),
        (
            {"HELIOMETER_SERVER_TLS_CERT": "/none", "HELIOMETER_SERVER_TLS_KEY": "/none"},
            "there is no such file",
        ),
    ],
)
def test_settings_that_belong_together_are_checked_together(
    environment: dict[str, str], expected: str
) -> None:
    text = complaint(None, environment)
    assert text.startswith("server.")
    assert text.endswith(expected)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("RESOURCES_URL", "mysql://user:hush@host/db", "'mysql://user:…@host/db'"),
        ("RESOURCES_URL", "mysql://user:hu/s:h@hush@host/db", "'mysql://user:…@host/db'"),
        ("RESOURCES_URL", "mysql://user:hush\nhush@host", "'mysql://user:…@host'"),
        ("RESOURCES_URL", "user:hush@host/db", "'user:…@host/db'"),
        ("BUS_URL", "redis://:hush@host", "'redis://:…@host'"),
        (
            "METRICS_URL",
            "http://host/?user=a&password=hush&b=1",
            "'http://host/?user=a&password=…&b",
        ),
        ("AMQP_BACKEND", "amqp://user:hush@host", "invalid enum value 'amqp://user:…@host'"),
        ("SERVER_LISTEN", "http://user:hush@host:80", "'http://user:…@host:80'"),
        ("SERVER_PUBLIC_URL", "ftp://user:hush@host", "'ftp://user:…@host'"),
        ("AMQP_PUBLIC_URL", "amqp://user:hush@", "'amqp://user:…@'"),
        ("IDENTITY_KEYSTONE_ROLES", "a=x://user:hush@host", "'x://user:…@host' is no role"),
        ("EMAIL_URL", "stmp://relay:25", "'stmp://relay:25'"),
    ],
)
def test_a_complaint_shows_no_password(name: str, value: str, shown: str) -> None:
    keystone = {"BACKEND": "keystone", "KEYSTONE_URL": "http://k", "KEYSTONE_PASSWORD": "p"}
    environment = {f"HELIOMETER_IDENTITY_{key}": text for key, text in keystone.items()}
    text = complaint(None, {**environment, f"HELIOMETER_{name}": value})
    assert shown in text
    assert "hush" not in text


def test_a_complaint_shows_nothing_of_what_is_secret_as_a_whole(tmp_path: Path) -> None:
    text = complaint("[identity]\nkeystone_password = 12345", folder=tmp_path)
    assert text.startswith("identity.keystone_password (in ")
    assert "12345" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10.0.0.1/8", "10.0.0.1/8 has host bits set"),
        ("127.0.0.1,proxy", "'proxy' does not appear to be an IPv4 or IPv6 network"),
        ("1.2.3.4:80", "'1.2.3.4:80' does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_proxies_are_addresses_and_networks(value: str, expected: str) -> None:
    text = complaint(None, {"HELIOMETER_SERVER_TRUSTED_PROXIES": value})
    assert expected in text
    assert text.endswith("allowed: addresses and networks separated by commas, such as "
                         "127.0.0.1,10.0.0.0/8")  # fmt: skip


def test_variables_of_others_are_left_alone() -> None:
    environment = {"HELIOMETER_BOOTSTRAP_PASSWORD": "x", "HELIOMETER": "", "SERVER_LISTEN": "x"}
    assert load(environment=environment) == Settings()


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("127.0.0.1:8779", ("127.0.0.1", 8779)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_addresses(text: str, pair: tuple[str, int]) -> None:
    assert config.parse_address(text) == pair


@pytest.mark.parametrize(
    "text",
    ["", "host", ":80", "host:", "host:x", "host:65536", "host:-1", "u@host:80", "host:80/x",
     "host:80?x", "host:80#x", "http://host:80", "::1:80"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        config.parse_address(text)


SECRETS = (
    "amqp.url", "bus.url", "email.url", "identity.keystone_password", "metrics.url",
    "resources.url", "sms.authorization", "sms.url",
)  # fmt: skip
"""The settings that may have a password."""


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_can_be_in_a_file(tmp_path: Path, name: str) -> None:
    value = {
        "amqp.url": "amqp://u:pass@host", "bus.url": "", "email.url": "smtp://u:pass@host",
        "metrics.url": "", "resources.url": "postgresql://u:pass@host/db",
        "sms.url": "https://u:pass@host",
    }.get(name, "pass")  # fmt: skip
    file = tmp_path / "secret"
    file.write_text(f"{value}\n")
    section, _, key = name.partition(".")
    loaded = load(environment={f"HELIOMETER_{section.upper()}_{key.upper()}_FILE": str(file)})
    assert getattr(getattr(loaded, section), key) == value


def test_a_file_with_a_setting_must_be_there_and_be_the_only_source(tmp_path: Path) -> None:
    name, there, absent = "HELIOMETER_EMAIL_URL", tmp_path / "there", tmp_path / "absent"
    there.write_text("smtp://u:pass@host")
    assert complaint(environment={f"{name}_FILE": str(absent)}) == (
        f"{name}_FILE: cannot read {absent}: No such file or directory"
    )
    both = {name: "smtp://other", f"{name}_FILE": str(there)}
    assert complaint(environment=both) == f"{name} and {name}_FILE are both set; unset one of them"
    there.write_bytes(b"\xff")
    assert "is not UTF-8" in complaint(environment={f"{name}_FILE": str(there)})
    there.write_bytes(b"x" * 100_000)
    assert "is larger than" in complaint(environment={f"{name}_FILE": str(there)})
    there.write_text("http://u:secret@host")
    said = complaint(environment={f"{name}_FILE": str(there)})
    assert "email.url" in said
    assert f"{name}_FILE" in said
    assert "secret" not in said
    assert "is not a setting" in complaint(environment={"HELIOMETER_EMAIL_NONE_FILE": str(there)})


def test_how_many_processes_there_should_be() -> None:
    def expected(text: str) -> dict[str, int]:
        return load(environment={"HELIOMETER_CLUSTER_EXPECTED": text}).expected_processes

    assert expected("") == {}
    assert expected(" evaluator = 2, api=3,collector=0") == {
        "evaluator": 2, "api": 3, "collector": 0,
    }  # fmt: skip
    for wrong in ("evaluators=2", "evaluator", "evaluator=two", "evaluator=-1", "api=1,api=2",
                  "api=99999999999999999999", "api=²"):  # fmt: skip
        assert "cluster.expected" in complaint(environment={"HELIOMETER_CLUSTER_EXPECTED": wrong})
