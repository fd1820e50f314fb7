"""Alembic's entry: runs on the connection the store gives it, inside the store's own transaction."""

from __future__ import annotations

from alembic import context

from pyopenshell.gateway.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
