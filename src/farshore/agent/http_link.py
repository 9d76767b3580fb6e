"""The link over HTTP: the device API of a hub, ranges of objects from wherever a ticket points.

urllib3's errors and statuses become ours here. Answers are read up to a limit, also after decompression.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec
import urllib3
from msgspec import Struct
from urllib3.exceptions import HTTPError, IncompleteRead, ReadTimeoutError

from farshore import __version__
from farshore.core import documents, errors
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Denied, FarshoreError, Invalid, NotFound, TooLarge, Unavailable
from farshore.core.manifest import MAX_MANIFEST
from farshore.core.wire import (
    API,
    ChallengeReply,
    ChallengeRequest,
    EnrolReply,
    EnrolRequest,
    RenewReply,
    RenewRequest,
    SyncReply,
    SyncRequest,
    TicketReply,
    TicketRequest,
)
from farshore.tls import peer

T = TypeVar("T")

CONNECT_SECONDS = 20.0
READ_SECONDS = 60.0
"""Longest silence in the middle of an answer. A link with two seconds of round trip and losses needs this much."""

MAX_REPLY = 1 << 20
MAX_ETAGS = 16

_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16})\Z")


class _Fault(Struct):
    code: str = ""
    message: str = ""


class _FaultBody(Struct):
    error: _Fault


class HttpLink:
    """See :class:`farshore.agent.link.Link`.

    Args:
        hub: its URL.
        credential: the device's; None before enrolment.
        ca: PEM file with the only authorities to believe; None for the system's.
        insecure: plain HTTP may leave this machine.
        pinned: ``ca`` is the hub's own authority (:func:`farshore.tls.peer.context`).
        certificate: our own with its key (PEM), for a hub that admits only who has one.

    Raises:
        Invalid: ``ca`` cannot be read, or the hub would be spoken to in the clear.

    """

    def __init__(
        self, hub: str, credential: str | None, ca: Path | None = None, *, insecure: bool = False, pinned: bool = False,
        certificate: Path | None = None,
    ) -> None:  # fmt: skip
        peer.check_address(hub, insecure=insecure)
        self._insecure = insecure
        self._hub = hub.rstrip("/") + "/"
        self.credential = credential
        self._pool = _pool(peer.context(ca, pinned=pinned, certificate=certificate))
        # A store that a ticket points to has nothing of the hub's own authority, and our certificate is not for it.
        self._stores = _pool(peer.context(None if pinned else ca, oldest=ssl.TLSVersion.TLSv1_2))
        self._etags: dict[str, str] = {}

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        return self._call("enrol", request, EnrolReply)

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        return self._call("challenge", request, ChallengeReply)

    def renew(self, request: RenewRequest) -> RenewReply:
        return self._call("renew", request, RenewReply)

    def sync(self, request: SyncRequest) -> SyncReply:
        return self._call("sync", request, SyncReply, patience=request.wait)

    def tickets(self, request: TicketRequest) -> TicketReply:
        return self._call("tickets", request, TicketReply)

    def manifest(self, digest: Digest) -> bytes:
        headers = {"Accept-Encoding": "gzip, deflate", **self._headers()}
        return self._whole(self._open("GET", self._at(f"manifests/{digest}"), headers=headers), MAX_MANIFEST)

    def fetch(self, url: str, start: int) -> HttpBody:
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        target = urljoin(self._hub, url)
        peer.check_address(target, insecure=self._insecure)
        place = target.partition("?")[0]
        if start and place in self._etags:  # the rest of another object would cost its bytes before the digest tells
            headers["If-Match"] = self._etags.pop(place)
        response = self._open("GET", target, headers=headers)
        try:
            self._remember(place, response.headers.get("ETag", ""))
            return _body(response)
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()
        self._stores.clear()

    def _remember(self, place: str, etag: str) -> None:
        if re.match(r'"[^"]{1,200}"\Z', etag):
            self._etags = dict([*self._etags.items(), (place, etag)][-MAX_ETAGS:])

    def _call(self, path: str, request: Struct, kind: type[T], patience: float = 0) -> T:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip, deflate", **self._headers()}
        data = msgspec.json.encode(request)
        response = self._open("POST", self._at(path), headers=headers, body=data, patience=patience)
        try:
            return documents.decode(self._whole(response, MAX_REPLY), kind, what=f"the hub's answer to {path}")
        except Invalid as error:  # a captive portal, a proxy, a hub from the future
            raise Unavailable(f"{error.message}: is {self._hub} a Farshore hub?") from error

    def _open(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None, patience: float = 0
    ) -> Any:
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS + patience)
        pool = self._pool if url.startswith(self._hub) else self._stores
        try:
            response = pool.request(
                method,
                url,
                body=body,
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=timeout,
            )
        except (HTTPError, OSError) as error:
            raise _unreachable(url, error) from error
        if response.status not in (200, 201, 206):
            raise self._refused(response, url)
        return response

    def _whole(self, response: Any, limit: int) -> bytes:
        """All of a small answer, decompressed."""
        try:
            data = bytearray()
            while len(data) <= limit:
                piece = response.read1(64 * 1024, decode_content=True)
                if not piece:
                    _check_length(response)
                    response.release_conn()
                    return bytes(data)
                data += piece
        except (HTTPError, OSError, ValueError) as error:
            raise _unreachable(self._hub, error) from error
        finally:
            if not response.closed:
                response.close()
        raise TooLarge(f"{self._hub} answered with more than {limit} bytes")

    def _refused(self, response: Any, url: str) -> FarshoreError:
        host, status = urlsplit(url).netloc, response.status
        try:
            fault = documents.decode(self._whole(response, 64 * 1024), _FaultBody, what="error").error
            known = errors.BY_CODE.get(fault.code)
            if known is not None and known is not FarshoreError:
                return known(f"{host}: {fault.message[:500]}")
        except FarshoreError:
            pass
        kind = {
            401: errors.Unauthenticated,
            403: Denied,
            404: NotFound,
            409: Conflict,
            410: NotFound,
            412: Denied,  # another object stands there by now: a new ticket tells what to fetch
            416: Conflict,
        }.get(status, Unavailable)
        return kind(f"{host} answered with status {status}")

    def _at(self, path: str) -> str:
        return f"{self._hub.rstrip('/')}{API}/{path}"

    def _headers(self) -> dict[str, str]:
        return {} if self.credential is None else {"Authorization": f"Bearer {self.credential}"}


def _pool(context: ssl.SSLContext) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        num_pools=8,
        maxsize=2,
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=False,
        ssl_context=context,
        headers={"User-Agent": f"farshore/{__version__}"},
    )


class HttpBody:
    """See :class:`farshore.agent.link.Body`."""

    def __init__(self, response: Any, start: int, total: int | None) -> None:
        self.start, self.total = start, total
        self._response = response

    def read(self, limit: int) -> bytes:
        try:
            data: bytes = self._response.read1(limit, decode_content=False)
            return data
        except (HTTPError, OSError) as error:
            raise _unreachable("the connection", error) from error

    def close(self) -> None:
        if self._response.closed:
            self._response.release_conn()
        else:
            self._response.close()


def _body(response: Any) -> HttpBody:
    """Where the bytes of an answer belong, by its status and headers."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise Unavailable("the object was re-encoded on its way: it cannot be resumed")
    length = response.headers.get("Content-Length", "")
    if response.status != 206:
        return HttpBody(response, 0, int(length) if re.match(r"\d{1,16}\Z", length) else None)
    match = _RANGE.match(response.headers.get("Content-Range", ""))
    if match is None:
        raise Conflict("a partial answer without a readable Content-Range")
    first, last, total = (int(part) for part in match.groups())
    if not first <= last < total or length not in ("", str(last - first + 1)):
        raise Conflict(f"a partial answer with the impossible range {match[0]!r}")
    return HttpBody(response, first, total)


def _check_length(response: Any) -> None:
    """``read1`` ends silently when the connection does; the announced length tells."""
    if response.length_remaining not in (None, 0):
        raise IncompleteRead(0, response.length_remaining)


def _unreachable(where: str, error: Exception) -> Unavailable:
    """One line from what may be several errors inside each other."""
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return Unavailable(f"{where}: no answer in time")
    inner: object = error
    while isinstance(inner, Exception):
        if isinstance(inner, IncompleteRead):
            return Unavailable(f"{where}: broke off")
        if isinstance(inner, OSError) and inner.strerror:
            return Unavailable(f"{where}: {inner.strerror}")
        if isinstance(inner, ConnectionError):
            return Unavailable(f"{where}: the connection ended without an answer")
        inner = getattr(inner, "reason", None) or inner.__cause__ or next(iter(inner.args[1:]), None)
    return Unavailable(f"{where}: {' '.join(str(error).split())[:200]}")
