"""How a command finds its hub: an address and an operator's token."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from farshore.cli import logins
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
        help=f"URL of the hub.  [env: FARSHORE_HUB; else where you logged in; else {URL}]",
    )
    @click.option(
        "--token",
        envvar="FARSHORE_TOKEN",
        help=f"Operator's API token, or @FILE.  [env: FARSHORE_TOKEN; else from login; else ./{TOKEN_FILE}]",
    )
    @click.option(
        "--ca",
        envvar="FARSHORE_CA",
        type=click.Path(path_type=Path),
        help="PEM file with the only authorities to believe.",
    )
    @click.option(
        "--certificate",
        envvar="FARSHORE_CERTIFICATE",
        type=click.Path(path_type=Path),
        help="PEM file with your TLS certificate and its key, for a hub that asks for one.",
    )
    @click.option(
        "--insecure-http", is_flag=True, envvar="FARSHORE_INSECURE_HTTP", help="Plain HTTP to another machine."
    )
    @functools.wraps(command)
    def wrapped(
        url: str | None, token: str | None, ca: Path | None, certificate: Path | None, insecure_http: bool, **given: Any
    ) -> Any:
        from farshore.client import Hub

        login = logins.present()
        url = url or (login.hub if login else URL)
        here = login is not None and login.hub == url.rstrip("/")
        secret = login.token if login is not None and here and not token else _token(token)
        insecure = insecure_http or (login is not None and here and login.insecure)
        client: Hub = Hub(url, secret, ca or logins.authority(url), insecure=insecure, certificate=certificate)
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
        "no operator's token: farshore login URL, or give --token or FARSHORE_TOKEN; on its own machine a hub has one in admin.token in its data folder"
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
