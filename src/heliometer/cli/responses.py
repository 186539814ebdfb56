"""A server's responses: JSON, or a fault in the form of any dialect."""

from typing import Any

import httpx
import msgspec

from heliometer.cli.errors import CommandError


def decode(response: httpx.Response) -> Any:
    """The JSON of a reply; raise CommandError for anything else."""
    try:
        return msgspec.json.decode(response.content)
    except msgspec.DecodeError as error:
        raise CommandError(
            f"{response.url} did not answer with JSON; is it the root of a Heliometer server?"
        ) from error


def checked(response: httpx.Response) -> httpx.Response:
    """The reply itself; raise CommandError with what the server says when it is a fault."""
    if response.is_success:
        return response
    status = f"{response.status_code} {response.reason_phrase}".strip()
    where = f"{response.request.method} {response.url.copy_with(query=None)}"
    raise CommandError(f"{fault_message(response.content) or 'no explanation'} ({status}, {where})")


def fault_message(body: bytes) -> str:
    """What a fault says, in the form of any dialect (v1.1 §2.6, §2.6.1; Keystone); or nothing."""
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""
    if not isinstance(document, dict):
        return ""
    fault = next((value for value in document.values() if isinstance(value, dict)), {})
    parts = [fault.get("message") or fault.get("faultstring"), fault.get("details")]
    if fault.get("code") == 500 and fault.get("internal_code"):
        parts.append(f"See {fault['internal_code']} in the server's log.")
    return " ".join(part for part in parts if isinstance(part, str) and part)
