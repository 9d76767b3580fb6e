"""Logging in: from a name and a password, or a setup link, to an API token."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from farshore.core import errors, invitation
from farshore.core.errors import Invalid, Unavailable
from farshore.core.invitation import Invitation
from farshore.tls import peer

MAX_REPLY = 1 << 20


def parse_link(text: str) -> tuple[str, Invitation | None]:
    """A hub's address, and what a setup link to it says behind its ``#``; None for a plain address.

    Raises:
        Invalid: it is neither.

    """
    url, hash_, said = text.partition("#")
    if not hash_:
        return url.rstrip("/"), None
    if not url.endswith("/setup"):
        raise Invalid("this is no setup link: give it as the hub printed it, whole and in quotes")
    try:
        return url.removesuffix("/setup"), invitation.parse(said)
    except Invalid:
        raise Invalid("this is no setup link: give it as the hub printed it, whole and in quotes") from None


class Door:
    """A hub before one is known there.

    Args:
        url: where it is.
        ca: PEM file with the only authorities to believe; None for the system's.
        insecure: plain HTTP may leave this machine.
        certificate: our own with its key (PEM), for a hub that admits only who has one.

    """

    def __init__(
        self, url: str, ca: Path | None = None, *, insecure: bool = False, certificate: Path | None = None
    ) -> None:
        peer.check_address(url, insecure=insecure)
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(
            retries=False, timeout=60, ssl_context=peer.context(ca, certificate=certificate)
        )

    def choose_password(self, secret: str, password: str) -> str:
        """Use a setup link up; the operator's name."""
        told, _ = self._post("/v1/setup", {"secret": secret, "password": password})
        return str(told["name"])

    def log_in(self, name: str, password: str, seconds: int | None = None) -> Any:
        """A new API token for the person with this name; it is in ``token``."""
        told, headers = self._post("/v1/login", {"name": name, "password": password})
        cookie = headers.get("Set-Cookie", "").partition(";")[0]
        kept = {"Cookie": cookie, "X-CSRF-Token": told["csrf"]}
        asked: dict[str, Any] = {"name": f"farshore login on {socket.gethostname()}"[:100]}
        made, _ = self._post("/v1/tokens", asked if seconds is None else {**asked, "seconds": seconds}, kept)
        self._post("/v1/logout", {}, kept)
        return made

    def _post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[Any, Any]:
        try:
            response = self._pool.request(
                "POST", self._url + path, body=msgspec.json.encode(body), redirect=False, preload_content=False,
                headers={"Content-Type": "application/json", **(headers or {})},
            )  # fmt: skip
            data = response.read(MAX_REPLY)
            response.release_conn()
        except (HTTPError, OSError) as error:
            raise Unavailable(f"no hub answers at {self._url} ({' '.join(str(error).split())[:200]})") from error
        try:
            told = msgspec.json.decode(data) if data else {}
            if response.status >= 300:
                raise errors.from_code(str(told["error"]["code"]), str(told["error"]["message"])[:1000])
        except (msgspec.DecodeError, KeyError, TypeError):
            raise Unavailable(f"{self._url} answered {response.status} and not as a Farshore hub does") from None
        return told, response.headers


def host_of(url: str) -> str:
    """Host and port of an address, as a file's name."""
    return urlsplit(url).netloc.replace(":", "_").replace("[", "").replace("]", "")
