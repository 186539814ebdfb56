"""Why an alarm is in its state, and what it did, in words."""

from collections.abc import Mapping
from typing import Any

from heliometer.cli.query import number
from heliometer.cli.resources import time_of
from heliometer.cli.table import label

TRUTHS = {True: "true", False: "false", None: "unknown"}
SHOWN = 10


def text(found: Mapping[str, Any]) -> str:
    """An explanation, one fact per line."""
    lines = [
        f"{found['name']} is {found['state']} since {time_of(found['state_since'])}"
        + (" (flapping)" if found["flapping"] else ""),
        f"  {found['expression']}",
        f"As of {time_of(found['minute'])} the expression is {TRUTHS[found['truth']]}.",
    ]
    if found["unknown_evaluations"]:
        unknown = found["unknown_evaluations"]
        lines.append(
            f"Unknown for {unknown} evaluation{'s' * (unknown != 1)}; "
            f"after {found['undetermined_after']} the alarm becomes UNDETERMINED."
        )
    for part in found["subexpressions"]:
        lines += ["", part["subexpression"], *_finding(part)]
        last = part["last_measurement"]
        if last is not None:
            lines.append(f"  last measurement: {number(last['value'])} at {time_of(last['at'])}")
        count = part["matching_series"]
        lines.append(f"  {count} series {'matches' if count == 1 else 'match'}")
        lines += [f"    {label(s) or '(no dimensions)'}" for s in part["series"][:SHOWN]]
        if count > SHOWN:
            lines.append(f"    and {count - SHOWN} more")
    if found["last_transition"] is not None:
        lines += ["", "Last change:", event(found["last_transition"], "")]
    return "\n".join(lines)


def event(entry: Mapping[str, Any], name: str) -> str:
    """One entry of the history, with its reasons and notifications."""
    head = f"{time_of(entry['at'])}  {entry['old_state']} -> {entry['new_state']}"
    head += "  at once" if entry["at_once"] else ""
    head += ("  (flapping)" if entry["flapping"] else "") + (f"  {name}" if name else "")
    lines = [head]
    for finding in entry["reason"]:
        lines += [f"    {finding['subexpression']}", *(f"  {x}" for x in _finding(finding))]
        lines += [
            f"      {number(s['value'])}  {label(s['dimensions']) or '(no dimensions)'}"
            for s in finding["series"]
        ]
    for note in entry["notifications"]:
        reason = f": {note['reason']}" if note["reason"] else ""
        lines.append(f"    {note['status']} to {note['address']} ({note['type']}){reason}")
    return "\n".join(lines)


def _finding(finding: Mapping[str, Any]) -> list[str]:
    lines = []
    for window in finding["windows"]:
        value = window["value"]
        shown = "no measurement" if value is None else number(value)
        lines.append(
            f"  {time_of(window['start'])} to {time_of(window['end'])[11:]}: "
            f"{finding['function']} {shown}"
        )
    lines.append(
        f"  so {finding['operator']} {number(finding['threshold'])} is {TRUTHS[finding['truth']]}"
    )
    return lines
