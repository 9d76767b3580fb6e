"""Operators who come from an OpenID Connect issuer."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = ("oidc", "issuer", "subject")


def upgrade() -> None:
    with op.batch_alter_table("operators") as table:
        for name in COLUMNS:
            table.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("operators") as table:
        for name in COLUMNS:
            table.alter_column(name, existing_type=sa.Text(), existing_nullable=False, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("operators") as table:
        for name in COLUMNS:
            table.drop_column(name)
