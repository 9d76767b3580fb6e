"""How commands print: tables for people, JSON for programs, progress on a terminal only."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def console(*, error: bool = False) -> Console:
    """A console that never breaks words, lines or colours when piped."""
    stream = sys.stderr if error else sys.stdout
    piped = not stream.isatty()
    return Console(file=stream, highlight=False, soft_wrap=piped, width=1000 if piped else None)


def print_json(value: Any) -> None:
    """``value`` as indented JSON, Unicode as it is."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "none") -> None:
    """A table of ``rows``; ``empty`` says what it means that there are none. Column names that begin with ``>`` align right."""
    if not rows:
        click.echo(empty)
        return
    console().print(table(columns, rows))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """``rows`` under ``columns``, as :func:`print_table` prints them."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        made.add_row(*("" if cell is None else _safe(str(cell)) for cell in row))
    return made


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Name and value, one pair a line; pairs without a value are left out."""
    shown = [(name, value) for name, value in facts if value not in (None, "", [], {}, ())]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {_plain(str(value))}")


def print_timeline(lines: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What happened to something, as the hub tells it."""
    if as_json:
        print_json(lines)
        return
    rows = [(one["at"][:19].replace("T", " "), one["kind"], one.get("detail", "")) for one in lines]
    print_table(["at", "what", ""], rows, empty="nothing that the feed remembers")


def megabytes(size: float) -> str:
    """Bytes for people: decimal units, as links are sold."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{int(size)} B"


class Advance(Protocol):
    """Tells a progress bar that ``count`` more bytes are done."""

    def __call__(self, count: int) -> None: ...


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """A progress bar on standard error for ``total`` bytes; silent when that is no terminal."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console(error=True), transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with bar:
        task = bar.add_task(_safe(what), total=total)
        yield lambda count: bar.advance(task, count)


def _plain(text: str) -> str:
    """Text from outside as a terminal may show it: no control characters."""
    return "".join(char if char >= " " and not "\x7f" <= char <= "\x9f" else "·" for char in text)


def _safe(text: str) -> str:
    """The same for where square brackets are markup."""
    return _plain(text).replace("[", r"\[")
