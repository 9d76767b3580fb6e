"""``farshore keys``: who may speak for your models."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farshore.cli.connection import with_hub
from farshore.cli.output import json_option, print_json, print_table
from farshore.core.errors import Denied

if TYPE_CHECKING:
    from farshore.client import Hub
    from farshore.client.ceremony import Ceremony

VARIABLE = "FARSHORE_KEYS_PASSPHRASE"
RING = click.option(
    "--ring", type=click.Path(path_type=Path), default=Path("farshore-keys"), show_default=True, envvar="FARSHORE_KEYS",
    help="Folder of the key ring.  [env: FARSHORE_KEYS]",
)  # fmt: skip
SEAL = click.option("--seal", is_flag=True, help=f"Ask for a passphrase that seals new key files.  [env: {VARIABLE}]")

DUTIES = {
    "root": "says who may hold all other keys; several sign together. Offline: sticks, safes, different people",
    "targets": "says who may publish which model, and which hub directs. Offline",
    "publisher": "stands for versions of its models. Where you push from",
    "snapshot": "says which documents belong together. In the hub, never leaves it",
    "timestamp": "says which snapshot is the present one. In the hub, never leaves it",
    "director": "tells each device what it should run now. In the hub, never leaves it",
}


@click.group()
def keys() -> None:
    """Keys: who may speak for your models.

    A hub that is tried out keeps all keys itself (a development hub). Before you rely on it, take the keys that matter out of it:

    \b
    farshore keys init                 make a key ring, and take the hub over
    farshore keys status               who signs what, and until when
    farshore keys renew                sign everything for a new term (yearly)
    farshore keys rotate publisher     put new keys in the place of old ones
    farshore keys revoke KEYID         the same for one key that was lost or stolen
    farshore keys allow MODEL          let a publisher release a model
    farshore keys withdraw MODEL --below 7     forbid old versions, on every device

    docs/security.md says what a thief of each key can do, and how to recover.
    """


@keys.command()
@RING
@click.option("--roots", type=int, default=3, show_default=True, help="How many root keys.")
@click.option("--threshold", type=int, default=2, show_default=True, help="How many of them must sign together.")
@SEAL
@with_hub
def init(hub: Hub, ring: Path, roots: int, threshold: int, seal: bool) -> None:
    """Make a key ring, and take the hub over from its development keys.

    Devices that are enrolled already follow by themselves. From then on `farshore model push` signs with the ring.

    \b
    farshore keys init --ring ./farshore-keys
    """
    from farshore.client.ceremony import Ceremony
    from farshore.client.ring import Ring

    Ceremony(Ring.make(ring, _ask), hub).begin(roots, threshold, _passphrase(seal))
    click.echo(f"the hub at {hub.url} believes these keys now, and has deleted its own copies:\n")
    for name, where in (
        (f"root-1 … root-{roots}", f"any {threshold} sign together. Move each to another stick, safe or person"),
        ("targets", "needed when a publisher changes. Keep it offline"),
        ("publisher", "signs every push. Keep it where you push from"),
    ):
        click.echo(f"  {name:18} {where}")
    click.echo(f"\nThey are in {ring}/, with a README. Make a backup before you go on: nobody can make them again.")


@keys.command()
@RING
@json_option
@with_hub
def status(hub: Hub, ring: Path, as_json: bool) -> None:
    """Show who signs what, and until when.

    \b
    farshore keys status
    """
    rows, development = _status(hub, ring)
    if as_json:
        print_json({"development": development, "roles": rows})
        return
    if development:
        click.echo("development: the hub holds all keys itself; `farshore keys init` takes them out\n")
    print_table(
        ["role", ">version", "signs", "until", "keys", "here"],
        [
            (row["role"], row["version"], f"{row['threshold']} of {len(row['keys'])}", row["expires"] or "7 d each",
             " ".join(row["keys"]), " ".join(row["here"]))
            for row in rows
        ],
    )  # fmt: skip
    click.echo("")
    for name, duty in DUTIES.items():
        click.echo(f"{name:10} {duty}")


@keys.command()
@click.argument("what", type=click.Choice(["root", "targets", "publisher", "hub"]))
@RING
@SEAL
@with_hub
def rotate(hub: Hub, what: str, ring: Path, seal: bool) -> None:
    """Put new keys in the place of old ones. ``hub``: the hub's own three.

    \b
    farshore keys rotate publisher
    """
    _ceremony(hub, ring).rotate(what, _passphrase(seal))
    click.echo(f"{what}: new keys count from now on; devices learn it at their next sync. Delete the old files.")


@keys.command()
@click.argument("keyid")
@RING
@SEAL
@with_hub
def revoke(hub: Hub, keyid: str, ring: Path, seal: bool) -> None:
    """Replace one key that was lost or stolen; `status` shows the ids.

    \b
    farshore keys revoke 5f2a9c0d11e3b7a4
    """
    role = _ceremony(hub, ring).revoke(keyid, _passphrase(seal))
    click.echo(f"{keyid} counts for nothing any more; {role} has a new key. Devices learn it at their next sync.")


@keys.command()
@RING
@with_hub
def renew(hub: Hub, ring: Path) -> None:
    """Sign everything that this ring can sign for a new term.

    \b
    farshore keys renew
    """
    _ceremony(hub, ring).renew()
    click.echo("signed for a new term: `farshore keys status` shows until when")


@keys.command()
@click.argument("model")
@click.option("--publisher", metavar="ed25519:…", help="Public key of another publisher.  [default: this ring's]")
@RING
@with_hub
def allow(hub: Hub, model: str, publisher: str | None, ring: Path) -> None:
    """Let a publisher's key release a model; needs the targets key.

    \b
    farshore keys allow detector
    farshore keys allow detector --publisher ed25519:AAAA…
    """
    from farshore.core.trust import PublicKey

    _ceremony(hub, ring).allow(model, None if publisher is None else PublicKey.parse(publisher))
    click.echo(f"{model} may be published")


@keys.command()
@click.argument("model")
@click.option("--below", type=click.IntRange(2), required=True, help="Lowest version that stays.")
@RING
@with_hub
def withdraw(hub: Hub, model: str, below: int, ring: Path) -> None:
    """Forbid all versions of a model below a number: no device installs them or goes back to them, by anyone's order.

    \b
    farshore keys withdraw detector --below 7
    """
    _ceremony(hub, ring).withdraw(model, below)
    click.echo(f"{model}: versions below {below} are not installed any more; what runs goes on until it is replaced")


def publisher_of(hub: Hub, ring: Path | None) -> Callable[[Any], bytes]:
    """What signs a push: the ring's publisher key, opened only if the hub asks for it."""

    def sign(draft: Any) -> bytes:
        if ring is None:
            raise Denied(
                "versions are published here with their publisher's signature: name the key ring (--keys RING)"
            )
        return _ceremony(hub, ring).sign(draft)

    return sign


