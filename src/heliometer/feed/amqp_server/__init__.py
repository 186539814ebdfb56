"""A consume-only AMQP 0-9-1 listener: what RabbitMQ's clients need to read one project's queue."""
