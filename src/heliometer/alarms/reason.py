"""A transition's reason as plain data: the form in which it is kept, sent and shown."""

from collections.abc import Mapping
from typing import Any

from heliometer.alarms.model import Finding, SeriesValue, Transition, WindowValue


def reason_document(transition: Transition) -> dict[str, Any]:
    """What led to the transition, in types that JSON has.

    History and the outbox keep it, webhooks carry it: keys are never renamed.
    """
    return {
        "minute_ms": transition.minute_ms,
        "at_once": transition.at_once,
        "findings": [
            {
                "text": f.text,
                "truth": f.truth,
                "function": f.function,
                "operator": f.operator,
                "threshold": f.threshold,
                "windows": [[w.start_ms, w.end_ms, w.value] for w in f.windows],
                "matching": f.matching,
                "series": [[dict(s.dimensions), s.value] for s in f.series],
            }
            for f in transition.findings
        ],
    }


def findings_of(document: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The findings of a document that ``reason_document`` made."""
    return tuple(
        Finding(
            text=f["text"],
            truth=f["truth"],
            function=f["function"],
            operator=f["operator"],
            threshold=f["threshold"],
            windows=tuple(WindowValue(*w) for w in f["windows"]),
            matching=f["matching"],
            series=tuple(SeriesValue(*s) for s in f["series"]),
        )
        for f in document["findings"]
    )
