"""What is left in a store for a device that cannot ask a Farshore hub, and how it asks for permission to fetch it.

Such a device speaks to somebody else's IoT Hub. A *dispatch* holds what a sync's reply would: the desired section, the director's
order for it, and by digest the signed metadata that prove it. The module's twin names the newest dispatch by a number, and nothing in a twin opens
anything: for each object the device *asks* in its reported section, and the answer, a direct method, carries addresses that soon
run out (``docs/azure.md``).
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from farshore.core import documents
from farshore.core.digest import Digest
from farshore.core.manifest import Count, DigestText, Name
from farshore.core.wire import MAX_ROLES, Fault, News, Route, SyncReply

MAX_DISPATCH = 256 << 10
MAX_WANT = 16
METHOD = "farshore-routes"
SECTION = "farshore"
"""Member of the desired and the reported section of the twin that is about Farshore."""

DISPATCH = "dispatch"
"""What a device asks for to get its own dispatch."""

Number = Annotated[int, Meta(ge=1, le=1 << 51)]
"""IoT Hub takes whole numbers up to 2^52."""

Wanted = Annotated[str, Meta(pattern=r"^(dispatch|sha256:[0-9a-f]{64})\Z")]


class Piece(Struct, frozen=True):
    """Signed metadata, kept as an object.

    Attributes:
        version: of the document.
        digest: of its bytes.
        size: in bytes.

    """

    version: Annotated[int, Meta(ge=1, le=1 << 53)]
    digest: DigestText
    size: Count


class Dispatch(Struct, frozen=True):
    """See the module.

    Attributes:
        number: grows with each dispatch for a device.
        device: whom it is for.
        desired: its whole section, with ``$version``.
        order: the director's, as it was signed. It answers no question, so it proves no time.
        roots: the line of trust roots, first to last.
        metadata: by role: timestamp, snapshot, targets, and the models' publishers.

    """

    number: Number
    device: Name
    desired: dict[str, Any]
    order: Raw
    roots: Annotated[tuple[Piece, ...], Meta(min_length=1, max_length=256)]
    metadata: Annotated[dict[Annotated[str, Meta(max_length=128)], Piece], Meta(max_length=MAX_ROLES)]

    def objects(self) -> set[Digest]:
        """Digests of all metadata."""
        return {Digest(one.digest) for one in (*self.roots, *self.metadata.values())}


class Pointer(Struct, frozen=True):
    """``desired.farshore`` of a module's twin: which dispatch is the newest. What else stands there is for people."""

    dispatch: Number


class Ask(Struct, frozen=True):
    """``reported.farshore.ask``: a device wants addresses.

    Attributes:
        id: fresh for each question; the answer gives it back.
        want: digests, or :data:`DISPATCH`.

    """

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{8,64}\Z")]
    want: Annotated[tuple[Wanted, ...], Meta(min_length=1, max_length=MAX_WANT)]


class Answer(Struct, frozen=True, omit_defaults=True):
    """Payload of the direct method :data:`METHOD`.

    Attributes:
        id: of the question.
        expires: seconds for which the addresses are good.
        routes: by what was wanted: patches, smallest first, then the whole.
        faults: by what was wanted and is not given.

    """

    id: str
    expires: Count
    routes: Annotated[dict[Wanted, Annotated[tuple[Route, ...], Meta(max_length=16)]], Meta(max_length=MAX_WANT)] = {}
    faults: Annotated[dict[Wanted, Fault], Meta(max_length=MAX_WANT)] = {}


class Published(Struct, frozen=True):
    """A reply to a question that nobody asked, out of the hub: :class:`farshore.core.wire.SyncReply` with all of it there."""

    desired: dict[str, Any]
    trust: News


def name_of(device: str) -> str:
    """Where a device's dispatch stands in the store."""
    return f"dispatches/{device}.json"


def patches_of(digest: Digest) -> str:
    """Where the list of patches to an object stands in the store: JSON, a list of routes without addresses."""
    return f"patches/{digest.partition(':')[2]}.json"


def reply_of(dispatch: Dispatch, seen: int, news: News, retry: float) -> SyncReply:
    """The sync reply that a dispatch stands for.

    Args:
        dispatch: believed about nothing yet.
        seen: ``$version`` of what the device holds.
        news: the order and the metadata that the device lacks.
        retry: seconds until the next sync.

    """
    fresh = dispatch.desired.get("$version") != seen
    return SyncReply(dispatch.desired if fresh else None, retry, news)


def decode(data: bytes) -> Dispatch:
    """Read a dispatch.

    Raises:
        Invalid, TooLarge: it is none.

    """
    return documents.decode(data, Dispatch, what="the dispatch", limit=MAX_DISPATCH)
