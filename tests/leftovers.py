"""Processes that a failed test left running end with the tests."""

import atexit
import subprocess
from typing import Any

_started: list["subprocess.Popen[Any]"] = []


def end_with_tests(process: "subprocess.Popen[Any]") -> None:
    """Kill it when the tests end, should it run then."""
    _started.append(process)


@atexit.register
def _end() -> None:
    for process in _started:
        if process.poll() is None:
            process.kill()
            process.wait(10)
