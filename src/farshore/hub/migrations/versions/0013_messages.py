"""What IoT Hub's clients are subscribed to; messages from them, and those that wait for them."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def _identity(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["device", "module"],
        ["identities.device", "identities.module"],
        name=op.f(f"fk_{table}_device_module"),
        ondelete="CASCADE",
    )


def upgrade() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("filters", sa.Text(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=False),
        _identity("subscriptions"),
        sa.PrimaryKeyConstraint("device", "module", name=op.f("pk_subscriptions")),
    )
    op.create_table(
        "received",
        sa.Column("serial", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_received")),
        sa.UniqueConstraint("device", "module", "message", name=op.f("uq_received_device_module_message")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "waiting",
        sa.Column("serial", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("packet", sa.Integer(), nullable=False),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        _identity("waiting"),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_waiting")),
        sa.UniqueConstraint("device", "module", "packet", name=op.f("uq_waiting_device_module_packet")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for name in ("waiting", "received", "subscriptions"):
        op.drop_table(name)
