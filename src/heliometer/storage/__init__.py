"""Where things are kept. Nothing outside knows the SQL in here."""
