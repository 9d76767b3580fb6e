"""A client of one hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from farshore import __version__
from farshore.client.upload import BUFFER, Advance, Upload, collect, measure
from farshore.core import digest as digests
from farshore.core import errors
from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError, Invalid, NotFound, Unavailable

Json = Any
Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""``(what, total bytes)`` → a context whose value is told of each so many bytes done."""

PAGE = 1000
MAX_REPLY = 64 << 20
_TIMEOUT = urllib3.Timeout(connect=10, read=300)


class Hub:
    """The operator API of a hub. Answers are the API's own JSON as dicts (``docs/formats/api.md``).

    Args:
        url: where it is.
        token: an operator's API token.
        ca: PEM file with the only authorities to believe; None for the system's.

    Every method may raise the errors of :mod:`farshore.core.errors`: what the hub said, or ``Unavailable`` when it cannot be
    reached.

    """

    def __init__(self, url: str, token: str, ca: Path | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise Invalid(f"bad hub URL {url[:80]!r}: http://HOST:PORT or https://HOST is needed")
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": f"farshore/{__version__}"}
        self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT, ca_certs=None if ca is None else str(ca))

    # -- registry --------------------------------------------------------------------------------------------------

    def models(self) -> Iterator[Json]:
        """Every model, by name."""
        return self._pages("/v1/models", "after")

    def model(self, name: str) -> Json:
        """One model."""
        return self._call("GET", f"/v1/models/{quote(name, safe='')}")

    def versions(self, name: str) -> Iterator[Json]:
        """Every version of a model, newest first."""
        return self._pages(f"/v1/models/{quote(name, safe='')}/versions", "before")

    def version(self, ref: str) -> Json:
        """One version with all that is known of it.

        Args:
            ref: ``name@3``, ``name@alias``, or ``name`` for the newest.

        """
        return self._call("GET", self._version(ref))

    def push(
        self,
        name: str,
        paths: Sequence[str | os.PathLike[str]],
        *,
        progress: Progress = lambda _what, _total: nullcontext(lambda _count: None),
        **about: Any,
    ) -> Json:
        """Make files the next version of a model. Files that the hub has are not sent again.

        Args:
            name: of the model.
            paths: model files, folders, or one ZIP.
            progress: shows how far it is.
            about: ``description``, ``tags``, ``properties``, ``parent``, ``operation``, ``run``, ``dataset``, ``commit``,
                ``alias``, ``overrides`` (text of a ``farshore.toml``), ``acceptance``.

        Returns:
            The version; ``existing`` is true when identical content was there already.

        """
        found = collect(paths)
        with progress("reading", sum(path.stat().st_size for path in found)) as advance:
            uploads = [measure(path, advance) for path in found]
        missing = [upload for upload in uploads if not self._has(upload.digest)]
        with progress("sending", sum(upload.size for upload in missing)) as advance:
            for upload in missing:
                self._send(upload, advance)
        files = [{"path": upload.name, "digest": upload.digest} for upload in uploads]
        asked = {key: value for key, value in about.items() if value}
        return self._call("POST", f"/v1/models/{quote(name, safe='')}/versions", {"files": files, **asked})

    def change_model(self, name: str, **change: Any) -> Json:
        """Change ``title``, ``description``, ``tags`` (null deletes) of a model."""
        return self._call("PATCH", f"/v1/models/{quote(name, safe='')}", change)

    def change_version(self, ref: str, **change: Any) -> Json:
        """Change ``description``, ``tags`` (null deletes), ``archived`` of a version."""
        return self._call("PATCH", self._version(ref), change)

    def delete_version(self, ref: str) -> None:
        """Delete a version for ever; its number is not used again."""
        self._call("DELETE", self._version(ref))

    def set_alias(self, ref: str, alias: str) -> Json:
        """Point an alias at a version."""
        name, which = _split(ref)
        body = {"version": which if which != "latest" else self.version(ref)["version"]}
        return self._call("PUT", f"/v1/models/{quote(name, safe='')}/aliases/{quote(alias, safe='')}", body)

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias."""
        self._call("DELETE", f"/v1/models/{quote(name, safe='')}/aliases/{quote(alias, safe='')}")

    def diff(self, name: str, before: str, after: str) -> Json:
        """What differs between two versions of a model."""
        query = urlencode({"from": before, "to": after})
        return self._call("GET", f"/v1/models/{quote(name, safe='')}/diff?{query}")

    def patches(self, ref: str) -> list[Json]:
        """Patches that the hub keeps to the files of a version."""
        found: list[Json] = self._call("GET", f"{self._version(ref)}/patches")
        return found

    def envelope(self, ref: str) -> bytes:
        """A version's signed manifest."""
        with self._open("GET", f"{self._version(ref)}/envelope") as response:
            return self._read(response)

    def pull(self, ref: str, path: str, digest: Digest, sink: BinaryIO, advance: Advance) -> None:
        """Write one file of a version to ``sink``.

        Args:
            ref: the version.
            path: the file's name in it.
            digest: what it must be.
            sink: open for binary writing.
            advance: told of each so many bytes.

        Raises:
            Corrupt: other bytes came.

        """
        hasher = digests.Hasher()
        with self._open("GET", f"{self._version(ref)}/files/{quote(path, safe='')}") as response:
            try:
                for chunk in response.stream(BUFFER, decode_content=False):
                    hasher.update(chunk)
                    sink.write(chunk)
                    advance(len(chunk))
            except HTTPError as error:
                raise self._away(error) from error
        digests.check(digest, hasher.digest(), path)

    # -- fleet -----------------------------------------------------------------------------------------------------

    def create_enrolment(
        self, device: str | None = None, tags: Mapping[str, Any] | None = None, seconds: int | None = None
    ) -> Json:
        """A one-time token for a device; its secret is in ``token``, this once."""
        asked = {"device": device, "tags": dict(tags or {}), "seconds": seconds}
        return self._call("POST", "/v1/enrolments", {key: value for key, value in asked.items() if value})

    def enrolments(self) -> list[Json]:
        """Enrolment tokens, used and unused."""
        found: list[Json] = self._call("GET", "/v1/enrolments")
        return found

    def delete_enrolment(self, key: str) -> None:
        """Make an enrolment token useless."""
        self._call("DELETE", f"/v1/enrolments/{quote(key, safe='')}")

    def devices(self, where: str = "") -> Iterator[Json]:
        """Devices that match a selector, by id; all when it is empty."""
        return self._pages("/v1/devices", "after", **({"where": where} if where else {}))

    def device(self, device: str) -> Json:
        """One device."""
        return self._call("GET", f"/v1/devices/{quote(device, safe='')}")

    def delete_device(self, device: str) -> None:
        """Delete a device; its credential ends."""
        self._call("DELETE", f"/v1/devices/{quote(device, safe='')}")

    def twin(self, device: str) -> Json:
        """A device's twin."""
        return self._call("GET", f"/v1/devices/{quote(device, safe='')}/twin")

    def patch_twin(self, device: str, change: Json, etag: str | None = None) -> Json:
        """Merge into ``tags`` and ``properties.desired`` of a twin; with ``etag`` only if it is still that one."""
        headers = {} if etag is None else {"If-Match": f'"{etag}"'}
        return self._call("PATCH", f"/v1/devices/{quote(device, safe='')}/twin", change, headers)

    def deployments(self) -> list[Json]:
        """Every deployment."""
        found: list[Json] = self._call("GET", "/v1/deployments")
        return found

    def deployment(self, key: str) -> Json:
        """One deployment, and how many devices hold its version."""
        return self._call("GET", f"/v1/deployments/{quote(key, safe='')}")

    def put_deployment(self, key: str, *, model: str, selector: str, priority: int = 0) -> Json:
        """Create or change a deployment: devices that ``selector`` matches should run ``model``."""
        body = {"model": model, "selector": selector, "priority": priority}
        return self._call("PUT", f"/v1/deployments/{quote(key, safe='')}", body)

    def delete_deployment(self, key: str) -> None:
        """Delete a deployment."""
        self._call("DELETE", f"/v1/deployments/{quote(key, safe='')}")

    # -- wire ------------------------------------------------------------------------------------------------------

    def _version(self, ref: str) -> str:
        name, which = _split(ref)
        return f"/v1/models/{quote(name, safe='')}/versions/{quote(which, safe='')}"

    def _has(self, digest: Digest) -> bool:
        try:
            with self._open("HEAD", f"/v1/blobs/{digest}"):
                return True
        except NotFound:
            return False

    def _send(self, upload: Upload, advance: Advance) -> None:
        def chunks() -> Iterator[bytes]:
            with upload.path.open("rb") as stream:
                while chunk := stream.read(BUFFER):
                    yield chunk
                    advance(len(chunk))

        headers = {"Content-Length": str(upload.size), "Content-Type": "application/octet-stream"}
        with self._open("PUT", f"/v1/blobs/{upload.digest}", chunks(), headers) as response:
            self._read(response)

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


def _split(ref: str) -> tuple[str, str]:
    """``name@which`` as a pair; without ``@`` the newest is meant."""
    name, at, which = ref.partition("@")
    if not name or (at and not which):
        raise Invalid(f"bad version {ref[:80]!r}: write name, name@3 or name@alias")
    return name, which or "latest"
