"""Meters of Telemetry v2: named views of series, and their samples."""
