"""What alembic runs for a migration: our metadata, on the connection that `upgrade` passes."""

from alembic import context

from db import tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=tables.METADATA,
    version_table=tables.VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