def _ceremony(hub: Hub, ring: Path) -> Ceremony:
    from farshore.client.ceremony import Ceremony
    from farshore.client.ring import Ring

    return Ceremony(Ring(ring, _ask), hub)


def _status(hub: Hub, ring: Path) -> tuple[list[dict[str, Any]], bool]:
    from farshore.client.ceremony import verified
    from farshore.client.ring import Ring
    from farshore.trust import repository

    published, chain = verified(hub, None)
    assert chain.targets is not None
    mine = Ring(ring, _ask).publics() if ring.is_dir() else {}
    delegated = [(f"model/{name}", one) for name, one in repository.publishers_of(chain.targets.signed).items()]
    top = [
        (role, repository.holders_of(chain.root.signed, role)) for role in ("root", "targets", "snapshot", "timestamp")
    ]
    top.append(("director", repository.holders_of(chain.targets.signed, "director")))
    documents: dict[str, Any] = {
        "root": chain.root,
        "targets": chain.targets,
        "snapshot": chain.snapshot,
        "timestamp": chain.timestamp,
    }
    rows = []
    for role, holders in [*top, *delegated]:
        document = documents.get(role) or chain.roles.get(role)
        ids = [str(key.id) for key in holders.keys]
        rows.append({
            "role": role, "version": None if document is None else document.version, "threshold": holders.threshold,
            "keys": ids, "here": [mine[key.id][0] for key in holders.keys if key.id in mine],
            "expires": None if document is None else f"{document.signed.expires:%Y-%m-%d}",
            "left": None if document is None else int(document.signed.expires.timestamp() - time.time()),
        })  # fmt: skip
    return rows, published.development


def _passphrase(seal: bool) -> bytes | None:
    given = os.environ.get(VARIABLE)
    if given:
        return given.encode()
    if not seal:
        return None
    return str(click.prompt("Passphrase of the new files", hide_input=True, confirmation_prompt=True)).encode()


def _ask(name: str) -> bytes:
    given = os.environ.get(VARIABLE)
    return (given or str(click.prompt(f"Passphrase of {name}", hide_input=True))).encode()
