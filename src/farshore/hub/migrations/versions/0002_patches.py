"""Patches between files."""

import sqlalchemy as sa
from alembic import op

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "patches",
        sa.Column("id", Serial, nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("bases", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name=op.f("fk_patches_digest")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patches")),
        sa.UniqueConstraint("target", "bases", name=op.f("uq_patches_target_bases")),
    )
    op.create_index(op.f("ix_patches_digest"), "patches", ["digest"])
    op.create_table(
        "patch_bases",
        sa.Column("patch_id", Serial, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["patch_id"], ["patches.id"], name=op.f("fk_patch_bases_patch_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("patch_id", "digest", name=op.f("pk_patch_bases")),
    )
    op.create_index(op.f("ix_patch_bases_digest"), "patch_bases", ["digest"])


def downgrade() -> None:
    op.drop_table("patch_bases")
    op.drop_table("patches")
