"""Structured logs: one event a line, as text for people or JSON for machines.

Records are formatted and written in a thread of their own, off the path of requests.
"""

import json
import logging
import logging.handlers
import queue
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from heliometer.config import LogSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what was given as ``extra`` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            event["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(event, default=str)


class TextFormatter(logging.Formatter):
    """A line for a person to read; line breaks and control characters in it are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {k}={v}" for k, v in _extra(record).items())
        text = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{extra}"
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        if record.exc_info:
            trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            text += "\n    " + trace.replace("\n", "\n    ")
        return text


class _Handler(logging.handlers.QueueHandler):
    """Hands records over as they are: formatting them is the other thread's work."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


@contextmanager
def logging_to_stderr(settings: LogSettings) -> Iterator[None]:
    """Log to standard error while inside."""
    form = settings.format
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "json"
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(TextFormatter() if form == "text" else JsonFormatter())
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, output)
    handler = _Handler(records)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    for chatty in ("alembic", "uvicorn.error", "uvicorn.access", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        listener.stop()


def _time(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD}
