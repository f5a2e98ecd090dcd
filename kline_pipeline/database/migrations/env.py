"""What alembic runs around the revisions: the connection comes from database/migrate.py, the transaction is its own."""

from alembic import context

from kline_pipeline.database.tables import SCHEMA, VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=SCHEMA,
    include_schemas=True,
)
context.run_migrations()
