"""What this process collects or receives besides its API."""

from typing import Annotated

from msgspec import Meta, Struct


class CollectorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    enabled: Annotated[
        bool, Meta(description="Whether the collector role reports the machine it runs on.")
    ] = True
    project: Annotated[
        str, Meta(description="Name of the project that the machine is reported to.")
    ] = "demo"
    interval: Annotated[
        int,
        Meta(
            ge=0,
            description="Seconds between two collections; 0: according to the project's "
            "monitoring level (300 or 60).",
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
            description="TOML file that maps virtual machines to the projects that own them, for "
            "those that OpenStack Nova does not manage."
        ),
    ] = ""


class StatsdSettings(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[
        str,
        Meta(
            description="UDP address on which StatsD samples are received, such as "
            "127.0.0.1:8125; empty: off. There is no authentication: whoever can "
            "reach the address may send."
        ),
    ] = ""
    project: Annotated[
        str, Meta(description="Name of the project that StatsD samples belong to.")
    ] = "demo"
    namespace: Annotated[
        str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$", description="Namespace of their series.")
    ] = "statsd"
    interval: Annotated[
        int,
        Meta(
            ge=1,
            le=3600,
            description="Seconds over which samples are collected before they are stored.",
        ),
    ] = 10
