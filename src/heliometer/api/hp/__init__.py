"""HP Cloud Monitoring API v1.0 and HP Helion Public Cloud Monitoring API v1.1."""
