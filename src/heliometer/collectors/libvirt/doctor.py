"""The check of the hypervisor."""

from collections.abc import Iterator
from pathlib import Path

from heliometer.collectors.libvirt.definition import read_definition
from heliometer.collectors.libvirt.owners import Owners, WrongOwners
from heliometer.config import Settings
from heliometer.core.errors import HeliometerError
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.server_status import ServerStatus


def hypervisor(settings: Settings, _: ServerStatus) -> Iterator[Finding]:
    """Whether the domains can be read, and each is owned by a project."""
    uri = settings.collector.libvirt_uri
    if not uri:
        return
    try:
        from heliometer.collectors.libvirt.hypervisor import Hypervisor
    except ImportError as error:
        advice = "pip install heliometer[libvirt]"
        yield Finding("hypervisor", FAIL, f"libvirt's Python module is missing: {error}", advice)
        return
    try:
        path = settings.collector.owners
        owners = Owners.load(Path(path) if path else None)
        source = Hypervisor(uri)
        domains = source.domains()
    except WrongOwners as error:
        yield Finding("hypervisor", FAIL, str(error), "correct collector.owners")
        return
    except HeliometerError as error:
        advice = error.details[:1].lower() + error.details[1:].rstrip(".")
        yield Finding("hypervisor", FAIL, error.message.rstrip("."), advice)
        return
    ownerless = [
        domain.uuid
        for domain in domains
        if (xml := source.xml_of(domain)) and not owners.owner(domain.uuid, read_definition(xml))
    ]
    source.close()
    found = f"{len(domains)} running domain{'s' * (len(domains) != 1)} at {uri}"
    if ownerless:
        left_out = f"{len(ownerless)} without an owner, such as {ownerless[0]}"
        yield Finding(
            "hypervisor", WARN, f"{found}; {left_out}",
            "name their projects in the file of collector.owners",
        )  # fmt: skip
    else:
        yield Finding("hypervisor", OK, found)
