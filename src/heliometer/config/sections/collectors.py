"""What this process collects or receives besides its API."""

from typing import Annotated

from msgspec import Meta, Struct


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
