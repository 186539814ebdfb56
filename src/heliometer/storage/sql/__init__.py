"""Projects, users and what is set for them, in a SQL database."""
