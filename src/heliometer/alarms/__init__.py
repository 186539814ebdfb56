"""Alarms: expressions, the engine that evaluates them, and the scheduler that runs it."""
