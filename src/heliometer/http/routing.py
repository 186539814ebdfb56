"""Finds the operation that answers a path and method."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from starlette.routing import compile_path

from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import Dialect, Operation

_LONG_SEGMENT = re.compile(r"[^/]{24,}")


@dataclass(slots=True)
class Route:
    """One path with its operations by method."""

    path: str
    """With ``{name}`` for each variable segment."""
    dialect: Dialect
    operations: dict[str, Operation] = field(default_factory=dict)

    @property
    def allowed(self) -> str:
        """The value of an ``Allow`` header."""
        methods = set(self.operations)
        return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


class Router:
    """All paths of all dialects. Prefixes may nest; the longest match answers."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self._dialects = {d.prefix: d for d in dialects}
        self._static: dict[str, Route] = {}
        self._dynamic: dict[str, tuple[re.Pattern[str], Route]] = {}
        for dialect in self._dialects.values():
            for operation in dialect.operations:
                self._add(dialect, operation)

    @property
    def dialects(self) -> list[Dialect]:
        """The dialects that are served."""
        return list(self._dialects.values())

    def find(self, path: str) -> tuple[Route | None, Mapping[str, str]]:
        """The route of a path without its final slash, and its variable segments by name."""
        route = self._static.get(path)
        if route is not None:
            return route, {}
        for pattern, candidate in self._dynamic.values():
            match = pattern.match(path)
            if match:
                return candidate, match.groupdict()
        return None, {}

    def dialect_of(self, path: str) -> Dialect:
        """The dialect that renders the 404 for a path without a route."""
        while path and path not in self._dialects:
            path = path.rpartition("/")[0]
        return self._dialects[path]

    def _add(self, dialect: Dialect, operation: Operation) -> None:
        for prefix in (dialect.prefix, *dialect.aliases):
            path = prefix + operation.path
            if "{" not in path:
                route = self._static.setdefault(path, Route(path, dialect))
            else:
                pattern, _, _ = compile_path(path)
                _, route = self._dynamic.setdefault(path, (pattern, Route(path, dialect)))
            route.operations[operation.method] = operation


def operation_of(route: Route | None, method: str, path: str) -> Operation:
    """The operation of a route; GET answers HEAD too. Raises NOT_FOUND, METHOD_NOT_ALLOWED."""
    if route is None:
        raise HeliometerError(
            Code.NOT_FOUND, f"There is nothing at {path[:100] or '/'}.",
            details="GET /docs shows what there is.",
        )  # fmt: skip
    operation = route.operations.get(method)
    if operation is None and method == "HEAD":
        operation = route.operations.get("GET")
    if operation is None:
        raise HeliometerError(
            Code.METHOD_NOT_ALLOWED,
            f"{method[:20]} is not possible here.",
            details=f"Possible are {route.allowed}.",
        )
    return operation


def loggable(route: Route | None, path: str) -> str:
    """A path without secrets: Keystone v2.0 has tokens in its paths."""
    return route.path if route else _LONG_SEGMENT.sub("…", path)
