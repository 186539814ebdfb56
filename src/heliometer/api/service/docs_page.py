"""The page at ``/docs``: every operation, without scripts."""

import json
from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from shlex import quote
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from heliometer import __version__
from heliometer.http.openapi import statuses
from heliometer.http.operation import Dialect, Operation
from heliometer.identity.model import roles_with


def render(dialects: Sequence[Dialect], base_url: str) -> str:
    """The page as HTML, with curl commands for ``base_url``."""
    sections = [
        {
            "dialect": dialect,
            "operations": [_described(dialect, o, base_url) for o in dialect.operations],
        }
        for dialect in dialects
        if dialect.operations
    ]
    return _template().render(sections=sections, version=__version__, base_url=base_url)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("heliometer.api.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("docs.html")


def _described(dialect: Dialect, operation: Operation, base_url: str) -> dict[str, Any]:
    path = dialect.prefix + operation.path or "/"
    return {
        "operation": operation,
        "path": path,
        "anchor": f"{operation.method}-{path}".replace("/", "-").strip("-").lower(),
        "roles": roles_with(operation.permission) if operation.permission else [],
        "statuses": [(s, HTTPStatus(s).phrase) for s in statuses(operation)],
        "curl": _curl(operation, base_url + path),
    }


def _curl(operation: Operation, url: str) -> str:
    query = {
        p.name: p.example
        for p in operation.parameters
        if p.where == "query" and p.example is not None
    }
    if query:
        url += "?" + urlencode(query, safe=":,")
    words = ["curl -i"]
    if operation.method != "GET":
        words.append(f"-X {operation.method}")
    words.append(quote(url))
    if operation.permission is not None:
        words.append('-H "X-Auth-Token: $TOKEN"')
    if operation.example is not None:
        words.append("-H 'Content-Type: application/json'")
        words.append(f"-d {quote(json.dumps(operation.example))}")
    return " \\\n  ".join([" ".join(words[:2]), *words[2:]]) if len(words) > 2 else " ".join(words)
