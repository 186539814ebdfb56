"""Users, projects and tokens, built in or Keystone's."""
