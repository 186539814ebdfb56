"""Projects: who owns series, and each project's monitoring level."""
