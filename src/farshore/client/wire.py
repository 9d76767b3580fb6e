"""The way to a hub's operator API: requests out, answers in, other libraries' errors turned into ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from farshore import __version__
from farshore.core import errors
from farshore.core.errors import FarshoreError, NotFound, Unavailable
from farshore.tls import peer

Json = Any

PAGE = 1000
MAX_REPLY = 64 << 20
_TIMEOUT = urllib3.Timeout(connect=10, read=300)


class Wire:
    """What the operator API's methods are made of.

    Args:
        url: where the hub is.
        token: an operator's API token.
        ca: PEM file with the only authorities to believe; None for the system's.
        insecure: plain HTTP may leave this machine.
        certificate: our own with its key (PEM), for a hub that admits only who has one.

    """

    def __init__(
        self, url: str, token: str, ca: Path | None = None, *, insecure: bool = False, certificate: Path | None = None
    ) -> None:
        peer.check_address(url, insecure=insecure)
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": f"farshore/{__version__}"}
        self._pool = urllib3.PoolManager(
            retries=False, timeout=_TIMEOUT, ssl_context=peer.context(ca, certificate=certificate)
        )

    def _pages(self, path: str, cursor: str, **query: Any) -> Iterator[Json]:
        query["limit"] = PAGE
        while True:
            page = self._call("GET", f"{path}?{urlencode(query)}")
            yield from page["items"]
            if page.get("next") is None:
                return
            query[cursor] = page["next"]

    def _call(self, method: str, path: str, body: Json = None, headers: Mapping[str, str] | None = None) -> Json:
        data = None if body is None else msgspec.json.encode(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        with self._open(method, path, data, {**kind, **(headers or {})}) as response:
            text = self._read(response)
        try:
            return msgspec.json.decode(text) if text else None
        except msgspec.DecodeError:
            raise Unavailable(f"{self.url} did not answer in JSON: is it a Farshore hub?") from None

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        try:
            response = self._pool.request(
                method, self.url + path, body=body, headers={**self._headers, **(headers or {})},
                preload_content=False, redirect=False,
            )  # fmt: skip
        except (HTTPError, OSError) as error:
            raise self._away(error) from error
        try:
            if response.status >= 300:
                raise self._refusal(response, path)
            yield response
        except BaseException:
            response.close()
            raise
        response.release_conn()

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        try:
            data = response.read(MAX_REPLY + 1)
        except HTTPError as error:
            raise self._away(error) from error
        if len(data) > MAX_REPLY:
            raise Unavailable(f"{self.url} answered with more than {MAX_REPLY} bytes")
        return data

    def _refusal(self, response: urllib3.BaseHTTPResponse, path: str) -> FarshoreError:
        status = response.status
        if not (data := self._read(response)):
            known = {401: errors.Unauthenticated, 403: errors.Denied, 404: NotFound}.get(status, Unavailable)
            return known(f"{self.url}{path}: status {status}")
        try:
            error = msgspec.json.decode(data)["error"]
            return errors.from_code(str(error["code"]), str(error["message"])[:1000])
        except (msgspec.DecodeError, KeyError, TypeError):
            return Unavailable(f"{self.url} answered {status} and not as a Farshore hub does")

    def _away(self, error: Exception) -> FarshoreError:
        reason = getattr(error, "reason", None) or error
        system = next(
            (each for each in (reason, reason.__cause__) if isinstance(each, OSError) and each.strerror), None
        )
        text = system.strerror if system is not None else " ".join(str(reason).split())[:200]
        return Unavailable(f"no hub answers at {self.url} ({text}): is `farshore hub` running there?")
