"""How much of the feed waits in a file that no server need have open."""

import sqlite3
from contextlib import closing
from pathlib import Path


def waiting_messages(path: Path) -> int:
    """Messages that no consumer has acknowledged yet; 0 where there is no such file."""
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            (number,) = file.execute("SELECT coalesce(sum(next - first), 0) FROM queues").fetchone()
            return int(number)
    except sqlite3.Error:
        return 0
