"""The doctor on what is taken in from outside."""

import socket

from heliometer.collectors.libvirt.doctor import hypervisor
from heliometer.config import Settings, StatsdSettings
from heliometer.core.finding import FAIL, OK, WARN
from heliometer.core.server_status import ServerStatus
from heliometer.statsd.doctor import statsd

NOBODY = ServerStatus("", has_data_dir=False)


def levels(listen: str) -> list[str]:
    settings = Settings(statsd=StatsdSettings(listen=listen))
    return [finding.level for finding in statsd(settings, NOBODY)]


def test_statsds_address() -> None:
    assert levels("") == []
    assert levels("127.0.0.1:0") == [OK]
    assert levels("0.0.0.0:0") == [WARN]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        assert levels(f"127.0.0.1:{other.getsockname()[1]}") == [FAIL]


def test_no_hypervisor_is_nothing_to_say() -> None:
    assert list(hypervisor(Settings(), NOBODY)) == []
