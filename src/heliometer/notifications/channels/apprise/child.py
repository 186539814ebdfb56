"""The process that sends one message with apprise: a JSON object on standard input, another on
standard output.

apprise reads URLs in some two hundred ways, and libraries of its own choice carry them out. In a
process of its own, with one plugin, what it may reach does not depend on any of them.
"""

import importlib
import json
import mimetypes
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from heliometer.notifications.channels.apprise.address import LOCAL, LOCAL_SCHEMES, scheme_of
from heliometer.notifications.channels.apprise.guard import Guard, summary

SENT, REFUSED, FAILED = "sent", "refused", "failed"


def main() -> None:
    """Send what standard input says, and say how it ended."""
    sys.dont_write_bytecode = True
    order = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # what a plugin prints may hold secrets
        os.dup2(nowhere, descriptor)
    outcome, why = send(**order)
    json.dump({"outcome": outcome, "why": why}, answer)
    answer.close()
    # Threads of plugins that wait for something have no part in this any more.
    os._exit(0)


def send(url: str, title: str, body: str, allow_private: bool) -> tuple[str, str]:
    """How sending to the URL ended, and why; the reason holds nothing of the URL but its scheme."""
    scheme = scheme_of(url)
    if scheme is None or scheme in LOCAL_SCHEMES:
        return REFUSED, "this is not a URL that may be sent to"
    try:
        import apprise
        import requests
    except ImportError:
        return FAILED, "apprise is not installed: heliometer[apprise]"
    plugin = _load(scheme)
    if plugin is None:
        return REFUSED, f"apprise has no {scheme}://"
    # No answer leads elsewhere, whatever an option of the URL says.
    requests.Session.get_redirect_target = lambda self, resp: None  # type: ignore[method-assign]
    mimetypes.init()
    guard = Guard(allow_private=allow_private)
    guard.install()
    asset = apprise.AppriseAsset(
        async_mode=False, http_redirects=False, secure_logging=True, storage_mode="memory"
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None or type(service) is not plugin:
        said = summary(guard.refused) or "apprise does not understand this URL"
        return REFUSED, f"{scheme}: {said}"
    senders = apprise.Apprise(asset=asset)
    senders.add(service)
    if senders.notify(body=body, title=title):
        return SENT, f"taken by {scheme}"
    if guard.refused:
        return REFUSED, f"{scheme}: {summary(guard.refused)}"
    return FAILED, f"{scheme}: the service did not take it"


def _load(scheme: str) -> Any:
    """The one plugin of a scheme, and make apprise know no other; ``None``: it has none."""
    manager: Any = importlib.import_module("apprise.manager_plugins").NotificationManager()
    with tempfile.TemporaryDirectory() as empty:
        # Otherwise it would load every plugin there is when it is first asked for one.
        manager.load_modules(path=empty, name="apprise.plugins")
    folder = Path(str(importlib.import_module("apprise.plugins").__file__)).parent
    for path in sorted(folder.iterdir()):
        if path.stem in LOCAL or path.name.startswith(("_", "base")):
            continue
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        # Importing all to find one would take a second.
        if not any(re.search(rf"[\"']{re.escape(scheme)}[\"']", f.read_text()) for f in files):
            continue
        module = importlib.import_module(f"apprise.plugins.{path.stem}")
        for name in dir(module):
            found: Any = getattr(module, name)
            if (
                name.startswith("Notify")
                and hasattr(found, "schemas")
                and found.__module__.partition(path.stem)[0] == "apprise.plugins."
                and scheme in found.schemas(found)
            ):
                manager.add(found)
                return found
    return None


if __name__ == "__main__":
    main()
