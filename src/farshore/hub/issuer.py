"""An OpenID Connect issuer: log-ins are begun towards it, and their codes changed for who it was.

Authorisation code flow with PKCE (OpenID Connect Core 1.0, RFC 7636, RFC 9207). A log-in is bound to one browser by a secret in
its cookie; state, nonce and PKCE verifier are hashes of that secret, so that the hub keeps nothing of what was begun. This is the
only place of the hub that asks another server anything: the configured issuer, and what its own document names.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import urllib3

from farshore.core.errors import Denied, Invalid, Unavailable
from farshore.hub import auth, idtokens, moments
from farshore.hub.idtokens import Expected, Person
from farshore.tls import peer

MAX_ANSWER = 64 << 10
MAX_CODE = 2048
LOGIN_SECONDS = 600
KEPT_SECONDS = 3600.0
AGAIN_SECONDS = 60.0
"""Least time between two looks at the issuer's keys."""
TIMEOUT = urllib3.Timeout(connect=5.0, read=10.0)


class Begun(NamedTuple):
    """A log-in that was begun: the ``cookie`` that binds it to a browser, and the ``address`` to send that to."""

    cookie: str
    address: str


class Issuer:
    """One issuer, as the hub is known to it. Threads may share it.

    Args:
        url: the issuer's own name, below which its document lies.
        client: the hub's client id there.
        secret: file with the client's secret; None for a public client.
        returns: where the issuer sends browsers back to.
        clock: tells the time.

    Raises:
        Invalid: the address is not https and not on this machine; no client id; the file cannot be read.

    """

    def __init__(self, url: str, client: str, secret: Path | None, returns: str, clock: moments.Clock) -> None:
        self._url = _checked(url, url)
        if not client:
            raise Invalid("--oidc-issuer needs --oidc-client-id")
        try:
            self._secret = secret.read_text().strip() if secret else ""
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"--oidc-client-secret-file {secret}: cannot be read: {error}") from None
        self._client, self._returns, self._clock = client, returns, clock
        self._pool = urllib3.PoolManager(num_pools=4, maxsize=4, timeout=TIMEOUT, retries=False)
        self._lock = threading.Lock()
        self._document: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, list[Any]] | None = None

    def begin(self) -> Begun:
        """Begin a log-in.

        Raises:
            Unavailable: the issuer does not answer, or not as one.

        """
        cookie = f"{int(self._clock()) + LOGIN_SECONDS}.{auth.make_secret()}"
        asked = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": self._returns,
            "scope": "openid email",
            "state": derived(cookie, "state"),
            "nonce": derived(cookie, "nonce"),
            "code_challenge": _text(hashlib.sha256(derived(cookie, "verifier").encode()).digest()),
            "code_challenge_method": "S256",
        }
        address = self._place("authorization_endpoint")
        return Begun(cookie, f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}")

    def finish(self, cookie: str, state: str, code: str, issuer: str | None) -> Person:
        """Who has logged in.

        Args:
            cookie: of the browser that comes back.
            state: that it brings.
            code: that it brings.
            issuer: ``iss`` that it brings, if any.

        Raises:
            Denied: the log-in was begun elsewhere, is too old, or the issuer does not stand for it.
            Unavailable: the issuer does not answer, or not as one.

        """
        if not hmac.compare_digest(state.encode(), derived(cookie, "state").encode()) or not cookie:
            raise Denied("this log-in was begun in another browser: log in again")
        until = cookie.partition(".")[0]  # state is a hash of it as well: a changed one does not get this far
        if not (until.isascii() and until.isdigit()) or self._clock() >= int(until[:16]):
            raise Denied("this log-in took too long: log in again")
        if issuer is not None and issuer != self._url:
            raise Denied("this log-in comes from another issuer")
        if not 0 < len(code) <= MAX_CODE:
            raise Denied("the issuer gave no code: log in again")
        token = self._change(code, derived(cookie, "verifier"))
        expected = Expected(self._url, self._client, derived(cookie, "nonce"))
        return idtokens.check(token, self._keys_for(token), expected, self._clock())

    def _change(self, code: str, verifier: str) -> str:
        """The ID token for a code."""
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self._returns, "client_id": self._client,
            "code_verifier": verifier,
        }  # fmt: skip
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self._secret:
            pair = f"{quote(self._client, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        status, told = self._ask("POST", self._place("token_endpoint"), headers, urlencode(form))
        if status in {400, 401, 403}:
            raise Denied("the issuer does not take this log-in's code: log in again")
        token = told.get("id_token")
        if status != 200 or not isinstance(token, str):
            raise Unavailable(f"the issuer gave no ID token (status {status})")
        return token

    def _place(self, name: str) -> str:
        """An address from the issuer's own document."""
        with self._lock:
            held = self._document
        if held is None or self._clock() >= held[0] + KEPT_SECONDS:
            status, found = self._ask("GET", self._url.rstrip("/") + "/.well-known/openid-configuration")
            if status != 200 or found.get("issuer") != self._url:
                raise Unavailable(f"{self._url} is no OpenID Connect issuer of that very name (status {status})")
            held = (self._clock(), found)
            with self._lock:
                self._document = held
        place = held[1].get(name)
        if not isinstance(place, str):
            raise Unavailable(f"the issuer's document names no {name}")
        try:
            return _checked(place, self._url)
        except Invalid as error:
            raise Unavailable(f"the issuer's {name}: {error.message}") from None

    def _keys_for(self, token: str) -> list[Any]:
        """The issuer's keys; asked for anew if they are old, or the token's is not among them."""
        with self._lock:
            held = self._keys
        age = self._clock() - held[0] if held else KEPT_SECONDS
        if held is None or age >= KEPT_SECONDS or (age >= AGAIN_SECONDS and not idtokens.knows(token, held[1])):
            status, found = self._ask("GET", self._place("jwks_uri"))
            keys = found.get("keys")
            if status != 200 or not isinstance(keys, list):
                raise Unavailable(f"the issuer gave no keys (status {status})")
            held = (self._clock(), keys)
            with self._lock:
                self._keys = held
        return held[1]

    def _ask(
        self, method: str, address: str, headers: dict[str, str] | None = None, body: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """One request, to exactly that address, with a bounded answer."""
        plain = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
        try:
            answer = self._pool.request(
                method, address, body=body, headers=plain, redirect=False, preload_content=False, decode_content=False
            )
            try:
                data = answer.read(MAX_ANSWER + 1, decode_content=False)
                status = answer.status
            finally:
                answer.close()
            if len(data) > MAX_ANSWER:
                raise Unavailable(f"the issuer's answer is longer than {MAX_ANSWER} bytes")
            return status, msgspec.json.decode(data, type=dict[str, Any])
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"the issuer does not answer: {str(error)[:200]}") from None
        except (msgspec.DecodeError, RecursionError):
            raise Unavailable(f"the issuer's answer is no JSON (status {status})") from None


def derived(cookie: str, what: str) -> str:
    """What a log-in says of itself for one use; nothing of it tells the cookie, or the other uses."""
    return _text(hashlib.sha256(f"farshore-oidc/1\n{what}\n{cookie}".encode()).digest())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _checked(address: str, issuer: str) -> str:
    """An address that may be asked: https, or on this machine if the issuer itself is."""
    try:
        parts, own = urlsplit(address), urlsplit(issuer)
        host, home = parts.hostname or "", own.hostname or ""
        _ = parts.port
    except ValueError:
        raise Invalid(f"{address[:200]!r} is no address") from None
    near = parts.scheme == "http" and peer.is_loopback(host) and peer.is_loopback(home)
    if not host or parts.username is not None or parts.fragment or not (parts.scheme == "https" or near):
        raise Invalid(f"{address[:200]!r}: an https:// address is needed")
    return address
