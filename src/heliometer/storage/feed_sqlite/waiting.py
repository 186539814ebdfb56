"""How many messages wait in the feed's file, whether or not a server has it open."""

import sqlite3
from contextlib import closing
from pathlib import Path


def waiting_messages(path: Path) -> int:
    """The number of messages not acknowledged by any consumer yet; 0 if there is no file."""
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            (number,) = file.execute("SELECT coalesce(sum(next - first), 0) FROM queues").fetchone()
            return int(number)
    except sqlite3.Error:
        return 0
