"""Who calls: users, projects and tokens, built in or Keystone's."""
