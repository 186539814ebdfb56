"""Several processes in roles: what one takes, others store, evaluate and hand out.

Every post becomes a message to the part that its project belongs to. A part has one owner at a
time, the single active consumer of its queue in RabbitMQ, which stores what comes, evaluates the
alarms of the part's projects and passes on what is subscribed to. When the owner goes, the broker
gives the queue to another process.
"""
