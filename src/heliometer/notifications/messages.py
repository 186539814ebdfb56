"""What a message says: subject, text, a line for SMS, and a document for programs. A channel that
shows it otherwise, as e-mail does, renders ``values`` with templates of its own."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from heliometer.notifications.channels import shown_address
from heliometer.notifications.model import (
    ALARM_MESSAGE,
    CODE_MESSAGE,
    HEARTBEAT,
    TEST_MESSAGE,
    Delivery,
)
from heliometer.notifications.number_format import readable

SMS_LENGTH = 160
SUBJECT_LENGTH = 200
DIGEST = "digest"
FIRST_WINDOWS = 3
MOST_WINDOWS = 12
"""Windows of a subexpression that are written out: a longer row is summed up."""
_WORDS = {">": "above", ">=": "at or above", "<": "below", "<=": "at or below"}

_templates = Environment(
    loader=PackageLoader("heliometer.notifications"),
    autoescape=False,  # noqa: S701 (plain text)
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message, whichever channel it takes."""

    id: str
    """The delivery's: a duplicate has the same."""
    kind: str
    template: str
    """Name of the template of its text, and of those that channels have besides."""
    values: Mapping[str, Any]
    """What templates are rendered with."""
    subject: str
    text: str
    short: str
    """At most SMS_LENGTH characters."""
    document: Mapping[str, Any]
    """For programs: what a webhook posts."""
    thread: str = ""
    """Messages with the same one belong together: an alarm's id."""
    chart: bytes | None = None
    """A PNG of the last hours."""


def alarm_message(delivery: Delivery, base_url: str, chart: bytes | None = None) -> Message:
    """An alarm changed its state."""
    p = delivery.payload
    link = f"{base_url}/v1.1/alarms/{p['alarm_id']}"
    findings = [_finding(f) for f in p["reason"]["findings"]]
    said = next((f for f in findings if f["truth"]), findings[0] if findings else None)
    values = {
        **_common(delivery, base_url),
        **p,
        "at": when(p["at_ms"]),
        "findings": findings,
        "said": said,
        "page": f"{base_url}/console/alarms/{p['alarm_id']}",
        "link": link,
    }
    subject = f"[{p['new']}] {p['name']}"
    short = f"{p['new']}: {p['name']}" + (f" - {said['summary']}" if said else "")
    document = {
        "alarm": {
            "id": p["alarm_id"],
            "name": p["name"],
            "description": p["description"],
            "severity": p["severity"],
            "expression": p["expression"],
            "project": p["project_name"],
            "link": link,
            "page": values["page"],
        },
        "transition": {
            "id": delivery.transition_id,
            "old_state": p["old"],
            "new_state": p["new"],
            "at": iso(p["at_ms"]),
            "reason": p["reason"],
        },
    }
    return _message(
        delivery, "alarm", values, subject, short,
        document=document, thread=p["alarm_id"], chart=chart,
    )  # fmt: skip


def digest_message(delivery: Delivery, gathered: Sequence[Delivery], base_url: str) -> Message:
    """Several alarm messages to one destination in one, with the id of ``delivery``."""
    entries = [
        {
            "at": when(d.payload["at_ms"]),
            "new": d.payload["new"],
            "old": d.payload["old"],
            "name": d.payload["name"],
            "alarm_id": d.payload["alarm_id"],
        }
        for d in gathered
    ]
    alarms = len({e["alarm_id"] for e in entries})
    subject = f"[digest] {len(entries)} changes of {alarms} alarms"
    values = {**_common(delivery, base_url), "entries": entries, "alarms": alarms}
    document = {"changes": [dict(d.payload) for d in gathered]}
    return _message(delivery, DIGEST, values, subject, subject, document=document)


def test_message(delivery: Delivery, base_url: str) -> Message:
    """A notification method works."""
    values = {**_common(delivery, base_url), **delivery.payload, "at": when(delivery.created_ms)}
    subject = f"[test] {delivery.payload['method_name']}"
    short = f"Test of notification method {delivery.payload['method_name']}: it works."
    return _message(delivery, TEST_MESSAGE, values, subject, short)


