"""``farshore hub``: the registry and hub of a fleet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from farshore.cli.output import log_lines


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder of database, keys and objects.  [default: ./farshore-hub]"
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="TCP port to listen on.  [default: 8400]")
@click.option("--public-url", help="How devices reach this hub, when it is not the address it listens on.")
@click.option("--store", help="Where blobs live: a folder, s3://…, az://… or gs://….  [default: DATA/objects]")
@click.option("--database", help="SQLAlchemy URL of the database.  [default: SQLite in DATA]")
@click.option("--certificate", help="TLS certificate chain, PEM.")
@click.option("--certificate-key", help="Its private key, PEM.")
def hub(**given: Any) -> None:
    """The registry and hub of a fleet.

    \b
    farshore hub --data /srv/farshore
    farshore hub --data /srv/farshore --host 0.0.0.0 --certificate hub.pem --certificate-key hub.key
    farshore hub --data /srv/farshore --store s3://models/farshore

    Operators authenticate with a token; the first one is in DATA/admin.token. Every setting may also stand in a FARSHORE_HUB_…
    variable. The API is described at /docs.
    """
    from farshore.hub import settings
    from farshore.hub.app import run

    log_lines()
    run(settings.read(os.environ, **given))
