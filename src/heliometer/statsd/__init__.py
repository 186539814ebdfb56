"""The UDP listener for StatsD."""
