"""Who calls: where users, projects and tokens come from."""
