"""Alarms: the engine that watches what is stored, and the loop that runs it."""
