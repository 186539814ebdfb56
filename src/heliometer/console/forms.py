"""Reads the fields of a form, and relates errors to them."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import Call

FORM_BYTES = 256 << 10
FIELDS = 1000
"""Most fields of a form."""


async def read_form(call: Call) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The last value of each field, and all values. Raises MALFORMED, TOO_LARGE."""
    call.body_limit = min(call.body_limit, FORM_BYTES)
    try:
        text = (await call.body()).decode("utf-8", "replace")
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError as error:
        raise Malformed(f"The form has more than {FIELDS} fields.") from error
    except HeliometerError as error:
        if error.code is not Code.TOO_LARGE:
            raise
        raise HeliometerError(
            Code.TOO_LARGE,
            f"The form is larger than {call.body_limit} bytes.",
            details="Shorten what you wrote.",
        ) from error
    many: dict[str, list[str]] = {}
    for key, value in fields:
        many.setdefault(key, []).append(value.replace("\r\n", "\n"))
    return {key: values[-1] for key, values in many.items()}, many


def errors_by_field(error: HeliometerError, form: Mapping[str, str]) -> dict[str, str]:
    """The error by the name of its field, or by ``""``: messages begin with a field's path."""
    path, colon, rest = error.message.partition(": ")
    name = path.rpartition(".")[2].rpartition("]")[2] or path
    if colon and name in form:
        return {name: f"{rest[:1].upper()}{rest[1:]} {error.details}".strip()}
    return {"": f"{error.message} {error.details}".strip()}


def error_of_field(
    field: str, error: HeliometerError, known: tuple[str, ...] = ()
) -> HeliometerError:
    """The error with the path of a field, unless it begins with one of those ``known``."""
    name, colon, _ = error.message.partition(": ")
    if colon and name in known:
        return error
    return HeliometerError(error.code, f"{field}: {error.message}", details=error.details)
