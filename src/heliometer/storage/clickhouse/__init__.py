"""Measurements in ClickHouse, over its HTTP interface."""
