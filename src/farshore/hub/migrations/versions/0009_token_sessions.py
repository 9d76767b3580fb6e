"""Sessions that were begun with an API token, and end with it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("sessions") as table:
        table.add_column(sa.Column("token", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("sessions") as table:
        table.alter_column("token", existing_type=sa.Text(), existing_nullable=False, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("sessions") as table:
        table.drop_column("token")
