"""The console's pages, for the tests over HTTP and those in a browser."""

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import httpx
import pytest

from heliometer import console
from heliometer.api.services import Services
from heliometer.http.operation import Operation
from heliometer.identity.model import Permission

PAGES = (
    "/console",
    "/console/metrics",
    "/console/alarms",
    "/console/alarms/new",
    "/console/notifications",
    "/console/feed",
    "/console/meters",
    "/console/people",
    "/console/account",
    "/console/audit",
)
NOT_YET: frozenset[str] = frozenset()
"""Those that may be missing while they are being written: their tests are skipped then."""
NOWHERE = "0" * 8 + "-0000-4000-8000-" + "0" * 12
SOURCES = Path(console.__file__).parent


class Page(NamedTuple):
    """An operation for who is signed in."""

    operation: Operation
    permission: Permission
    fields: tuple[str, ...]
    """Names of parameters and fields that its module reads."""

    @property
    def method(self) -> str:
        """GET or POST."""
        return self.operation.method

    def path(self, part: str = NOWHERE) -> str:
        """Where it is, with something in place of what varies."""
        return "/console" + re.sub(r"\{[^}]*\}", lambda _: part, self.operation.path)

    @property
    def varies(self) -> bool:
        """Whether the path names something."""
        return "{" in self.operation.path


def skip_if_not_yet(path: str, status: int) -> None:
    """Skip the test of a page that somebody is still writing."""
    if status == 404 and path in NOT_YET:
        pytest.skip(f"{path} is not there yet")


def require(reply: httpx.Response, path: str) -> httpx.Response:
    """The reply of a page that must be there."""
    skip_if_not_yet(path, reply.status_code)
    assert reply.status_code == 200, reply.text
    return reply


@functools.cache
def signed_in_pages() -> tuple[Page, ...]:
    """Every operation for who is signed in, as it is mounted; nothing is behind these."""
    parts = {part.name: Mock() for part in dataclasses.fields(Services)}
    return tuple(_pages(console.dialect(Services(**parts)).operations))


def _pages(operations: tuple[Operation, ...]) -> Iterator[Page]:
    for operation in operations:
        if isinstance(operation.handler, functools.partial):
            _, handler, permission = operation.handler.args
            yield Page(operation, permission, _fields(handler.__module__.rpartition(".")[2]))


@functools.cache
def _fields(module: str) -> tuple[str, ...]:
    """What looks like the name of a parameter or a field in a module and its templates."""
    text = "".join(
        path.read_text()
        for path in sorted(SOURCES.rglob(f"{module.rstrip('s')}*"))
        if path.suffix in (".py", ".html")
    )
    read = re.findall(r"(?:query|queries|form|many)(?:\.get)?[\[(]\s*\"(\w+)\"", text)
    written = re.findall(r"\bname=\"(\w+)\"", text)
    return tuple(sorted({*read, *written} - {"proof"}))
