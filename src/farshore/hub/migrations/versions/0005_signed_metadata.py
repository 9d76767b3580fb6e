"""Signed metadata; a version keeps its manifest, and no longer an envelope around it."""

import base64
import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metadata_documents",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("role", "version", name=op.f("pk_metadata_documents")),
    )
    # Renamed in place: making the table anew would take along what refers to its rows.
    op.execute("ALTER TABLE versions RENAME COLUMN envelope TO manifest")
    versions = sa.table("versions", sa.column("id", sa.BigInteger()), sa.column("manifest", sa.LargeBinary()))
    bind = op.get_bind()
    for row in bind.execute(sa.select(versions)).all():
        payload = base64.b64decode(json.loads(row.manifest)["payload"])
        bind.execute(sa.update(versions).where(versions.c.id == row.id).values(manifest=payload))


def downgrade() -> None:
    op.execute("ALTER TABLE versions RENAME COLUMN manifest TO envelope")
    op.drop_table("metadata_documents")
