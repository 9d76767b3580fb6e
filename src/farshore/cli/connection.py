"""How a command finds its hub: an address and an operator's token."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from farshore.core.errors import Invalid, Unauthenticated

if TYPE_CHECKING:
    from farshore.client import Hub

F = TypeVar("F", bound=Callable[..., Any])

URL = "http://127.0.0.1:8400"
TOKEN_FILE = Path("farshore-hub") / "admin.token"


def with_hub(command: F) -> Callable[..., Any]:
    """Give a command ``--hub``, ``--token`` and ``--ca``, and as its first argument the client they make."""

    @click.option(
        "--hub",
        "url",
        envvar="FARSHORE_HUB",
        default=URL,
        show_default=True,
        help="URL of the hub.  [env: FARSHORE_HUB]",
    )
    @click.option(
        "--token",
        envvar="FARSHORE_TOKEN",
        help=f"Operator's API token, or @FILE.  [env: FARSHORE_TOKEN; else ./{TOKEN_FILE}]",
    )
    @click.option(
        "--ca",
        envvar="FARSHORE_CA",
        type=click.Path(path_type=Path),
        help="PEM file with the only authorities to believe.",
    )
    @functools.wraps(command)
    def wrapped(url: str, token: str | None, ca: Path | None, **given: Any) -> Any:
        from farshore.client import Hub

        client: Hub = Hub(url, _token(token), ca)
        return command(client, **given)

    return wrapped


def _token(given: str | None) -> str:
    """The token as it was given, or from a file: the hub writes its first one where it is started."""
    if given and not given.startswith("@"):
        return given.strip()
    path = Path(given[1:]) if given else TOKEN_FILE
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        if given:
            raise Invalid(f"no token file {str(path)!r}") from None
    except OSError as error:
        raise Invalid(f"{path}: cannot be read ({error.strerror})") from error
    raise Unauthenticated(
        "no operator's token: give --token or set FARSHORE_TOKEN; the hub's first one is in admin.token in its data folder"
    )


def pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    """``key=value`` texts as a dict.

    Raises:
        Invalid: one has no ``=``.

    """
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise Invalid(f"{option} {text[:60]!r}: write {option} key=value")
        found[key] = value
    return found


def environment_hint(url: str, token_file: Path) -> str:
    """Shell lines after which every command speaks to that hub."""
    return f"export FARSHORE_HUB={url} FARSHORE_TOKEN=@{os.fspath(token_file)}"
