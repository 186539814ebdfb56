"""What every dialect shares of HTTP: operations, reading bodies, request ids, OpenAPI."""
