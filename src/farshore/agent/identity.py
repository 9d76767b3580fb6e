"""Who this device is to its hub, and whose signature it believes.

The credential is made here and stored before it is first sent, so that a lost answer to the enrolment only means asking
again, with the same token and the same credential.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from farshore.agent.http_link import HttpLink
from farshore.agent.link import Link
from farshore.agent.settings import Settings
from farshore.core import documents, manifest
from farshore.core.errors import Conflict, Invalid, NotFound
from farshore.core.trust import KeyId, PublicKey
from farshore.core.wire import EnrolRequest, Token
from farshore.store import files


class Identity(Struct, frozen=True, omit_defaults=True):
    """What enrolment made.

    Attributes:
        hub: URL of the hub.
        device: id of this device there.
        credential: the device's secret.
        keys: public keys that sign manifests, pinned at enrolment; none while enrolment is under way.

    """

    hub: str
    device: manifest.Name
    credential: Token
    keys: Annotated[tuple[str, ...], Meta(max_length=16)] = ()

    def trusted(self) -> Mapping[KeyId, PublicKey]:
        """The pinned keys by id."""
        keys = [PublicKey.parse(text) for text in self.keys]
        return {key.id: key for key in keys}


def enrol(settings: Settings, token: str, device: str, link: Link | None = None) -> Identity:
    """Turn a one-time token into an identity; asking again after any interruption is safe, and once it is made nothing is asked.

    Args:
        settings: with the hub's URL.
        token: from the operator.
        device: the id to ask for.
        link: to the hub; made from the settings if None.

    Raises:
        Invalid: no hub URL, or a bad token or device id.
        Conflict: this device is enrolled at another hub already.
        Denied: the hub does not take the token.
        Unavailable: hub or disk; ask again.

    """
    manifest.check_name(device)
    known = _read(settings)
    if known is not None and known.keys:
        if settings.hub not in (None, known.hub):
            raise Conflict(
                f"this device is {known.device} at {known.hub} already; delete {_path(settings)} to enrol it anew"
            )
        return known
    if settings.hub is None:
        raise Invalid("which hub? give its URL")
    try:
        token = documents.convert(token.strip(), Token, what="token")
    except Invalid:
        raise Invalid("this is no enrolment token: give the one that `farshore device token` printed") from None
    files.make_folder(settings.folder)
    credential = known.credential if known is not None else secrets.token_urlsafe(32)
    identity = Identity(settings.hub, device, credential)
    _write(settings, identity)
    request = EnrolRequest(token, device, credential)
    reply = (link or HttpLink(settings.hub, None, settings.ca)).enrol(request)
    identity = replace(identity, device=reply.device, keys=reply.keys)
    identity.trusted()  # refuses what is not a key before anything is pinned
    _write(settings, identity)
    return identity


def load(settings: Settings) -> Identity:
    """The identity of an enrolled device.

    Raises:
        NotFound: not enrolled yet.
        Invalid: the file is damaged.

    """
    identity = _read(settings)
    if identity is None or not identity.keys:
        raise NotFound(
            f"this device is not enrolled (no identity in {settings.folder}): give --hub URL and --enrol TOKEN once"
        )
    return identity


def _read(settings: Settings) -> Identity | None:
    path = _path(settings)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    return documents.decode(data, Identity, what=str(path))


def _write(settings: Settings, identity: Identity) -> None:
    files.write_atomic(_path(settings), documents.canonical(identity), mode=0o600)


def _path(settings: Settings) -> Path:
    return settings.folder / "identity.json"
