"""How the service tells of itself: logs and figures."""
