"""Watching something on the hub: in place on a terminal, a line for each change where output is piped, over restarts of the hub."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from farshore.cli.output import console
from farshore.core.errors import Unavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

POLL = 1.0
"""Seconds between two looks."""

Json = dict[str, Any]


def follow(
    ask: Callable[[], Json],
    over: Callable[[Json], bool],
    line: Callable[[Json], str],
    picture: Callable[[Json], RenderableType],
) -> None:
    """Show something again and again until it is over. Ctrl-C leaves it.

    Args:
        ask: gets it as it stands.
        over: whether nothing more will happen.
        line: says in one line how it stands.
        picture: draws it for a terminal.

    Raises:
        FarshoreError: the first look fails, or the hub refuses one; while it is away it is asked again.

    """
    if not sys.stdout.isatty():
        last = ""
        for found, trouble in _looks(ask, over):
            said = trouble or line(found)
            if said != last:
                click.echo(said)
                sys.stdout.flush()
            last = said
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=console(), auto_refresh=False, transient=False) as live:
        for found, trouble in _looks(ask, over):
            live.update(Group(picture(found), *([Text(trouble, "yellow")] if trouble else [])), refresh=True)


def _looks(ask: Callable[[], Json], over: Callable[[Json], bool]) -> Iterator[tuple[Json, str]]:
    """It as it stands, and what is wrong with the hub meanwhile."""
    found, trouble = ask(), ""
    while True:
        yield found, trouble
        if over(found) and not trouble:
            return
        time.sleep(POLL)
        try:
            found, trouble = ask(), ""
        except Unavailable as error:
            trouble = error.message
