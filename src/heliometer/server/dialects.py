"""The dialects that are served. A new one is its folder in ``api/`` and a line here."""

from collections.abc import Callable

from heliometer import console
from heliometer.api import telemetry
from heliometer.api.hp import v1_0, v1_1
from heliometer.api.keystone import v2_0, v3
from heliometer.api.keystone import versions as identity_versions
from heliometer.api.push import influx, otlp, prometheus
from heliometer.api.services import Services
from heliometer.http.operation import Dialect

DIALECTS: tuple[Callable[[Services], Dialect], ...] = (
    v1_1.dialect,
    v1_0.dialect,
    telemetry.dialect,
    prometheus.dialect,
    otlp.dialect,
    influx.dialect,
    identity_versions.dialect,
    v2_0.dialect,
    v3.dialect,
    console.dialect,
)
"""In the order of the OpenAPI description and of ``/docs``."""
