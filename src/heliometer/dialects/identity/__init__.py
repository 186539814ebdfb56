"""Identity, compatible with Keystone's v2.0 and v3 as far as signing in needs it."""

from heliometer.config import Settings
from heliometer.dialects.identity import v2_0, v3, versions
from heliometer.dialects.identity.faults import render_fault
from heliometer.http.operation import Dialect
from heliometer.identity.builtin import BuiltinIdentity


def dialects(identity: BuiltinIdentity, settings: Settings) -> tuple[Dialect, ...]:
    """Both versions, and the list of them at ``/identity``."""
    root = Dialect(
        name="identity",
        title="Identity versions (Keystone-compatible)",
        prefix="/identity",
        operations=(versions.version_list(),),
        render_fault=render_fault,
    )
    return (root, v2_0.dialect(identity, settings), v3.dialect(identity, settings))
