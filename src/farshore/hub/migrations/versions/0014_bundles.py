"""Bundles: versions as ZIP files, for modules that are told in the classic contract."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "bundles",
        sa.Column("version_id", Serial, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("md5", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_bundles_version_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name=op.f("fk_bundles_digest")),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_bundles")),
    )
    op.create_index(op.f("ix_bundles_digest"), "bundles", ["digest"])


def downgrade() -> None:
    op.drop_table("bundles")
