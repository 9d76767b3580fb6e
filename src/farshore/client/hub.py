"""A client of one hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from msgspec import Raw
from urllib3.exceptions import HTTPError

from farshore.client.drafts import Draft, Published, Publisher, check
from farshore.client.upload import BUFFER, Advance, Upload, collect, measure
from farshore.client.wire import MAX_REPLY, Json, Wire
from farshore.core import digest as digests
from farshore.core import documents
from farshore.core.digest import Digest
from farshore.core.dispatch import Published as Order
from farshore.core.errors import Denied, Invalid, NotFound

Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""``(what, total bytes)`` → a context whose value is told of each so many bytes done."""


class Hub(Wire):
    """The operator API of a hub. Answers are the API's own JSON as dicts (``docs/formats/api.md``).

    Args:
        url: where it is.
        token: an operator's API token.
        ca: PEM file with the only authorities to believe; None for the system's.
        insecure: plain HTTP may leave this machine.

    Every method may raise the errors of :mod:`farshore.core.errors`: what the hub said, or ``Unavailable`` when it cannot be
    reached.

    """

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
        publisher: Publisher | None = None,
        **about: Any,
    ) -> Json:
        """Make files the next version of a model. Files that the hub has are not sent again.

        Args:
            name: of the model.
            paths: model files, folders, or one ZIP.
            progress: shows how far it is.
            publisher: signs, where the hub does not do it itself.
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
        made = self._call("POST", f"/v1/models/{quote(name, safe='')}/versions", {"files": files, **asked})
        if "role" not in made:
            return made
        if publisher is None:
            raise Denied("versions are published here with their publisher's signature: name the key ring (--keys)")
        manifest, role = (documents.canonical(made[part]) for part in ("manifest", "role"))
        draft = Draft(made["model"], made["version"], Digest(made["digest"]), manifest, role)
        check(draft, name, uploads, str(about.get("overrides", "")))
        return self._call(
            "PUT", f"/v1/models/{quote(name, safe='')}/drafts/{made['digest']}", {"role": Raw(publisher(draft))}
        )

    # -- trust -----------------------------------------------------------------------------------------------------

    def trust(self) -> Published:
        """All signed metadata of the hub."""
        with self._open("GET", "/v1/trust") as response:
            return documents.decode(self._read(response), Published, what="the hub's metadata", limit=MAX_REPLY)

    def put_trust(self, root: bytes | None, changed: Mapping[str, bytes]) -> None:
        """Give the hub documents that were signed elsewhere, all or none."""
        documents = {role: Raw(data) for role, data in changed.items()}
        self._call("PUT", "/v1/trust", {"documents": documents if root is None else {**documents, "root": Raw(root)}})

    def order(self, device: str) -> Order:
        """What a device should run, signed for it, with all metadata: for where the device cannot ask itself."""
        with self._open("GET", f"/v1/devices/{quote(device, safe='')}/order") as response:
            return documents.decode(self._read(response), Order, what="the hub's order", limit=MAX_REPLY)

    def report(self, device: str, change: Mapping[str, Any]) -> None:
        """Pass on what a device said elsewhere: merge it into its reported section."""
        self._call("PATCH", f"/v1/devices/{quote(device, safe='')}/reported", change)

    def info(self) -> Json:
        """``version`` of the hub, its ``url`` for devices, and ``root``: pin of the first trust root."""
        return self._call("GET", "/v1/hub")

    def next_keys(self) -> None:
        """Let the hub make its next own keys."""
        self._call("POST", "/v1/trust/keys")

    def try_out(self, ref: str, picture: bytes, threshold: float | None = None) -> Json:
        """What a version says to a picture, tried out beside the hub; ``threshold`` is the least score, 0 to 1."""
        query = "" if threshold is None else f"?threshold={round(100 * threshold)}"
        headers = {"Content-Length": str(len(picture)), "Content-Type": "application/octet-stream"}
        with self._open("POST", f"{self._version(ref)}/try{query}", picture, headers) as response:
            return documents.decode(self._read(response), dict[str, Any], what="the hub's answer", limit=MAX_REPLY)

    def role_draft(self, model: str) -> bytes:
        """The role of a model's publisher as it would be now, unsigned."""
        with self._open("GET", f"/v1/models/{quote(model, safe='')}/role") as response:
            return self._read(response)

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

    def manifest(self, ref: str) -> bytes:
        """A version's manifest, the bytes that its publisher signed for."""
        with self._open("GET", f"{self._version(ref)}/manifest") as response:
            return self._read(response)

    def blob(self, digest: Digest, sink: BinaryIO) -> None:
        """Write an object to ``sink``, whatever it is a part of; for whoever may read everything.

        Raises:
            Corrupt: other bytes came.

        """
        self._receive(f"/v1/blobs/{digest}", digest, "object", sink, lambda _count: None)

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
        self._receive(f"{self._version(ref)}/files/{quote(path, safe='')}", digest, path, sink, advance)

    def _receive(self, address: str, digest: Digest, what: str, sink: BinaryIO, advance: Advance) -> None:
        hasher = digests.Hasher()
        with self._open("GET", address) as response:
            try:
                for chunk in response.stream(BUFFER, decode_content=False):
                    hasher.update(chunk)
                    sink.write(chunk)
                    advance(len(chunk))
            except HTTPError as error:
                raise self._away(error) from error
        digests.check(digest, hasher.digest(), what)

    # -- fleet -----------------------------------------------------------------------------------------------------

    def create_enrolment(
        self,
        device: str | None = None,
        tags: Mapping[str, Any] | None = None,
        seconds: int | None = None,
        *,
        approval: bool = False,
        qr: bool = False,
    ) -> Json:
        """A one-time token for a device; it is in ``token``, this once, and in ``command``. With ``approval`` the device waits for an
        operator; with ``qr`` the command comes as rows of a QR code, too.
        """
        asked = {"device": device, "tags": dict(tags or {}), "seconds": seconds, "approval": approval, "qr": qr}
        return self._call("POST", "/v1/enrolments", {key: value for key, value in asked.items() if value})

    def enrolments(self) -> list[Json]:
        """Enrolment tokens, used and unused."""
        found: list[Json] = self._call("GET", "/v1/enrolments")
        return found

    def delete_enrolment(self, key: str) -> None:
        """Make an enrolment token useless."""
        self._call("DELETE", f"/v1/enrolments/{quote(key, safe='')}")

    def devices(self, where: str = "", **which: str) -> Iterator[Json]:
        """Devices that match a selector, by id; all when it is empty. ``which``: their ``state``, the ``model`` and ``version`` they run."""
        asked = {"where": where, **which}
        return self._pages("/v1/devices", "after", **{key: value for key, value in asked.items() if value})

    def summary(self, where: str = "") -> Json:
        """The fleet in figures, or what of it a selector matches, and what wants an operator's eye."""
        return self._call("GET", "/v1/summary" + (f"?{urlencode({'where': where})}" if where else ""))

    def device(self, device: str) -> Json:
        """One device."""
        return self._call("GET", f"/v1/devices/{quote(device, safe='')}")

    def device_timeline(self, device: str, before: int | None = None, limit: int = 100) -> list[Json]:
        """What happened to a device, the newest first; ``before`` a serial for the next page."""
        return self._timeline(f"/v1/devices/{quote(device, safe='')}", before, limit)

    def rollout_timeline(self, key: str, before: int | None = None, limit: int = 100) -> list[Json]:
        """What happened to a rollout, the newest first."""
        return self._timeline(f"/v1/rollouts/{quote(key, safe='')}", before, limit)

    def announce_device(self, device: str, key: str, tags: Mapping[str, Any] | None = None) -> Json:
        """Let the holder of a public key enrol as ``device`` without a token."""
        return self._call("POST", "/v1/devices", {"id": device, "key": key, "tags": dict(tags or {})})

    def approve_device(self, device: str) -> Json:
        """Let a device in that waits, is quarantined or revoked."""
        return self._call("POST", f"/v1/devices/{quote(device, safe='')}/approve")

    def quarantine_device(self, device: str, reason: str = "") -> Json:
        """Keep a device out until it is approved again."""
        return self._call("POST", f"/v1/devices/{quote(device, safe='')}/quarantine", {"reason": reason})

    def revoke_device(self, device: str, reason: str = "") -> Json:
        """Keep a device out at once."""
        return self._call("POST", f"/v1/devices/{quote(device, safe='')}/revoke", {"reason": reason})

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

    def put_twin(self, device: str, document: Json, etag: str | None = None) -> Json:
        """Replace ``tags`` and ``properties.desired`` of a twin, those that are given; ``etag`` as for :meth:`patch_twin`."""
        headers = {} if etag is None else {"If-Match": f'"{etag}"'}
        return self._call("PUT", f"/v1/devices/{quote(device, safe='')}/twin", document, headers)

    # -- clients of IoT Hub's kind ---------------------------------------------------------------------------------

    def connection(
        self, device: str, module: str = "", host: str = "", gateway: str = "", *, create: bool = False
    ) -> Json:
        """What an IoT Hub SDK needs to connect as a device or module."""
        body = {"module": module, "host": host, "gateway": gateway, "create": create}
        return self._call("POST", f"/v1/devices/{quote(device, safe='')}/connection", body)

    def call_method(
        self,
        device: str,
        method: str,
        payload: Any = None,
        *,
        module: str = "",
        seconds: float = 30,
        connect_seconds: float = 0,
    ) -> Json:
        """Call a direct method; its status and payload."""
        body = {"payload": payload, "module": module, "seconds": seconds, "connect_seconds": connect_seconds}
        return self._call("POST", f"/v1/devices/{quote(device, safe='')}/methods/{quote(method, safe='')}", body)

    def send_message(self, device: str, body: Json) -> Json:
        """Send a message to a device; it waits there until it is taken."""
        return self._call("POST", f"/v1/devices/{quote(device, safe='')}/messages", body)

    def waiting(self, device: str, module: str = "") -> list[Json]:
        """Messages that wait for a device."""
        found: list[Json] = self._call(
            "GET", f"/v1/devices/{quote(device, safe='')}/waiting?{urlencode({'module': module})}"
        )
        return found

    def messages(self, device: str = "", after: int = 0, limit: int = 100) -> list[Json]:
        """Messages that came in, of one device or of all, the oldest first."""
        place = f"/v1/devices/{quote(device, safe='')}/messages" if device else "/v1/messages"
        found: list[Json] = self._call("GET", f"{place}?{urlencode({'after': after, 'limit': limit})}")
        return found

    def provisioning(self, registration: str = "") -> Json:
        """How devices provision themselves."""
        return self._call("GET", f"/v1/provisioning?{urlencode({'registration': registration})}")

    def deployments(self) -> list[Json]:
        """Every deployment."""
        found: list[Json] = self._call("GET", "/v1/deployments")
        return found

    def deployment(self, key: str) -> Json:
        """One deployment, and how many devices hold its version."""
        return self._call("GET", f"/v1/deployments/{quote(key, safe='')}")

    def put_deployment(
        self,
        key: str,
        *,
        model: str,
        selector: str,
        priority: int = 0,
        activate: Sequence[str] | None = None,
        classic: str = "",
    ) -> Json:
        """Create or change a deployment: devices that ``selector`` matches should run ``model``, and switch to it in the windows
        ``activate`` only; None leaves them as they are. With ``classic`` that module of theirs is told, in the classic contract.
        """
        body: Json = {"model": model, "selector": selector, "priority": priority}
        body |= {"classic": classic} if classic else {}
        body |= {} if activate is None else {"activate": list(activate)}
        return self._call("PUT", f"/v1/deployments/{quote(key, safe='')}", body)

    def delete_deployment(self, key: str) -> None:
        """Delete a deployment."""
        self._call("DELETE", f"/v1/deployments/{quote(key, safe='')}")

    def policies(self) -> list[Json]:
        """Shared access policies, with connection strings."""
        found: list[Json] = self._call("GET", "/v1/policies")
        return found

    def renew_policy(self, name: str, *, both: bool) -> Json:
        """New keys of a policy: the primary one, or both."""
        return self._call("POST", f"/v1/policies/{quote(name, safe='')}/renew", {"both": both})

    def rollouts(self) -> list[Json]:
        """Rollouts, newest first, without tallies."""
        found: list[Json] = self._call("GET", "/v1/rollouts")
        return found

    def rollout(self, key: str) -> Json:
        """A rollout, and what its devices have said."""
        return self._call("GET", f"/v1/rollouts/{quote(key, safe='')}")

    def rollout_devices(self, key: str, state: str = "") -> list[Json]:
        """Devices that a rollout gave its version to; ``state`` is admitted, confirmed, failed, or empty for all."""
        query = f"?{urlencode({'state': state})}" if state else ""
        found: list[Json] = self._call("GET", f"/v1/rollouts/{quote(key, safe='')}/devices{query}")
        return found

    def plan_rollout(self, body: Json) -> Json:
        """What a rollout would move and cost; ``body`` as for :meth:`start_rollout`."""
        return self._call("POST", "/v1/rollouts/plan", body)

    def why(self, device: str, model: str) -> Json:
        """Why a device runs the version of a model that it runs."""
        return self._call("GET", f"/v1/devices/{quote(device, safe='')}/why/{quote(model, safe='')}")

    def links(self) -> list[Json]:
        """Links and their prices."""
        found: list[Json] = self._call("GET", "/v1/links")
        return found

    def put_link(self, name: str, **values: Any) -> Json:
        """Set a link's ``price`` (of 1 000 000 bytes, in ``currency``), ``rate`` (bytes a second), ``windows``, and the bytes that a
        device may move in a ``day`` and a ``month``.
        """
        return self._call("PUT", f"/v1/links/{quote(name, safe='')}", values)

    def delete_link(self, name: str) -> None:
        """Forget a link."""
        self._call("DELETE", f"/v1/links/{quote(name, safe='')}")

    def ledger(self, by: str, since: str = "", until: str = "", **where: str) -> list[Json]:
        """What was moved, in sums by columns (``device,model``) of those that have the values in ``where``."""
        query = urlencode({"by": by, "since": since, "until": until, "limit": 10_000, **where})
        found: list[Json] = self._call("GET", f"/v1/ledger?{query}")
        return found

    def savings(self, since: str = "", until: str = "") -> list[Json]:
        """What was moved of each version, against whole files."""
        found: list[Json] = self._call("GET", f"/v1/savings?{urlencode({'since': since, 'until': until})}")
        return found

    def behaviour(self, model: str) -> list[Json]:
        """How a model's versions did on devices, by rollout, the newest first."""
        found: list[Json] = self._call("GET", f"/v1/models/{quote(model, safe='')}/behaviour")
        return found

    def start_rollout(self, body: Json) -> Json:
        """Start a rollout; ``body`` as ``POST /v1/rollouts`` takes it."""
        return self._call("POST", "/v1/rollouts", body)

    def steer_rollout(self, key: str, verb: str, reason: str = "", budget: Json | None = None) -> Json:
        """Pause, resume, advance, abort or roll back a rollout; with another ``budget`` when resuming."""
        body: Json = {"reason": reason, **({"budget": budget} if budget else {})}
        return self._call("POST", f"/v1/rollouts/{quote(key, safe='')}/{verb}", body)

    def settings(self) -> list[Json]:
        """Settings of devices, in layers."""
        found: list[Json] = self._call("GET", "/v1/settings")
        return found

    def put_settings(self, name: str, *, selector: str, priority: int, settings: Json) -> Json:
        """Set what the devices heed that ``selector`` matches."""
        body = {"selector": selector, "priority": priority, "settings": settings}
        return self._call("PUT", f"/v1/settings/{quote(name, safe='')}", body)

    def delete_settings(self, name: str) -> None:
        """Delete a layer of settings."""
        self._call("DELETE", f"/v1/settings/{quote(name, safe='')}")

    def me(self) -> Json:
        """Who asks, and what they may do."""
        return self._call("GET", "/v1/me")

    def operators(self) -> list[Json]:
        """Every operator."""
        found: list[Json] = self._call("GET", "/v1/operators")
        return found

    def put_operator(self, name: str, grants: Sequence[Mapping[str, str]], oidc: str | None = None) -> Json:
        """Add an operator, or change their roles; ``setup`` is a one-time link by which they choose a password, unless they come
        from the hub's OpenID Connect issuer as ``oidc``, a subject or an e-mail.
        """
        asked: Json = {"grants": [dict(one) for one in grants]}
        return self._call(
            "PUT", f"/v1/operators/{quote(name, safe='')}", asked | ({} if oidc is None else {"oidc": oidc})
        )

    def delete_operator(self, name: str) -> None:
        """Remove an operator; their tokens and sessions end."""
        self._call("DELETE", f"/v1/operators/{quote(name, safe='')}")

    def tokens(self) -> list[Json]:
        """API tokens."""
        found: list[Json] = self._call("GET", "/v1/tokens")
        return found

    def create_token(
        self, name: str, seconds: int | None = None, grants: Sequence[Mapping[str, str]] | None = None
    ) -> Json:
        """An API token; it is in ``token``, this once."""
        asked = {"name": name, "seconds": seconds, "grants": None if grants is None else [dict(one) for one in grants]}
        return self._call("POST", "/v1/tokens", {key: value for key, value in asked.items() if value is not None})

    def delete_token(self, key: str) -> None:
        """Make an API token worthless."""
        self._call("DELETE", f"/v1/tokens/{quote(key, safe='')}")

    def audit(self, after: int | None = None, limit: int = 100, search: str = "") -> list[Json]:
        """Who changed what: the newest lines (with ``search`` in them), or those behind a serial."""
        said = {"after": after, "search": search or None}
        query = urlencode({"limit": limit, **{name: value for name, value in said.items() if value is not None}})
        found: list[Json] = self._call("GET", f"/v1/audit?{query}")
        return found

    # -- wire ------------------------------------------------------------------------------------------------------

    def _version(self, ref: str) -> str:
        name, which = _split(ref)
        return f"/v1/models/{quote(name, safe='')}/versions/{quote(which, safe='')}"

    def _timeline(self, of: str, before: int | None, limit: int) -> list[Json]:
        query = urlencode({"limit": limit, **({} if before is None else {"before": before})})
        found: list[Json] = self._call("GET", f"{of}/timeline?{query}")
        return found

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


def _split(ref: str) -> tuple[str, str]:
    """``name@which`` as a pair; without ``@`` the newest is meant."""
    name, at, which = ref.partition("@")
    if not name or (at and not which):
        raise Invalid(f"bad version {ref[:80]!r}: write name, name@3 or name@alias")
    return name, which or "latest"
