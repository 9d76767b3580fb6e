"""``farshore login``: be known to a hub from here."""

from __future__ import annotations

from pathlib import Path

import click

from farshore.cli import logins
from farshore.core.errors import Invalid

DAY = 24 * 3600


@click.command()
@click.argument("url")
@click.option("--name", help="Your name there.  [default: asked for]")
@click.option("--pin", help="Fingerprint of the hub's own authority, as it says at its start.")
@click.option("--ca", type=click.Path(path_type=Path), help="PEM file with the only authorities to believe.")
@click.option(
    "--certificate",
    envvar="FARSHORE_CERTIFICATE",
    type=click.Path(path_type=Path),
    help="PEM file with your TLS certificate and its key, for a hub that asks for one.",
)
@click.option("--days", type=click.IntRange(1, 366), help="Life of the token.  [default: 90]")
@click.option("--insecure-http", is_flag=True, help="Speak plain HTTP to a hub on another machine.")
def login(
    url: str, name: str | None, pin: str | None, ca: Path | None, certificate: Path | None, days: int | None, insecure_http: bool,
) -> None:  # fmt: skip
    """Log in to a hub, or choose a password by a setup link.

    The token that is got by this is kept for all other commands, readable by you alone.

    \b
    farshore login 'https://hub.example:8400/setup#farshore1…'
    farshore login https://hub.example:8400 --pin 3KD5…
    """
    from farshore.client.login import Door, parse_link
    from farshore.tls import peer

    base, link = parse_link(url)
    pin = pin or (link.ca if link else "")
    kept = None
    if ca is not None:
        kept = ca.read_text()
    elif pin and base.startswith("https:"):
        kept = peer.fetch_authority(base, pin, certificate).decode()
    door = Door(base, logins.keep_authority(base, kept), insecure=insecure_http, certificate=certificate)
    if link is not None:
        password = click.prompt("New password", hide_input=True, confirmation_prompt=True)
        name = door.choose_password(link.secret, password)
        click.echo(f"You are {name}.")
    else:
        name = name or click.prompt("Name")
        password = click.prompt("Password", hide_input=True)
    made = door.log_in(name, password, None if days is None else days * DAY)
    logins.keep(base, made["token"], insecure=insecure_http)
    click.echo(f"Logged in to {base} as {name} until {made['expires'][:10]}; commands speak to it from now on.")


@click.command()
def logout() -> None:
    """Revoke the token that `farshore login` got, and forget it."""
    from farshore.client import Hub
    from farshore.core.errors import FarshoreError

    found = logins.present()
    if found is None:
        raise Invalid("you are not logged in")
    hub = Hub(found.hub, found.token, logins.authority(found.hub), insecure=found.insecure)
    try:
        hub.delete_token(hub.me()["via"].removeprefix("token:"))
    except FarshoreError as error:
        click.echo(f"the hub was not told: {error.message}", err=True)
    logins.forget()
    click.echo(f"Logged out of {found.hub}")
