"""A connection -> migrations run on it: the caller opens, locks and commits."""

from alembic import context

from pgw.core.ledger.engine.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    transactional_ddl=False,
)
context.run_migrations()
