"""PostgreSQL, ClickHouse and RabbitMQ on loopback, for development and tests: ``scripts/engines``.

Nothing but the standard library: it also runs where no environment has been made yet.
"""
