"""Storage, by technology. No SQL is known outside this folder."""
