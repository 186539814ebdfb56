"""The way in: which series a measurement belongs to, and many posts in one durable commit."""
