"""The operator API's registry: blobs, models, versions, aliases."""

from __future__ import annotations

import os
from typing import Any

from msgspec import Raw
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from farshore.core import digest as digests
from farshore.core.digest import Digest, Hasher
from farshore.core.errors import Corrupt, Invalid, Unavailable
from farshore.hub import comparison, ingest
from farshore.hub.api import access, door, ranges, words
from farshore.hub.api.door import Endpoint
from farshore.hub.hub import Hub
from farshore.hub.ingest import Push
from farshore.hub.records import models as records
from farshore.hub.registry import Draft
from farshore.hub.roles import EVERY
from farshore.hub.tryouts import MAX_PICTURE
from farshore.store import files

MAX_PUSH = 4 << 20
BUFFER = 1 << 20
HEADROOM = 64 << 20
"""Bytes that an upload leaves free: the database lives on the same disk."""

NO_NUMBER = (1 << 31) - 1


async def has_blob(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    digest = digests.parse(door.segment(request, "digest"))
    caller = access.caller(request)
    if request.method != "HEAD":
        caller.need("viewer", EVERY)  # a digest is no permission to read: whose file it is, only versions tell
    await hub.threads(access.check_held, hub, caller, [digest])
    return await ranges.send(request, hub.registry.objects, digest, await hub.threads(hub.registry.blob_size, digest))


async def put_blob(request: Request) -> Response:
    """Spool, hash while writing, compare, keep. The blob is known only when its bytes are durable."""
    hub: Hub = request.app.state.hub
    return await _take(request, hub, digests.parse(door.segment(request, "digest")))


async def post_blob(request: Request) -> Response:
    """For who cannot hash before sending, as a browser cannot: the answer says the digest."""
    return await _take(request, request.app.state.hub, None)


async def _take(request: Request, hub: Hub, digest: Digest | None) -> Response:
    wanted = door.length(request, hub.settings.max_blob)
    if wanted + HEADROOM > files.free_bytes(hub.registry.spool):
        raise Unavailable(f"disk full: no room for {wanted} bytes on the hub; free some space, then try again")
    path = hub.registry.new_spool()
    fd = await hub.threads(_create, str(path))
    try:
        try:
            found = await _spool(hub, request, fd)
        finally:
            os.close(fd)
        if found.size != wanted:
            raise Invalid(f"{found.size} bytes came, {wanted} were announced")
        if digest is None:
            digest = found.digest()
        if found.digest() != digest:
            raise Corrupt(f"the bytes are {found.digest()}, not {digest}: send them again")
        await hub.long_work(hub.registry.add_blob, digest, path, found.size)
        await hub.threads(access.note_upload, hub, access.caller(request), digest)
    finally:
        files.discard(path)
    return door.reply(request, {"digest": digest, "size": wanted}, 201)


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


async def _spool(hub: Hub, request: Request, fd: int) -> Hasher:
    hasher, buffer = Hasher(), bytearray()

    def write() -> None:
        with files.translated(hub.registry.spool):
            files.write_all(fd, bytes(buffer))
        hasher.update(buffer)
        buffer.clear()

    try:
        async for piece in request.stream():
            buffer += piece
            if len(buffer) >= BUFFER:
                await run_in_threadpool(write)
    except ClientDisconnect:
        raise Invalid("the upload was cut short: send it again") from None
    await run_in_threadpool(write)
    return hasher


async def push(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    name = door.segment(request, "name")
    asked = await door.read(request, Push, what="push", limit=MAX_PUSH)
    caller = access.caller(request)

    def make() -> tuple[words.Version | words.Draft, int]:
        access.check_held(hub, caller, [Digest(file.digest) for file in asked.files])
        if asked.parent:
            caller.need_model(asked.parent.partition("@")[0])
        found, existing = ingest.push(hub.registry, name, asked, hub.provenance, limit=hub.settings.max_version)
        if isinstance(found, Draft):
            return words.Draft(found.model, found.number, found.digest, Raw(found.payload), Raw(found.role)), 202
        _, aliases = hub.registry.model(found.model)
        return words.version(found, aliases, existing=existing), 200 if existing else 201

    made, status = await hub.long_work(make)
    return door.reply(request, made, status)


async def recognise(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, Push, what="push", limit=MAX_PUSH)
    caller = access.caller(request)

    def look() -> words.Recognised:
        access.check_held(hub, caller, [Digest(file.digest) for file in asked.files])
        found = ingest.content_of(hub.registry, asked, hub.provenance, limit=hub.settings.max_version)
        return words.Recognised(*found)

    return door.reply(request, await hub.long_work(look))


async def try_out(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    version = await hub.threads(_find, hub, request)
    threshold = door.number(request, "threshold", 0, 0, 100) / 100 if "threshold" in request.query_params else None
    picture = await door.body(request, MAX_PICTURE, what="picture")
    if not picture:
        raise Invalid("picture: nothing came; send a JPEG, PNG or BMP")
    return door.reply(request, await hub.long_work(hub.tryouts.answer, version, picture, threshold))


async def publish(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, words.SignedRole, what="signed role", limit=MAX_PUSH)
    name, digest = door.segment(request, "name"), digests.parse(door.segment(request, "digest"))

    def make() -> words.Version:
        found = hub.registry.publish(name, digest, bytes(asked.role))
        return words.version(found, hub.registry.model(name)[1])

    return door.reply(request, await hub.threads(make), 201)


async def list_models(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    limit = door.number(request, "limit", 100, 1, 1000)
    after, search = (request.query_params.get(name, "") for name in ("after", "search"))
    found = await hub.threads(hub.registry.models, after, limit, search)
    items, caller = [words.model(*one) for one in found], access.caller(request)
    mine = [item for item in items if caller.may_read_model(item.name)]
    return door.reply(request, words.Models(mine, items[-1].name if len(items) == limit else None))


async def show_model(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    found, aliases = await hub.threads(hub.registry.model, door.segment(request, "name"))
    return door.reply(request, words.model(found, aliases))


async def change_model(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, words.ModelChange, what="model")
    name = door.segment(request, "name")
    await hub.threads(hub.registry.describe, name, asked.title, asked.description, dict(asked.tags))
    return await show_model(request)


async def list_versions(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    name, limit = door.segment(request, "name"), door.number(request, "limit", 100, 1, 1000)
    before = door.number(request, "before", NO_NUMBER, 1, NO_NUMBER)
    caller = access.caller(request)

    def find() -> words.Versions:
        found, (_, aliases) = hub.registry.versions(name, before, limit), hub.registry.model(name)
        held = hub.registry.holders(found) if caller.may("viewer", EVERY) else {}
        items = [words.version(one, aliases, held.get(one.digest)) for one in found]
        return words.Versions(items, items[-1].version if len(items) == limit else None)

    return door.reply(request, await hub.threads(find))


async def show_version(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    caller = access.caller(request)

    def find() -> words.FullVersion:
        found = _find(hub, request)
        held = hub.registry.holders([found]).get(found.digest) if caller.may("viewer", EVERY) else None
        return words.full_version(found, hub.registry.model(found.model)[1], hub.registry.manifest(found).content, held)

    return door.reply(request, await hub.threads(find))


async def change_version(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, words.VersionChange, what="version")
    name, which = door.segment(request, "name"), door.segment(request, "version")
    await hub.threads(
        hub.registry.annotate, name, which, asked.description, tags=dict(asked.tags), archived=asked.archived
    )
    return await show_version(request)


async def delete_version(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.long_work(hub.registry.remove, door.segment(request, "name"), door.segment(request, "version"))
    return Response(status_code=204)


async def list_patches(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    found = await hub.threads(lambda: hub.builds.of(_find(hub, request).digest))
    return door.reply(request, [words.patch(*one) for one in found])


async def manifest(request: Request) -> Response:
    hub: Hub = request.app.state.hub

    def find() -> bytes:
        return hub.registry.payload(Digest(_find(hub, request).digest))

    return door.content(request, await hub.threads(find), "application/vnd.farshore.manifest+json")


async def file(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    path = door.segment(request, "path")
    found = await hub.threads(lambda: hub.registry.file(_find(hub, request), path))
    headers = {"Content-Disposition": "attachment"}
    return await ranges.send(request, hub.registry.objects, Digest(found.digest), found.size, headers)


async def diff(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    name = door.segment(request, "name")
    before, after = (request.query_params.get(side, "") for side in ("from", "to"))

    def compare() -> Any:
        old, new = hub.registry.find(name, before), hub.registry.find(name, after)
        changes, variants = comparison.compare(hub.registry, hub.builds, old, new)
        return words.Difference(old.number, new.number, changes, variants)

    return door.reply(request, await hub.long_work(compare))


async def set_alias(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, words.AliasTarget, what="alias")
    name, alias = door.segment(request, "name"), door.segment(request, "alias")

    def move() -> words.Version:
        found = hub.registry.set_alias(name, alias, str(asked.version))
        return words.version(found, hub.registry.model(name)[1])

    return door.reply(request, await hub.threads(move))


async def delete_alias(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.threads(hub.registry.remove_alias, door.segment(request, "name"), door.segment(request, "alias"))
    return Response(status_code=204)


def _find(hub: Hub, request: Request) -> records.Version:
    return hub.registry.find(door.segment(request, "name"), door.segment(request, "version"))


_ONE = "/v1/models/{name}/versions/{version}"
_PAGE = (("limit", "most items, 1 to 1000"),)
ENDPOINTS = (
    Endpoint("GET", "/v1/blobs/{digest}", has_blob, "Whether a blob is here (HEAD), and its bytes", gives=bytes),
    Endpoint("PUT", "/v1/blobs/{digest}", put_blob, "Upload a blob", takes=bytes, gives=dict[str, Any], status=201),
    Endpoint(
        "POST",
        "/v1/blobs",
        post_blob,
        "Upload a blob, and be told its digest",
        takes=bytes,
        gives=dict[str, Any],
        status=201,
    ),
    Endpoint(
        "POST",
        "/v1/recognitions",
        recognise,
        "What a push would make of files, and why",
        takes=Push,
        gives=words.Recognised,
    ),
    Endpoint(
        "GET",
        "/v1/models",
        list_models,
        "Models",
        gives=words.Models,
        query=(("search", "part of a name or title"), ("after", "name to begin after"), *_PAGE),
    ),
    Endpoint("GET", "/v1/models/{name}", show_model, "A model", gives=words.Model),
    Endpoint(
        "PATCH", "/v1/models/{name}", change_model, "Change texts and tags", takes=words.ModelChange, gives=words.Model
    ),
    Endpoint(
        "GET",
        "/v1/models/{name}/versions",
        list_versions,
        "Versions, newest first",
        gives=words.Versions,
        query=(("before", "number to begin below"), *_PAGE),
    ),
    Endpoint(
        "POST",
        "/v1/models/{name}/versions",
        push,
        "Push: the next version (201), the one with the same content (200), or a draft to be signed (202)",
        takes=Push,
        gives=words.Version,
        status=201,
    ),
    Endpoint(
        "PUT",
        "/v1/models/{name}/drafts/{digest}",
        publish,
        "Publish a draft with its publisher's signature",
        takes=words.SignedRole,
        gives=words.Version,
        status=201,
    ),
    Endpoint("GET", _ONE, show_version, "A version by number, alias or 'latest'", gives=words.FullVersion),
    Endpoint(
        "PATCH",
        _ONE,
        change_version,
        "Tags, description, archive",
        takes=words.VersionChange,
        gives=words.FullVersion,
    ),
    Endpoint("DELETE", _ONE, delete_version, "Delete a version that nothing needs", status=204),
    Endpoint("GET", f"{_ONE}/manifest", manifest, "Its manifest, as its publisher signed for it", gives=bytes),
    Endpoint("GET", f"{_ONE}/patches", list_patches, "Patches to its files", gives=list[words.Patch]),
    Endpoint(
        "POST",
        f"{_ONE}/try",
        try_out,
        "What it says to a picture, tried out beside the hub",
        takes=bytes,
        gives=dict[str, Any],
        query=(("threshold", "least score in per cent, 0 to 100"),),
    ),
    Endpoint("GET", f"{_ONE}/files/{{path}}", file, "One of its files, whole or one range", gives=bytes),
    Endpoint(
        "GET",
        "/v1/models/{name}/diff",
        diff,
        "What differs between two versions",
        gives=words.Difference,
        query=(("from", "number or alias"), ("to", "number or alias")),
    ),
    Endpoint(
        "PUT",
        "/v1/models/{name}/aliases/{alias}",
        set_alias,
        "Point an alias at a version",
        takes=words.AliasTarget,
        gives=words.Version,
    ),
    Endpoint("DELETE", "/v1/models/{name}/aliases/{alias}", delete_alias, "Remove an alias", status=204),
)
