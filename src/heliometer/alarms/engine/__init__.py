"""Evaluation of alarms: windows, truth and states, without input or output."""
