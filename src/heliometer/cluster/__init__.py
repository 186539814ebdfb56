"""Several processes in roles: one accepts measurements, others store, evaluate and publish them.

Every post becomes a message to the shard that its project belongs to. A shard has one owner at a
time, the single active consumer of its queue in RabbitMQ. The owner stores the measurements,
evaluates the alarms of the shard's projects and publishes what is subscribed to. When it exits, the
broker assigns the queue to another process. The shard itself is that of ``pipeline``.
"""
