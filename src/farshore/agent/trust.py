"""What this device believes, kept on its disk: the chain of metadata, the last order, and the time.

The rules are :mod:`farshore.trust`'s; this shell feeds them from sync replies and keeps what they accept, one file a role, each
replaced durably. Nothing here is secret, and each file vouches for itself: one that is damaged is asked for again.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Generator, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from farshore.agent.clock import Clock
from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, Denied, FarshoreError, Invalid
from farshore.core.wire import DesiredModel, Fault, News
from farshore.store import files
from farshore.trust import director, releases
from farshore.trust.chain import Chain
from farshore.trust.director import Order
from farshore.trust.metadata import Expired, moment, pin_of
from farshore.trust.refresh import Refresh, Want

log = logging.getLogger(__name__)

EARLIEST = datetime(2026, 11, 1, tzinfo=UTC)
"""No copy of this program is older, so no clock that says less is right."""

REMEMBER_SECONDS = 3600
"""How much later an order must be than the one on the disk to take its place: flash wears, and orders come every minute."""

_ORDER = "order"


class Trust:
    """One device's.

    Args:
        folder: made when missing.
        device: its id.
        root: pinned at enrolment.
        clock: time, perhaps wrong.
        asks: whether the link carries questions to the director. Where it does not (an order lies in a store), no order proves what time
            it is: then expiry is asked by the device's clock, which is never before the last order's.

    Raises:
        Corrupt, Denied: there is no root to begin with.
        Unavailable: the disk fails.

    """

    def __init__(self, folder: Path, device: str, root: bytes, clock: Clock, *, asks: bool = True) -> None:
        self._folder, self._device, self._clock, self._asks = folder, device, clock, asks
        files.make_folder(folder)
        files.sweep(folder)
        self._stored = _read(folder)
        self.chain = _begin(self._stored, root)
        self._heard = self._stored.get(_ORDER)
        self._kept = self._order = self._unsealed(self._heard)
        self._told: tuple[float, float] | None = None
        self.refused: Fault | None = None

    # -- the question and its answer -------------------------------------------------------------------------------

    def ask(self) -> str:
        """A fresh nonce for the next sync; "" where nobody answers it."""
        return secrets.token_urlsafe(16) if self._asks else ""

    def held(self) -> dict[str, int]:
        """Versions of what is here, by role."""
        return self.chain.held()

    def hear(self, nonce: str, news: News | None, desired: dict[str, Any] | None, models: Iterable[str]) -> None:
        """Believe the signed part of a sync reply, or refuse the reply.

        Metadata that are in order are kept also when the rest is refused.

        Args:
            nonce: of the question.
            news: the signed part.
            desired: the section that came with it, if one did.
            models: that are desired after it.

        Raises:
            Denied, Corrupt, Invalid: it is not to be believed; nothing in the reply is.
            Unavailable: the disk does not take it.

        """
        try:
            if news is None:
                raise Denied("the hub's answer is not signed")
            self._learn(news, models)
            self._obey(nonce, bytes(news.order), desired)
        except (Denied, Corrupt, Invalid) as error:
            self.refused = Fault(error.code, error.message[:1024])
            raise
        self.refused = None

    # -- verdicts --------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The time: the hub's, carried on, once it was heard since this start; else the machine's, but never before the floor."""
        if self._told is not None:
            told, at = self._told
            return max(moment(told + self._clock.monotonic() - at), self._floor())
        return max(moment(self._clock.now()), self._floor())

    def stale(self) -> Fault | None:
        """Why nothing new may be installed for now, whatever it is."""
        now = self.now()
        try:
            self.chain.check_current(now)
            if self._order is None:
                raise Expired("no order of the hub was heard yet")
            if moment(self._order.expires) <= now:
                raise Expired(f"the hub's last order ended on {moment(self._order.expires):%Y-%m-%d %H:%M} UTC")
        except FarshoreError as error:
            return Fault(error.code, error.message[:1024])
        return None

    def bars(self, model: str, want: DesiredModel, *, here: bool) -> Fault | None:
        """Why a desired version may not be installed, or not be gone back to.

        Args:
            model: name.
            want: as desired.
            here: it is installed already: then no expiry keeps it from running.

        """
        try:
            releases.check(self.chain, model, want.version, Digest(want.digest), self.now())
        except Expired as error:
            return None if here else Fault(error.code, f"stale: {error.message}"[:1024])
        except FarshoreError as error:
            return Fault(error.code, error.message[:1024])
        stale = None if here else self.stale()
        return None if stale is None else Fault(stale.code, f"stale: {stale.message}"[:1024])

    # -- inside ----------------------------------------------------------------------------------------------------

    def _learn(self, news: News, models: Iterable[str]) -> None:
        """Take over what is newer and signed; a model's role that is not harms no other model."""
        once = Refresh(self.chain)
        try:
            _feed(once.top(), news)
            for model in sorted(models):
                try:
                    _feed(once.find(releases.path_of(model, 1)), news)
                except (Denied, Corrupt, Invalid) as error:
                    log.warning("%s: %s", model, error.message)
        finally:
            needed = releases.roles_for(set(models))
            self._keep(once.chain.without_roles(once.chain.roles.keys() - needed))

    def _obey(self, nonce: str, data: bytes, desired: dict[str, Any] | None) -> None:
        assert self.chain.targets is not None
        order, last = director.unseal(data, self.chain.targets.signed), self._order
        if desired is not None:
            meant = director.digest_of(desired)
        else:
            meant = Digest(order.desired if last is None else last.desired)
        director.check(order, device=self._device, nonce=nonce, seq=0 if last is None else last.seq, desired=meant)
        if self._is_worth_a_write(order):
            self._write(_ORDER, data)
            self._kept = order
        self._heard, self._order = data, order
        if self._asks:
            self._told = float(order.issued), self._clock.monotonic()

    def _is_worth_a_write(self, order: Order) -> bool:
        kept = self._kept
        if kept is None or (order.seq, order.desired) != (kept.seq, kept.desired):
            return True
        return abs(order.issued - kept.issued) >= REMEMBER_SECONDS

    def _unsealed(self, data: bytes | None) -> Order | None:
        if data is None or self.chain.targets is None:
            return None
        try:
            return director.unseal(data, self.chain.targets.signed)
        except FarshoreError:
            return None

    def _floor(self) -> datetime:
        """The time that has certainly come: what the director last signed, as far as offline keys have signed for that time.

        So a stolen online key cannot push a device into a future from which it does not come back.
        """
        if self._order is None or self.chain.targets is None:
            return EARLIEST
        bound = min(self.chain.root.signed.expires, self.chain.targets.signed.expires)
        return max(EARLIEST, min(moment(self._order.issued), bound))

    def _keep(self, chain: Chain) -> None:
        documents = chain.documents()
        for role, data in documents.items():
            if self._stored.get(role) != data:
                self._write(role, data)
        for role in self._stored.keys() - documents.keys() - {_ORDER}:
            files.remove(_path(self._folder, role))
            del self._stored[role]
        before, self.chain = self.chain, chain
        if before.targets is not chain.targets:  # a director who was replaced binds us to nothing
            self._kept = self._unsealed(self._stored.get(_ORDER))
            self._order = self._unsealed(self._heard)

    def _write(self, role: str, data: bytes) -> None:
        files.write_atomic(_path(self._folder, role), data)
        self._stored[role] = data


