"""What Alembic runs around the revisions: on the connection and within the tx that `db.migrate` hands over."""

from alembic import context

_handed = context.config.attributes
context.configure(connection=_handed["connection"], on_version_apply=_handed["applied"])
context.run_migrations()
