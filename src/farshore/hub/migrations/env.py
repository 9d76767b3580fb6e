"""How alembic reaches the database: over the connection that ``Database.migrate`` opened, in its transaction."""

from alembic import context

from farshore.hub.records.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    render_as_batch=True,
)
context.run_migrations()