def pinned(roots: Sequence[bytes], pin: str) -> bytes:
    """The root to begin with: the last in line, if the line leads through the one that the operator's token names.

    Args:
        roots: as the hub gave them, first to last.
        pin: SHA-256 in base64url; "" believes the last, because it is the first one heard.

    Raises:
        Denied: none is the one named, or one does not follow from the one before.
        Corrupt: what came is no line of roots.

    """
    first = len(roots) - 1
    if pin:
        matches = [at for at, data in enumerate(roots) if pin_of(data) == pin]
        if not matches:
            raise Denied("the hub's trust root is not the one that the enrolment token names: is this the right hub?")
        first = matches[0]
    chain = Chain.begin(roots[first])
    for data in roots[first + 1 :]:
        chain = chain.with_root(data)
    return chain.root.raw


def _begin(stored: dict[str, bytes], root: bytes) -> Chain:
    if "root" in stored:
        try:
            return Chain.load({role: data for role, data in stored.items() if role != _ORDER})
        except FarshoreError as error:
            log.warning(
                "the trust root on the disk is damaged (%s): beginning with the one of the enrolment", error.message
            )
    return Chain.begin(root)


def _feed(asking: Generator[Want, bytes | None, Any], news: News) -> None:
    """Drive a workflow with what came."""
    roots = iter(news.roots)
    answer: bytes | None = None
    try:
        while True:
            want = asking.send(answer)
            raw = next(roots, None) if want.role == "root" else news.metadata.get(want.role)
            answer = None if raw is None else bytes(raw)
    except StopIteration:
        return


def _path(folder: Path, role: str) -> Path:
    return folder / f"{quote(role, safe='')}.json"


def _read(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.iterdir():
        if path.suffix == ".json":
            try:
                found[unquote(path.stem)] = path.read_bytes()
            except OSError as error:
                log.warning("%s cannot be read (%s)", path, error.strerror)
    return found
