"""Where ``farshore login`` keeps what it got: one file with the hub and the token, and the authorities of hubs beside it."""

from __future__ import annotations

import os
from pathlib import Path

import click
from msgspec import Struct

from farshore.core import documents
from farshore.store import files


class Login(Struct, frozen=True, omit_defaults=True):
    """A hub, and the token for it."""

    hub: str
    token: str
    insecure: bool = False


def folder() -> Path:
    """The user's own folder for this; ``FARSHORE_CONFIG`` names another."""
    return Path(os.environ.get("FARSHORE_CONFIG") or click.get_app_dir("farshore"))


def present() -> Login | None:
    """The login that holds, if there is one.

    Raises:
        Invalid: its file is damaged.

    """
    path = folder() / "login.json"
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return documents.decode(data, Login, what=str(path))


def keep(hub: str, token: str, *, insecure: bool = False) -> None:
    """From now on commands speak to this hub."""
    files.make_folder(folder(), mode=0o700)
    files.write_atomic(folder() / "login.json", documents.canonical(Login(hub, token, insecure)), mode=0o600)


def forget() -> None:
    """Forget the login."""
    files.remove(folder() / "login.json")


def keep_authority(hub: str, pem: str | None) -> Path | None:
    """Believe only this authority for a hub from now on; with None, whom one believed before."""
    if pem is not None:
        files.make_folder(folder(), mode=0o700)
        files.write_atomic(_authority(hub), pem.encode())
    return authority(hub)


def authority(hub: str) -> Path | None:
    """The file with the authority that was kept for a hub."""
    return _authority(hub) if _authority(hub).exists() else None


def _authority(hub: str) -> Path:
    from farshore.client.login import host_of

    return folder() / f"{host_of(hub)}.pem"
