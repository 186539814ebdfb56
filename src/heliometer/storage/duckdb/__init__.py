"""Measurements in DuckDB: recent ones in one file, sealed partitions beside it."""
