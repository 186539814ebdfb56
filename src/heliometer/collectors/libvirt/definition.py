"""A domain's XML definition: its owner, and the names of its devices inside the guest."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

NOVA = re.compile(r"\{http://openstack\.org/xmlns/libvirt/nova/[\d.]+\}(\w+)")
"""Elements that OpenStack Nova writes into the metadata, in all of its versions."""
_ALIAS = re.compile(r"net([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class Definition:
    """The properties of a domain that its statistics need."""

    name: str
    project: str = ""
    """Id of the project that owns it, according to Nova; empty if Nova does not say."""
    disks: Mapping[str, str] = field(default_factory=dict)
    """Name inside (``vda``) → its backing: a file, a block device, a network volume."""
    interfaces: Mapping[str, str] = field(default_factory=dict)
    """Name on the host (``tap…``) → name inside (``eth0``), as far as it can be known outside."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Name inside (``eth0``) → MAC address."""


def read_definition(xml: str) -> Definition:
    """Parse libvirt's XML of a domain. Raises ValueError for anything else."""
    try:
        # libvirt wrote it: it has no entities, and texts of tenants are escaped.
        root = ET.fromstring(xml)  # noqa: S314
    except ET.ParseError as error:
        raise ValueError(f"a domain's XML cannot be read: {error}") from error
    if root.tag != "domain":
        raise ValueError(f"a domain's XML begins with <{root.tag}>")
    nova = {found[1]: element for element in root.iter() if (found := NOVA.match(element.tag))}
    project = nova.get("project")
    interfaces = dict(_interfaces(root))
    return Definition(
        name=root.findtext("name", ""),
        project=(project.get("uuid") or "") if project is not None else "",
        disks=dict(_disks(root)),
        interfaces={host: inside for host, (inside, _) in interfaces.items() if host},
        addresses=dict(interfaces.values()),
    )


def _disks(root: ET.Element) -> Iterator[tuple[str, str]]:
    for disk in root.iterfind("./devices/disk"):
        if disk.get("device", "disk") not in ("disk", "lun"):
            continue  # drives for removable media
        target, source = disk.find("target"), disk.find("source")
        if target is not None and target.get("dev"):
            behind = {} if source is None else source.attrib
            # The index counts opened images, and does not identify them.
            text = ",".join(f"{k}={v}" for k, v in sorted(behind.items()) if k != "index")
            serial = disk.findtext("serial", "")
            yield target.get("dev", ""), serial or text


def _interfaces(root: ET.Element) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name on the host → name inside, MAC address.

    The guest names its interfaces by itself; the first one is ``eth0`` by long custom. The alias
    keeps its number when another interface is unplugged, the position would not.
    """
    found = list(root.iterfind("./devices/interface"))
    aliases = [each.find("alias") for each in found]
    numbers = [
        int(match[1])
        if alias is not None and (match := _ALIAS.fullmatch(alias.get("name", "")))
        else None
        for alias in aliases
    ]
    free = (n for n in range(len(found) * 2) if n not in numbers)
    for interface, number in zip(found, numbers, strict=True):
        target, mac = interface.find("target"), interface.find("mac")
        inside = f"eth{next(free) if number is None else number}"
        host = target.get("dev", "") if target is not None else ""
        yield host, (inside, mac.get("address", "") if mac is not None else "")
