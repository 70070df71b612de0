"""Money that an attempt took is booked once, whatever it is booked as."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index(
        "transfers_taken_once_key",
        "transfers",
        ["payment_id", "attempt_number"],
        unique=True,
        postgresql_where=sa.text("kind IN ('capture', 'duplicate_capture', 'unmatched')"),
        sqlite_where=sa.text("kind IN ('capture', 'duplicate_capture', 'unmatched')"),
    )
