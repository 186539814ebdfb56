"""Faults of Telemetry v2 in its documents' words (004 and 002, Response Code)."""

import json

import pytest

from heliometer.api.telemetry.wire import render_fault
from heliometer.core.errors import Code, HeliometerError


@pytest.mark.parametrize(
    ("error", "status", "message", "title"),
    [
        (
            HeliometerError(Code.INTERNAL, "whatever", details="ours"),
            500,
            "The request processing has failed due to some unknown error, exception or failure",
            "Internal Server Error",
        ),
        (
            HeliometerError(Code.UNAUTHENTICATED, "whatever", details="ours"),
            401,
            "The request you have made requires authentication.",
            "Unauthorized",
        ),
        (
            HeliometerError(Code.UNAUTHENTICATED, "Not authorized to access project."),
            401,
            "Not authorized to access project.",
            "Unauthorized",
        ),
        (HeliometerError(Code.INVALID, "Wrong.", details="Do so."), 400, "Wrong. Do so.",
         "Bad Request"),
    ],
)  # fmt: skip
def test_a_fault_has_one_form(
    error: HeliometerError, status: int, message: str, title: str
) -> None:
    reply = render_fault(error, "id")
    assert reply.status_code == status
    assert json.loads(bytes(reply.body)) == {
        "error": {"code": status, "message": message, "title": title}
    }
