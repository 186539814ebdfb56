"""Notifications: what a message says, the channels that it goes by, and the outbox's dispatcher."""
