"""The path of a measurement from a post to the store, the alarms and the feed.

A single node has one ``Shard`` behind a group commit; a cluster has many behind RabbitMQ
(``cluster``). The shard is the same.
"""
