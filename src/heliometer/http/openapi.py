"""An OpenAPI description of the dialects, generated from their operations."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from heliometer import __version__
from heliometer.http.operation import Dialect, Operation

_ALWAYS = (400, 431, 500, 503)
_GUARDED = (401, 403, 429)
_TAKES_BODY = (413, 415)


def describe(dialects: Sequence[Dialect]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    types = [
        kind
        for dialect in dialects
        for operation in dialect.operations
        for kind in (operation.body, dialect.reply_of(operation), dialect.fault)
        if kind is not None
    ]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    by_type = {repr(t): s for t, s in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for dialect in dialects:
        for operation in dialect.operations:
            path = dialect.prefix + operation.path or "/"
            described = _operation(dialect, operation, by_type)
            paths.setdefault(path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Heliometer",
            "version": __version__,
            "description": "Monitoring as a service that you run yourself.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": d.name, "description": d.title} for d in dialects],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Auth-Token",
                    "description": "From POST /identity/v2.0/tokens or /identity/v3/auth/tokens.",
                },
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def statuses(operation: Operation) -> list[int]:
    """All statuses of an operation, the success first."""
    guarded = _GUARDED if operation.permission is not None else ()
    knowing = (401, 429) if operation.knows_caller else ()
    body = _TAKES_BODY if operation.body is not None else ()
    choosy = () if operation.foreign else (406,)
    return [
        operation.success,
        *sorted({*_ALWAYS, *guarded, *knowing, *body, *choosy, *operation.faults}),
    ]


def _operation(dialect: Dialect, operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    name = re.sub(r"\W+", "-", f"{dialect.prefix}{operation.path}").strip("-") or "versions"
    described: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}-{name}",
        "summary": operation.summary,
        "description": f"Source: {operation.source}.",
        "tags": [dialect.name],
        "parameters": [
            {
                "name": p.name,
                "in": p.where,
                "required": p.required,
                "description": p.description,
                "schema": dict(p.schema),
                **({"example": p.example} if p.example is not None else {}),
            }
            for p in operation.parameters
        ]
        + [
            {"name": n, "in": "path", "required": True, "schema": {"type": "string"}}
            for n in re.findall(r"{(\w+)(?::\w+)?}", operation.path)
        ],
        "responses": {
            str(s): _response(dialect, operation, s, schemas) for s in statuses(operation)
        },
        "security": _security(operation),
    }
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas[repr(operation.body)]}
        if operation.example is not None:
            content["example"] = operation.example
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.permission is not None:
        ways = ("token", "basic", "bearer") if operation.foreign else ("token",)
        return [{way: []} for way in ways]
    return [{"token": []}, {}] if operation.knows_caller else []


def _response(
    dialect: Dialect, operation: Operation, status: int, schemas: dict[str, Any]
) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if operation.method == "HEAD" or status == 204:
        return response
    if status != operation.success:
        if dialect.fault is not None:
            content = {"schema": schemas[repr(dialect.fault)]}
            response["content"] = {"application/json": content}
    elif (reply := dialect.reply_of(operation)) is not None:
        response["content"] = {operation.media_type: {"schema": schemas[repr(reply)]}}
    elif operation.media_type.startswith("text/"):
        response["content"] = {operation.media_type: {"schema": {"type": "string"}}}
    return response
