"""Several processes in roles: what one takes, others store, evaluate and publish.

Every post becomes a message to the shard that its project belongs to. A shard has one owner at a
time, the single active consumer of its queue in RabbitMQ; it stores what comes, evaluates the
alarms of the shard's projects and publishes what is subscribed to. When the owner ends, the broker
gives the queue to another process. The shard itself is that of ``pipeline``.
"""
