"""``farshore operator`` and ``farshore audit``: who may use a hub, and what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from farshore.cli.connection import with_hub
from farshore.cli.output import json_option, print_json, print_table
from farshore.core.errors import Invalid

if TYPE_CHECKING:
    from farshore.client import Hub

ROLES = ("viewer", "operator", "publisher", "admin")
DAY = 24 * 3600

roles_option = click.option(
    "--role", "roles", multiple=True, metavar="ROLE[:FLEET]",
    help="viewer, operator, publisher or admin, on one fleet or on all; repeatable.",
)  # fmt: skip


@click.group()
def operator() -> None:
    """Operators: add them, give them roles on fleets, make tokens for programs."""


@operator.command()
@click.argument("name")
@roles_option
@click.option("--oidc", metavar="SUBJECT|EMAIL", help="Who they are to the hub's OpenID Connect issuer; '' ends that.")
@json_option
@with_hub
def add(hub: Hub, name: str, roles: tuple[str, ...], oidc: str | None, as_json: bool) -> None:
    """Add an operator, change their roles, or let them choose a new password. Prints a one-time link for them.

    A device belongs to the fleet in its tag `fleet`, a model to the one that its name begins with: `north.detector`.

    \b
    farshore operator add kari --role operator:north --role viewer
    farshore operator add kari --role viewer --oidc kari@example.org
    """
    made = hub.put_operator(name, grants(roles) if roles else _held(hub, name), oidc)
    if as_json:
        print_json(made)
        return
    if "setup" not in made:
        click.echo(f"{name} logs in through the issuer, as {made['oidc']}, at {hub.url}/login/oidc")
        return
    click.echo(made["setup"])
    click.echo(f"\n{name} chooses a password there, within a day: in a browser, or farshore login 'LINK'", err=True)


@operator.command("list")
@json_option
@with_hub
def list_(hub: Hub, as_json: bool) -> None:
    """List operators and their roles.

    \b
    farshore operator list
    """
    items = hub.operators()
    if as_json:
        print_json(items)
        return
    rows = [(o["name"], _grants(o), "active" if o["active"] else "invited", o["created"][:10]) for o in items]
    print_table(["operator", "roles", "state", "since"], rows, empty="no operators yet: farshore operator add")


@operator.command()
@click.argument("name")
@with_hub
def remove(hub: Hub, name: str) -> None:
    """Remove an operator; their tokens and sessions end at once.

    \b
    farshore operator remove kari
    """
    hub.delete_operator(name)
    click.echo(f"{name} is removed")


@operator.command()
@click.argument("name", required=False)
@click.option("--days", type=click.IntRange(1, 366), help="Life of the token.  [default: 90]")
@roles_option
@click.option("--revoke", metavar="ID", help="Make the token with this id worthless instead.")
@json_option
@with_hub
def token(
    hub: Hub, name: str | None, days: int | None, roles: tuple[str, ...], revoke: str | None, as_json: bool
) -> None:
    """Make an API token for a program, revoke one, or list those there are.

    A token may do at most what you may.

    \b
    farshore operator token ci --role publisher:north --days 30
    farshore operator token
    farshore operator token --revoke 3fe0…
    """
    if revoke is not None:
        hub.delete_token(revoke)
        click.echo(f"{revoke} is revoked")
    elif name is not None:
        made = hub.create_token(name, None if days is None else days * DAY, grants(roles) if roles else None)
        print_json(made) if as_json else click.echo(made["token"])
    else:
        items = hub.tokens()
        if as_json:
            print_json(items)
            return
        rows = [(t["id"], t["name"], t["operator"], _grants(t), t.get("expires", "never")[:10]) for t in items]
        print_table(["id", "name", "operator", "roles", "until"], rows, empty="no tokens")


@click.command()
@click.option("--after", type=int, help="Begin behind this line.  [default: the newest]")
@click.option("--search", default="", help="Only lines with this in who, what was done, or to what.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Most lines.")
@json_option
@with_hub
def audit(hub: Hub, after: int | None, search: str, limit: int, as_json: bool) -> None:
    """Who changed what, and when.

    \b
    farshore audit
    farshore audit --search kari
    farshore audit --json --after 0 --limit 1000
    """
    items = hub.audit(after, limit, search)
    if as_json:
        print_json(items)
        return
    rows = [(i["serial"], i["at"][:19].replace("T", " "), i["who"], i["action"], i["subject"]) for i in items]
    print_table([">line", "when", "who", "did", "to"], rows, empty="nothing was changed yet")


def grants(roles: tuple[str, ...]) -> list[dict[str, str]]:
    """``role[:fleet]`` texts as the API's grants.

    Raises:
        Invalid: one is none.

    """
    found = []
    for text in roles:
        role, colon, fleet = text.partition(":")
        if role not in ROLES or (colon and not fleet):
            raise Invalid(
                f"--role {text[:60]!r}: write {', '.join(ROLES)}, or one of them with a fleet: operator:north"
            )
        found.append({"role": role, "fleet": fleet or "*"})
    return found


def _held(hub: Hub, name: str) -> list[dict[str, str]]:
    for one in hub.operators():
        if one["name"] == name:
            held: list[dict[str, str]] = one["grants"]
            return held
    raise Invalid("give the new operator a role: --role viewer, --role operator:north …")


def _grants(found: dict[str, Any]) -> str:
    return ", ".join(one["role"] + ("" if one["fleet"] == "*" else f":{one['fleet']}") for one in found["grants"])
