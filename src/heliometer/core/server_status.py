"""What the doctor's checks know of the server that may be running."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What answered at the address that the settings name."""

    url: str
    has_data_dir: bool
    """A server has the data directory, whether or not it answers at ``url``."""
    ours: bool = False
    """``url`` answers as Heliometer."""
    date: datetime | None = None
    """The server's time, to the second."""
    asked_at: datetime | None = None
    """Our own time at that moment."""
    health: int | None = None
    """Status of ``GET /v2/health``; ``None``: no answer, or no such page."""
    health_body: str = ""
