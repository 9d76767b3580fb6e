"""``farshore hub``: the registry and hub of a fleet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from farshore.cli.logs import log_lines


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder of database, keys and objects.  [default: ./farshore-hub]"
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="TCP port to listen on.  [default: 8400]")
@click.option("--public-url", help="How devices reach this hub, when it is not the address it listens on.")
@click.option(
    "--store", help="Where blobs live: a folder, s3://BUCKET, az://CONTAINER or gs://BUCKET.  [default: DATA/objects]"
)
@click.option(
    "--direct",
    is_flag=True,
    default=None,
    help="Devices fetch from the store itself, by addresses that it signs (SAS, presigned).",
)
@click.option("--database", help="SQLAlchemy URL of the database.  [default: SQLite in DATA]")
@click.option(
    "--name", "names", multiple=True, help="Host name or address by which devices reach this hub; may be repeated."
)
@click.option("--certificate", help="TLS certificate chain, PEM.  [default: the hub makes its own beyond loopback]")
@click.option("--certificate-key", help="Its private key, PEM.")
@click.option(
    "--iothub-port", type=int, metavar="PORT", help="Speak IoT Hub's MQTT to its SDKs here; they know port 8883 alone."
)
@click.option("--iothub-websocket-port", type=int, metavar="PORT", help="The same over websockets.")
@click.option(
    "--iothub-client-ca", metavar="FILE", help="Authorities, PEM, whose certificates prove IoT Hub's X.509 devices."
)
@click.option(
    "--new-admin", is_flag=True, default=None, help="Print a setup link for the admin: for who lost every password."
)
@click.option("--insecure-http", is_flag=True, default=None, help="Plain HTTP also beyond this machine.")
@click.option("--client-ca", help="Admit only who has a TLS certificate by an authority in this PEM file (mTLS).")
@click.option(
    "--signed-by",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="KEY.pem",
    help="Verify OpenSSF Model Signing bundles among pushed files with this public key; may be repeated.",
)
@click.option("--oidc-issuer", metavar="URL", help="OpenID Connect issuer by which operators may log in.")
@click.option("--oidc-client-id", metavar="ID", help="This hub's client id there.")
@click.option("--oidc-client-secret-file", metavar="FILE", help="File with its secret.  [default: a public client]")
@click.option("--require-signature", is_flag=True, default=None, help="Refuse a push without such a bundle.")
def hub(signed_by: tuple[Path, ...], names: tuple[str, ...], **given: Any) -> None:
    """The registry and hub of a fleet.

    \b
    farshore hub --data /srv/farshore
    farshore hub --data /srv/farshore --host 0.0.0.0 --name hub.example
    farshore hub --data /srv/farshore --host 0.0.0.0 --certificate hub.pem --certificate-key hub.key
    farshore hub --data /srv/farshore --store s3://models/farshore
    farshore hub --data /srv/farshore --store az://models --direct
    farshore hub --data /srv/farshore --host 0.0.0.0 --name hub.example --iothub-port 8883
    farshore hub --data /srv/farshore --signed-by lab.pem --require-signature
    farshore hub --host 0.0.0.0 --oidc-issuer https://id.example --oidc-client-id farshore

    Beyond this machine it speaks TLS alone. Without a certificate it is its own authority, whose fingerprint goes out with every
    enrolment token.

    The first admin chooses a password by the one-time link that is printed at the start; on loopback alone there is a development
    token in DATA/admin.token instead. Every setting may also stand in a FARSHORE_HUB_…
    variable. The API is described at /docs.
    """
    from farshore.hub import settings
    from farshore.hub.app import run

    log_lines()
    believed = os.pathsep.join(str(path) for path in signed_by) or None
    run(settings.read(os.environ, signed_by=believed, names=",".join(names) or None, **given))
