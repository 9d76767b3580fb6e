"""Lines of the feed say what happened, and are found by what they are about."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Never by making the table anew: with it would go which serials were given, and the feed would count from 1 again.
    op.add_column("changes", sa.Column("detail", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.create_index(op.f("ix_changes_subject_serial"), "changes", ["subject", "serial"])


def downgrade() -> None:
    op.drop_index(op.f("ix_changes_subject_serial"), "changes")
    op.drop_column("changes", "detail")
