"""Identity, compatible with Keystone's v2.0 and v3 as far as signing in needs it."""

from heliometer.api.keystone import v2_0, v3, v3_keystone, versions
from heliometer.api.keystone.faults import render_fault
from heliometer.config import Settings
from heliometer.http.operation import Dialect
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.keystone.service import KeystoneIdentity


def dialects(
    identity: BuiltinIdentity | KeystoneIdentity, settings: Settings
) -> tuple[Dialect, ...]:
    """Both versions, and the list of them at ``/identity``."""
    if isinstance(identity, KeystoneIdentity):
        version_3 = v3_keystone.dialect(identity, settings)
    else:
        version_3 = v3.dialect(identity, settings)
    root = Dialect(
        name="identity",
        title="Identity versions (Keystone-compatible)",
        prefix="/identity",
        operations=(versions.version_list(),),
        render_fault=render_fault,
    )
    return (root, v2_0.dialect(identity, settings), version_3)
