"""Devices hold keys; their bearers expire."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CHILDREN = ("twins", "holdings")


class ChildrenKept:
    """SQLite changes a table by making another and dropping the first, and with a row go those that refer to it."""

    def __enter__(self) -> None:
        self._needed = op.get_bind().dialect.name == "sqlite"
        for name in CHILDREN if self._needed else ():
            op.execute(f"CREATE TABLE kept_{name} AS SELECT * FROM {name}")  # noqa: S608 - our own names

    def __exit__(self, *_: object) -> None:
        for name in CHILDREN if self._needed else ():
            op.execute(f"INSERT INTO {name} SELECT * FROM kept_{name}")  # noqa: S608
            op.execute(f"DROP TABLE kept_{name}")


def upgrade() -> None:
    with ChildrenKept():
        with op.batch_alter_table("devices") as table:
            table.alter_column("credential", existing_type=sa.Text(), nullable=True)
            table.add_column(sa.Column("key", sa.Text(), nullable=True))
            table.add_column(sa.Column("state", sa.Text(), nullable=False, server_default="accepted"))
            table.add_column(sa.Column("reason", sa.Text(), nullable=False, server_default=""))
            table.add_column(sa.Column("turn", sa.BigInteger(), nullable=False, server_default="0"))
            table.add_column(sa.Column("expires", sa.Double(), nullable=False, server_default="0"))
            table.create_unique_constraint(op.f("uq_devices_key"), ["key"])
        with op.batch_alter_table("devices") as table:
            for name, kind in (
                ("state", sa.Text),
                ("reason", sa.Text),
                ("turn", sa.BigInteger),
                ("expires", sa.Double),
            ):
                table.alter_column(name, existing_type=kind(), existing_nullable=False, server_default=None)
    op.add_column("enrolments", sa.Column("approval", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("enrolments") as table:
        table.alter_column("approval", existing_type=sa.Boolean(), existing_nullable=False, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("enrolments") as table:
        table.drop_column("approval")
    op.execute("DELETE FROM devices WHERE credential IS NULL")
    with ChildrenKept(), op.batch_alter_table("devices") as table:
        table.drop_constraint(op.f("uq_devices_key"), type_="unique")
        for name in ("key", "state", "reason", "turn", "expires"):
            table.drop_column(name)
        table.alter_column("credential", existing_type=sa.Text(), nullable=False)
