"""An existing Keystone as the identity: tokens are validated there."""
