"""Stores of measurements: implementations of ``model.measurements.MeasurementStore``."""
