"""The process itself: where it listens, and what it logs."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[str, Meta(description="Address and port of the HTTP listener.")] = (
        "127.0.0.1:8779"
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
