"""What everything stands on: errors with codes, locks, health, instruments. Knows no noun."""
