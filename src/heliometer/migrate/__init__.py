"""Migration: copies the embedded data to PostgreSQL and ClickHouse, and compares both sides.

Nothing is remembered that could be wrong about what the target has: a pass finds out what is
missing there, and adds it. So it goes on where the last one ended, however that ended, and what
the source has received since is simply missing too.
"""
