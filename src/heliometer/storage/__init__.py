"""Storage, by technology. Nothing outside knows the SQL in here."""
