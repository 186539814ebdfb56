"""Identity, compatible with Keystone's v2.0 and v3 as far as clients need it to sign in."""
