"""Who a client is that connects, and whether it may: one read, then the proof."""

from __future__ import annotations

from msgspec import Struct

from farshore.core.errors import Denied, Unauthenticated
from farshore.hub import standing
from farshore.hub.hub import Hub
from farshore.hub.records import devices, identities, subscriptions
from farshore.hub.records.devices import PENDING
from farshore.hub.records.identities import CERTIFICATE
from farshore.hub.records.subscriptions import Subscriptions
from farshore.mqtt import sas
from farshore.mqtt.iothub import Login


class Waits(Denied):
    """It may come in once an operator let it: the client should come back."""


class Admitted(Struct, frozen=True):
    """A client that may speak.

    Attributes:
        version: of its identity: a change of that ends the connection.
        remembered: what it was subscribed to before.
        expires: when its token does, seconds since the epoch.

    """

    version: int
    remembered: Subscriptions
    expires: float = float("inf")


def admit(hub: Hub, login: Login, password: bytes | None, certified: str | None) -> Admitted:
    """Let a client in.

    Args:
        hub: this one.
        login: what it says of itself.
        password: its token; None without.
        certified: common name of its TLS certificate, which an authority of ours signed; None without.

    Raises:
        Denied: it may not; coming again does not help.
        Waits: not yet.
        Unavailable: the database does not answer.

    """
    who = login.identity
    with hub.database.reading() as tx:
        found = identities.one(tx, who.device, who.module)
        held = devices.standing(tx, who.device)
        remembered = subscriptions.one(tx, who.device, who.module)
    if found is None or held is None:
        raise Denied(f"no identity {who}: farshore iothub connection-string makes one")
    expires = float("inf")
    if found.kind == CERTIFICATE:
        if certified not in {who.device, str(who)}:
            raise Unauthenticated(f"its certificate has to name {who}")
    else:
        token = _token(password)
        if not sas.names(token, hub.settings.iothub_names, who.path):
            raise Unauthenticated(f"token: it is for {token.resource[:200]!r}, not for {who.path} of this hub")
        sas.verify(token, found.keys, hub.clock())
        expires = float(token.expires)
    if held.state == PENDING:
        raise Waits("this device waits for an operator: farshore device approve")
    standing.admit(held)
    return Admitted(found.version, remembered, expires)


def still(hub: Hub, device: str, module: str, version: int) -> None:
    """Pass if a client that was let in may stay.

    Raises:
        Denied: it may not.

    """
    with hub.database.reading() as tx:
        found, held = identities.one(tx, device, module), devices.standing(tx, device)
    if found is None or held is None:
        raise Denied("its identity was deleted")
    if found.version != version:
        raise Denied("its identity was changed: it has to prove itself anew")
    standing.admit(held)


def _token(password: bytes | None) -> sas.Token:
    if password is None:
        raise Unauthenticated("a token is needed as password")
    try:
        return sas.parse(password.decode())
    except UnicodeDecodeError:
        raise Unauthenticated("token: not text") from None
