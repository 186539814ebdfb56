"""Messages of the built-in feed, in one SQLite file."""
