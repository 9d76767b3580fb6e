"""Configurations: what operators give to twins by rule beside models; deployments in the classic contract."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NEW = (("classic", sa.Text), ("labels", sa.Text), ("metrics", sa.Text))


def upgrade() -> None:
    for name, kind in NEW:  # nullable: so no table with children has to be made anew
        op.add_column("deployments", sa.Column(name, kind(), nullable=True))
    op.create_table(
        "configurations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configurations")),
    )


def downgrade() -> None:
    op.drop_table("configurations")
    for name, _ in NEW:
        op.drop_column("deployments", name)
