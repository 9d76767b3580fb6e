"""Which reports of a device were heard, so that one which comes late is not taken for news."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("twins", sa.Column("heard", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("twins", "heard")
