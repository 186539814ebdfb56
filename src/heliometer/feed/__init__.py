"""The feed: a project's metrics as AMQP messages, by a listener of our own or through a broker."""
