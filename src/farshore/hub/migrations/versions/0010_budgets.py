"""What a rollout was started with, and its budget; windows and caps of links; settings in layers."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NEW = {
    "rollouts": (("ref", sa.Text), ("selector", sa.Text), ("terms", sa.Text), ("held", sa.Boolean)),
    "deployments": (("activate", sa.Text),),
    "links": (("windows", sa.Text), ("day", sa.BigInteger), ("month", sa.BigInteger)),
}


def upgrade() -> None:
    for name, columns in NEW.items():  # nullable: so no table with children has to be made anew
        for column, kind in columns:
            op.add_column(name, sa.Column(column, kind(), nullable=True))
    op.execute(
        "UPDATE rollouts SET selector = "
        "(SELECT deployments.selector FROM deployments WHERE deployments.id = rollouts.deployment)"
    )
    op.create_table(
        "layers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_layers")),
    )


def downgrade() -> None:
    op.drop_table("layers")
    for name, columns in NEW.items():
        for column, _ in columns:
            op.drop_column(name, column)
