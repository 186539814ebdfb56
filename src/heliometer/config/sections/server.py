"""The process itself: where it listens, and what it logs."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[
        str, Meta(description="Address and port on which the HTTP server listens.")
    ] = "127.0.0.1:8779"
    data_dir: Annotated[str, Meta(description="Folder for the embedded data.")] = "./var"
    public_url: Annotated[
        str,
        Meta(
            description="URL at which clients reach the service, used in links and the service "
            "catalog; empty: taken from the request's Host header."
        ),
    ] = ""
    tls_cert: Annotated[
        str, Meta(description="PEM file of the certificate chain; enables TLS.")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file of the certificate's private key.")] = ""
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Addresses and networks of reverse proxies, separated by commas, such as "
            "127.0.0.1,10.0.0.0/8; X-Forwarded-For, -Proto and -Host are only trusted "
            "when they come from these; empty: from nobody."
        ),
    ] = ""
    hsts_seconds: Annotated[
        int,
        Meta(
            ge=0,
            description="Seconds for which browsers that reached the service through TLS use "
            "nothing else for this host (Strict-Transport-Security); 0: they are not told.",
        ),
    ] = 31_536_000
    drain_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=300,
            description="Seconds for which an API process of a cluster (bus.url) keeps serving "
            "after SIGTERM, with /v2/health at 503, so that proxies can switch to "
            "another one; a single process stops at once.",
        ),
    ] = 1


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Lowest severity that is logged."),
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"],
        Meta(description="Format of the log; auto means text on a terminal and JSON elsewhere."),
    ] = "auto"
    access: Annotated[
        Literal["all", "problems", "off"],
        Meta(description="Which requests are logged; problems means faults and slow requests."),
    ] = "problems"