def code_message(delivery: Delivery, short_code: str, long_code: str, base_url: str) -> Message:
    """The code that confirms an address; ``long_code`` is empty where the channel has none."""
    values = {
        **_common(delivery, base_url),
        **delivery.payload,
        "short_code": short_code,
        "long_code": long_code,
        "url": f"{base_url}/v1.1/notification-addresses/validate",
    }
    short = f"Your validation code for monitoring notifications: {short_code}"
    return _message(delivery, CODE_MESSAGE, values, "Your validation code", short)


def heartbeat_message(delivery: Delivery, base_url: str, interval_s: int) -> Message:
    """Alarms are being evaluated; its absence means trouble."""
    values = {
        **_common(delivery, base_url),
        "at": when(delivery.created_ms),
        "minutes": max(1, round(interval_s / 60)),
    }
    subject = "[heartbeat] alarms are being evaluated"
    return _message(delivery, HEARTBEAT, values, subject, subject)


def when(milliseconds: int) -> str:
    """A time in milliseconds, as people read it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(milliseconds: int) -> str:
    """A time in milliseconds, in ISO 8601."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _common(delivery: Delivery, base_url: str) -> dict[str, Any]:
    # A chat that gets the message is no place for the URL that leads there.
    address = shown_address(delivery.type, delivery.address)
    return {"id": delivery.id, "address": address, "base_url": base_url, "description": ""}


def _message(
    delivery: Delivery,
    template: str,
    values: Mapping[str, Any],
    subject: str,
    short: str,
    *,
    document: Mapping[str, Any] | None = None,
    thread: str = "",
    chart: bytes | None = None,
) -> Message:
    return Message(
        id=delivery.id,
        kind=delivery.kind,
        template=template,
        values=values,
        subject=_line(subject)[:SUBJECT_LENGTH],
        text=_templates.get_template(f"{template}.txt").render(values),
        short=_cut(_line(short), SMS_LENGTH),
        document={
            "version": 1,
            "id": delivery.id,
            "kind": ALARM_MESSAGE if template == "alarm" else template,
            **(document or {}),
        },
        thread=thread,
        chart=chart,
    )


def _finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    threshold = finding["threshold"]
    windows = [
        {
            "start": when(start),
            "end": when(end),
            "value": None if value is None else readable(value, threshold),
            "left_out": left_out,
        }
        for left_out, (start, end, value) in _worth_showing(finding["windows"])
    ]
    newest = windows[-1]["value"] if windows else None
    words = _WORDS[finding["operator"]]
    value = "no measurement" if newest is None else newest
    return {
        "text": finding["text"],
        "truth": finding["truth"],
        "words": {True: "true", False: "false", None: "unknown"}[finding["truth"]],
        "threshold": readable(threshold),
        "summary": f"{finding['function']} {value}, {words if finding['truth'] else 'threshold'} "
        f"{readable(threshold)}",
        "windows": windows,
        "matching": finding["matching"],
        "series": [
            {
                "dimensions": ", ".join(f"{k}={v}" for k, v in d.items()),
                "value": readable(value, threshold),
            }
            for d, value in finding["series"]
        ],
    }


def _worth_showing(windows: Sequence[Any]) -> list[tuple[int, Any]]:
    """Of many windows the first, the extremes and the last, in order of time; each with how many
    are left out before it."""
    if len(windows) <= MOST_WINDOWS:
        return [(0, window) for window in windows]
    last = MOST_WINDOWS - FIRST_WINDOWS - 2
    chosen = {*range(FIRST_WINDOWS), *range(len(windows) - last, len(windows))}
    valued = [i for i, (_, _, value) in enumerate(windows) if value is not None]
    if valued:
        chosen.add(min(valued, key=lambda i: windows[i][2]))
        chosen.add(max(valued, key=lambda i: windows[i][2]))
    order = sorted(chosen)
    return [(i - before - 1, windows[i]) for before, i in pairwise([-1, *order])]


def _line(text: str) -> str:
    """Text on one line, without what could be taken for a header or reorder what is read.

    ``=?`` begins an encoded word: the e-mail library decodes one that stands in a subject, line
    breaks inside it and all.
    """
    return "".join(c if _is_text(c) else " " for c in text).replace("=?", "= ?").strip()


def _is_text(character: str) -> bool:
    """Letters, signs, spaces of every script, and the joiners that words and emoji are made of."""
    return (
        character.isprintable()
        or character in "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
        or unicodedata.category(character) == "Zs"
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
