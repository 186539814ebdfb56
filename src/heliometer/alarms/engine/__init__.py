"""Evaluation of alarms: windows, truth and states, as arrays and without input or output."""
