"""Who this device is to its hub, and whose signature it believes.

Key and bearers are made here and stored before anything of them is first sent, so that a lost answer only means asking
again, with the same words. Only the key stays: a bearer lives for a week, and is renewed by a signature over the hub's
challenge. Each renewal is counted on both sides; by that the hub finds out copies of a device.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from farshore.agent import trust
from farshore.agent.http_link import HttpLink
from farshore.agent.link import Link
from farshore.agent.settings import Settings
from farshore.core import documents, invitation, manifest, possession
from farshore.core.errors import Conflict, Invalid, NotFound
from farshore.core.invitation import Invitation
from farshore.core.trust import SigningKey
from farshore.core.wire import ChallengeRequest, EnrolRequest, RenewRequest, Token, Turn
from farshore.store import files
from farshore.tls import peer
from farshore.trust.metadata import LIMITS

MAX_ROOT = LIMITS["root"]


class Identity(Struct, frozen=True, omit_defaults=True):
    """What enrolment made.

    Attributes:
        hub: URL of the hub.
        device: id of this device there.
        credential: the device's bearer.
        root: the trust root that was pinned at enrolment; "" while enrolment is under way.
        turn: renewals of the bearer.
        coming: the bearer of a renewal that is under way; "" if none is.
        boot: the start of the machine at which the bearer was made.

    """

    hub: str
    device: manifest.Name
    credential: Token
    root: Annotated[str, Meta(max_length=MAX_ROOT)] = ""
    turn: Turn = 0
    coming: Annotated[str, Meta(max_length=128)] = ""
    boot: Annotated[str, Meta(max_length=128)] = ""


def enrol(settings: Settings, token: str, device: str, link: Link | None = None, *, boot: str = "") -> Identity:
    """Turn a one-time token into an identity; asking again after any interruption is safe, and once it is made nothing is asked.

    Args:
        settings: with the hub's URL.
        token: from the operator; "" if an operator announced this device's key.
        device: the id to ask for.
        link: to the hub; made from the settings if None.
        boot: names this start of the machine.

    Raises:
        Invalid: no hub URL, or a bad token or device id.
        Conflict: this device is enrolled at another hub already.
        Denied: the hub does not take the token, or its trust root is not the one that the token names.
        Unavailable: hub or disk; ask again.

    """
    manifest.check_name(device)
    known = _read(settings)
    if known is not None and known.root:
        if settings.hub not in (None, known.hub):
            raise Conflict(
                f"this device is {known.device} at {known.hub} already; delete {_path(settings)} and {_key_path(settings)}"
                " to enrol it anew"
            )
        return known
    if settings.hub is None:
        raise Invalid("which hub? give its URL")
    invited = invitation.parse(token) if token else Invitation("")
    key = settle_key(settings)
    credential = known.credential if known is not None else secrets.token_urlsafe(32)
    identity = Identity(settings.hub, device, credential, boot=boot)
    _write(settings, identity)
    request = EnrolRequest(device, str(key.public), possession.hashed(credential), token=invited.secret)
    reply = (link or _link(settings, settings.hub, invited.ca)).enrol(possession.sign(key, request))
    root = trust.pinned([bytes(one) for one in reply.roots], invited.root)
    identity = replace(identity, device=reply.device, root=root.decode())
    _write(settings, identity)
    return identity


def open_link(settings: Settings, who: Identity) -> HttpLink:
    """The link to this device's hub.

    Raises:
        Invalid: it would be spoken to in the clear, or the authority's file cannot be read.

    """
    return _over(settings, settings.hub or who.hub, who.credential)


def _link(settings: Settings, hub: str, pin: str) -> HttpLink:
    """The link for enrolment: to the hub that the token names, or else to whoever has a certificate for that name."""
    peer.check_address(hub, insecure=settings.insecure_http)
    files.remove(_ca_path(settings))
    if pin and hub.startswith("https:") and settings.ca is None:
        files.write_atomic(_ca_path(settings), peer.fetch_authority(hub, pin, settings.certificate))
    return _over(settings, hub, None)


def _over(settings: Settings, hub: str, credential: str | None) -> HttpLink:
    own = _ca_path(settings)
    pinned = settings.ca is None and own.exists()
    return HttpLink(
        hub, credential, own if pinned else settings.ca, insecure=settings.insecure_http, pinned=pinned, certificate=settings.certificate,
    )  # fmt: skip


def renew(settings: Settings, who: Identity, link: Link, boot: str) -> Identity:
    """A new bearer, by the device's key. Asking again after any interruption is safe.

    Args:
        settings: of this device.
        who: its identity.
        link: to its hub.
        boot: names this start of the machine.

    Returns:
        the identity from now on; it is on disk.

    Raises:
        Denied: the hub keeps this device out; the message says why.
        Invalid: the key is missing or damaged.
        Unavailable: hub or disk; ask again.

    """
    key = _key(settings)
    if not who.coming:
        who = replace(who, coming=secrets.token_urlsafe(32))
        _write(settings, who)
    challenge = link.challenge(ChallengeRequest(who.device)).challenge
    request = RenewRequest(who.device, who.turn, challenge, possession.hashed(who.coming))
    reply = link.renew(possession.sign(key, request))
    who = replace(who, credential=who.coming, coming="", turn=reply.turn, boot=boot)
    _write(settings, who)
    return who


def settle_key(settings: Settings) -> SigningKey:
    """This device's key, made at the first call; readable by its owner alone.

    Raises:
        Invalid: it is damaged.
        Unavailable: the disk does not take it.

    """
    if not _key_path(settings).exists():
        files.make_folder(settings.folder)
        files.write_atomic(_key_path(settings), secrets.token_bytes(32), mode=0o600)
    return _key(settings)


def load(settings: Settings) -> Identity:
    """The identity of an enrolled device.

    Raises:
        NotFound: not enrolled yet.
        Invalid: the file is damaged.

    """
    identity = _read(settings)
    if identity is None or not identity.root:
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


def _key(settings: Settings) -> SigningKey:
    path = _key_path(settings)
    try:
        return SigningKey(path.read_bytes())
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror}): restore it, or enrol this device anew") from error
    except Invalid:
        raise Invalid(f"{path} is damaged: restore it, or enrol this device anew") from None


def _ca_path(settings: Settings) -> Path:
    return settings.folder / "hub-ca.pem"


def _key_path(settings: Settings) -> Path:
    return settings.folder / "device.key"


def _path(settings: Settings) -> Path:
    return settings.folder / "identity.json"
