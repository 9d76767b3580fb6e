"""``farshore ledger``: what was moved, and what it cost. ``farshore link``: over which links, at which prices."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

import click

from farshore.agent.settings import parse_size
from farshore.cli.connection import with_hub
from farshore.cli.output import json_option, megabytes, print_json, print_table
from farshore.core.errors import Invalid

if TYPE_CHECKING:
    from farshore.client import Hub

KEYS = ("month", "day", "device", "model", "version", "rollout", "link")


@click.command()
@click.option(
    "--by", default="model,version", show_default=True, help=f"Sums by these, with commas: {', '.join(KEYS)}."
)
@click.option("--since", default="", metavar="DAY", help="From this day on, as 2026-11-01.")
@click.option("--until", default="", metavar="DAY", help="Up to this day.")
@click.option("--device", default="", help="Only this device.")
@click.option("--model", default="", help="Only this model.")
@click.option("--rollout", default="", help="Only this rollout.")
@click.option("--link", default="", help="Only this link.")
@click.option("--saved", is_flag=True, help="By version, against whole files.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@json_option
@with_hub
def ledger(hub: Hub, by: str, since: str, until: str, saved: bool, as_csv: bool, as_json: bool, **where: str) -> None:
    """What was really moved: bytes and money, by device, model, rollout and link.

    \b
    farshore ledger
    farshore ledger --by device --rollout prod-2
    farshore ledger --by day,link --since 2026-11-01 --csv > november.csv
    farshore ledger --saved --since 2026-11-01
    """
    if saved:
        _print_saved(hub.savings(since, until), as_csv=as_csv, as_json=as_json)
        return
    columns = [name for name in by.replace(" ", "").split(",") if name]
    found = hub.ledger(",".join(columns), since, until, **{name: value for name, value in where.items() if value})
    if as_json:
        print_json(found)
        return
    rows = [[*(one[name] for name in columns), one["bytes"], one["money"], one["currency"]] for one in found]
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow([*columns, "bytes", "money", "currency"])
        writer.writerows(rows)
        return
    shown = [[*row[:-3], megabytes(row[-3]), f"{row[-2]:.2f} {row[-1]}".strip() if row[-2] else ""] for row in rows]
    print_table([*columns, ">bytes", ">money"], shown, empty="nothing was moved yet")


def _print_saved(found: list[dict[str, Any]], *, as_csv: bool, as_json: bool) -> None:
    columns = ("model", "version", "devices", "bytes", "whole")
    if as_json:
        print_json(found)
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows([one[name] for name in columns] for one in found)
    else:
        rows = [
            (
                one["model"], one["version"] or "–", one["devices"], megabytes(one["bytes"]), megabytes(one["whole"]),
                f"{100 * (1 - one['bytes'] / one['whole']):.0f} %" if one["whole"] else "",
            )
            for one in found
        ]  # fmt: skip
        names = ["model", ">version", ">devices", ">moved", ">whole files, at least", ">saved"]
        print_table(names, rows, empty="nothing was moved yet")


@click.group()
def link() -> None:
    """Links that devices reach the hub through, with their prices and rates.

    A device names its link in its tag: farshore device tag turbine-7 link=iridium
    """


@link.command("list")
@json_option
@with_hub
def list_(hub: Hub, as_json: bool) -> None:
    """List links with their prices, rates, caps and windows.

    \b
    farshore link list
    """
    found = hub.links()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["name"],
            f"{one['price']:g} {one['currency']}".strip(),
            *(
                f"{megabytes(one[key])}{unit}" if one[key] else ""
                for key, unit in (("rate", "/s"), ("day", ""), ("month", ""))
            ),
            ", ".join(one["windows"]),
        )
        for one in found
    ]
    print_table(
        ["link", ">a megabyte", ">rate", ">a day", ">a month", "windows"],
        rows,
        empty="no links yet: farshore link set iridium --price 6 --currency EUR",
    )


@link.command("set")
@click.argument("name")
@click.option("--price", type=click.FloatRange(0), default=0.0, help="Of a megabyte (1 000 000 bytes).")
@click.option("--currency", default="", help="Of the price.")
@click.option(
    "--rate", default="0", help="Bytes a second that devices may use: 8000, 16kB, 1MB.  [default: as many as pass]"
)
@click.option("--day", default="0", help="Bytes that a device may move in a day.  [default: any]")
@click.option("--month", default="0", help="Bytes that a device may move in a month.  [default: any]")
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="WINDOW",
    help="Time of day in which devices may move bytes: 22:00-06:00 (theirs), 22:00-06:00Z (UTC).  [default: always]",
)
@with_hub
def set_(
    hub: Hub, name: str, price: float, currency: str, rate: str, day: str, month: str, windows: tuple[str, ...]
) -> None:
    """Set a link's price and what its devices heed. What was moved before keeps its price; days and months are UTC's.

    \b
    farshore link set iridium --price 6.50 --currency EUR --rate 16kB
    farshore link set lte --price 0.01 --currency EUR --day 50MB --month 1GB --window 22:00-06:00
    """
    if price and not currency:
        raise Invalid("a price needs a currency: --currency EUR")
    sizes = {key: parse_size(text) for key, text in (("rate", rate), ("day", day), ("month", month))}
    hub.put_link(name, price=price, currency=currency, windows=list(windows), **sizes)
    click.echo(f"{name}: {price:g} {currency} a megabyte".replace(": 0  a megabyte", ": free"))


@link.command()
@click.argument("name")
@with_hub
def delete(hub: Hub, name: str) -> None:
    """Forget a link; the ledger keeps what it cost.

    \b
    farshore link delete iridium
    """
    hub.delete_link(name)
    click.echo(f"{name} is deleted")
