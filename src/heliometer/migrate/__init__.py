"""Migration: copies the embedded data to PostgreSQL and ClickHouse, and compares both sides.

No assumption about the target is kept between passes: each finds out what is missing there, and
adds it. So a pass continues where the last one ended, however that ended, and data that the source
has received since is simply missing too.
"""
