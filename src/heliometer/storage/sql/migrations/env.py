"""Runs migrations on the connection that ``database.py`` hands over, inside its transaction."""

from alembic import context

from heliometer.storage.sql.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite changes tables by copying them; its DDL is transactional, contrary to Alembic's
    # default.
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
