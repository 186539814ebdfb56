"""The one error of settings."""


class WrongSetting(Exception):
    """A setting cannot be used. The message is one line: which, why, and what is allowed."""
