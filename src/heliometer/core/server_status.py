"""What the doctor's checks know of the server that may be running."""

import json
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

    def found(self, part: str) -> dict[str, str]:
        """What is ``failed`` or ``degraded`` by the health's answer: names, and why."""
        try:
            body = json.loads(self.health_body or "{}")
        except ValueError:
            return {}
        named = body.get(part) if isinstance(body, dict) else None
        return {str(k): str(v) for k, v in named.items()} if isinstance(named, dict) else {}
