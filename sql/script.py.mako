"""${message}"""

import sqlalchemy as sa
from alembic import op
from pgw.core.ledger.tables import Id, Json, When, Whole

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
