"""IoT Hub identities of devices and modules; modules have twins of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TWIN = (
    ("version", sa.BigInteger),
    ("tags", sa.Text),
    ("manual", sa.Text),
    ("desired", sa.Text),
    ("desired_metadata", sa.Text),
    ("desired_version", sa.BigInteger),
    ("reported", sa.Text),
    ("reported_metadata", sa.Text),
    ("reported_version", sa.BigInteger),
)
HOLDING = (("model", sa.Text), ("role", sa.Text), ("digest", sa.Text))


def _rebuild(name: str, columns: tuple[tuple[str, type], ...], keys: tuple[str, ...], *, modules: bool) -> None:
    """Make a table anew with, or without, a module beside the device in its key; its rows stay."""
    names = ", ".join(["device", *(column for column, _ in columns)])
    op.execute(f"CREATE TABLE kept_{name} AS SELECT * FROM {name}")  # noqa: S608 - our own names
    op.drop_table(name)
    own = [sa.Column("module", sa.Text(), nullable=False)] if modules else []
    key = ("device", *(["module"] if modules else []), *keys)
    op.create_table(
        name,
        sa.Column("device", sa.Text(), nullable=False),
        *own,
        *(sa.Column(column, kind(), nullable=False) for column, kind in columns),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f(f"fk_{name}_device"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{name}")),
    )
    if modules:
        op.execute(f"INSERT INTO {name} (module, {names}) SELECT '', {names} FROM kept_{name}")  # noqa: S608
    else:
        op.execute(f"INSERT INTO {name} ({names}) SELECT {names} FROM kept_{name} WHERE module = ''")  # noqa: S608
    op.drop_table(f"kept_{name}")


def _both(*, modules: bool) -> None:
    _rebuild("twins", TWIN, (), modules=modules)
    op.drop_index(op.f("ix_holdings_digest_role"), "holdings")
    _rebuild("holdings", HOLDING, ("model", "role"), modules=modules)
    op.create_index(op.f("ix_holdings_digest_role"), "holdings", ["digest", "role"])


def upgrade() -> None:
    _both(modules=True)
    op.create_table(
        "identities",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("generation", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("primary_key", sa.Text(), nullable=False),
        sa.Column("secondary_key", sa.Text(), nullable=False),
        sa.Column("edge", sa.Boolean(), nullable=False),
        sa.Column("managed_by", sa.Text(), nullable=False),
        sa.Column("status_at", sa.Double(), nullable=True),
        sa.Column("connection_at", sa.Double(), nullable=True),
        sa.Column("active_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_identities_device"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device", "module", name=op.f("pk_identities")),
    )


def downgrade() -> None:
    op.drop_table("identities")
    _both(modules=False)
