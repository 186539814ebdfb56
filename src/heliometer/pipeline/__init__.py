"""The way of a measurement from a post to the store, the alarms and the feed."""
