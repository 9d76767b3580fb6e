"""Lines of the feed say what happened, and are found by what they are about."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("changes") as table:
        table.add_column(sa.Column("detail", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("changes") as table:
        table.alter_column("detail", existing_type=sa.Text(), existing_nullable=False, server_default=None)
    op.create_index(op.f("ix_changes_subject_serial"), "changes", ["subject", "serial"])


def downgrade() -> None:
    op.drop_index(op.f("ix_changes_subject_serial"), "changes")
    with op.batch_alter_table("changes") as table:
        table.drop_column("detail")
