"""The built-in identity: users, roles and tokens in the resource database."""
