"""What the service can do, whatever the dialect: one module a noun."""
