"""Rollouts: waves, gates, members and their sums; what was moved, over which link, and what that cost."""

import sqlalchemy as sa
from alembic import op

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deployments", sa.Column("rollout", sa.BigInteger(), nullable=True))
    op.create_table(
        "rollouts",
        sa.Column("serial", Serial, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("version_id", Serial, nullable=False),
        sa.Column("before_id", Serial, nullable=True),
        sa.Column("waves", sa.Text(), nullable=False),
        sa.Column("gate", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("opened", sa.Double(), nullable=False),
        sa.Column("good_since", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_rollouts_version_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["before_id"], ["versions.id"], name=op.f("fk_rollouts_before_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_rollouts")),
        sa.UniqueConstraint("id", name=op.f("uq_rollouts_id")),
        sqlite_autoincrement=True,
    )
    for name in ("state", "version_id", "before_id"):
        op.create_index(op.f(f"ix_rollouts_{name}"), "rollouts", [name])
    op.create_table(
        "members",
        sa.Column("rollout", Serial, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.serial"], name=op.f("fk_members_rollout"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_members_device"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("rollout", "device", name=op.f("pk_members")),
    )
    op.create_index(op.f("ix_members_device"), "members", ["device"])
    op.create_table(
        "tallies",
        sa.Column("rollout", Serial, nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.serial"], name=op.f("fk_tallies_rollout"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("rollout", "wave", "name", name=op.f("pk_tallies")),
    )
    op.create_table(
        "links",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("price", sa.Double(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("rate", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_links")),
    )
    op.create_table(
        "ledger",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("money", sa.Double(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day", "device", "model", "version", "rollout", "link", name=op.f("pk_ledger")),
    )
    for name in ("device", "rollout"):
        op.create_index(op.f(f"ix_ledger_{name}"), "ledger", [name])


def downgrade() -> None:
    for name in ("ledger", "links", "tallies", "members", "rollouts"):
        op.drop_table(name)
    op.drop_column("deployments", "rollout")
