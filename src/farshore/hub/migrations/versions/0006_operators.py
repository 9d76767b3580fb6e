"""Operators with roles on fleets, their sessions and tokens; the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

EVERYTHING = '[{"fleet":"*","role":"admin"}]'


def upgrade() -> None:
    op.create_table(
        "operators",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_operators")),
    )
    op.create_table(
        "setups",
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("secret", name=op.f("pk_setups")),
    )
    op.create_table(
        "sessions",
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("secret", name=op.f("pk_sessions")),
    )
    op.create_table(
        "uploads",
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("operator", "digest", name=op.f("pk_uploads")),
    )
    op.create_table(
        "audit",
        sa.Column("serial", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("at", sa.Double(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("who", "via", "action", "subject", "before", "after", "chain")
        ),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("operator", sa.Text(), nullable=False, server_default="development"))
        table.add_column(sa.Column("grants", sa.Text(), nullable=False, server_default=EVERYTHING))
    with op.batch_alter_table("tokens") as table:
        for name in ("operator", "grants"):
            table.alter_column(name, existing_type=sa.Text(), existing_nullable=False, server_default=None)
    with op.batch_alter_table("enrolments") as table:
        table.add_column(sa.Column("fleet", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("enrolments") as table:
        table.alter_column("fleet", existing_type=sa.Text(), existing_nullable=False, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("enrolments") as table:
        table.drop_column("fleet")
    with op.batch_alter_table("tokens") as table:
        table.drop_column("operator")
        table.drop_column("grants")
    for name in ("audit", "uploads", "sessions", "setups", "operators"):
        op.drop_table(name)
