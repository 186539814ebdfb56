"""The revisions of the tables that this version knows."""

from alembic.config import Config
from alembic.script import ScriptDirectory


def alembic_config() -> Config:
    """The folder of our migrations."""
    config = Config()
    config.set_main_option("script_location", "heliometer.storage.sql:migrations")
    config.set_main_option("path_separator", "os")
    return config


def known_revisions() -> list[str]:
    """All revisions, newest first."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return [script.revision for script in scripts.walk_revisions()]
