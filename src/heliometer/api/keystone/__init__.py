"""Identity: as much of Keystone's v2.0 and v3 as clients need to sign in."""
