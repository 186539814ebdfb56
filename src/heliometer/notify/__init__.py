"""Notifications: what a message says, the kinds of ways that it goes, and the outbox's pipeline."""
