"""A hub's parts, put together: what :mod:`.api` speaks for and :mod:`.app` starts."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote

import anyio.to_thread
from anyio import CapacityLimiter

from farshore.core import wire
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Invalid
from farshore.core.invitation import Invitation
from farshore.hub import authority, moments
from farshore.hub.authority import Authority
from farshore.hub.bells import Bells
from farshore.hub.builds import Builds
from farshore.hub.census import Census
from farshore.hub.challenges import Challenges
from farshore.hub.classic import Bundles
from farshore.hub.configurations import Configurations
from farshore.hub.connected import Connected
from farshore.hub.database import Database
from farshore.hub.deployments import Deployments
from farshore.hub.director import Director
from farshore.hub.enrolment import Enrolments
from farshore.hub.fleet import Fleet
from farshore.hub.identities import Identities
from farshore.hub.issuer import Issuer
from farshore.hub.layers import Layers
from farshore.hub.ledger import Ledger
from farshore.hub.operators import Operators
from farshore.hub.plans import Plans
from farshore.hub.policies import Policies
from farshore.hub.provenance import Provenance
from farshore.hub.queries import Queries
from farshore.hub.records import changes, messages
from farshore.hub.registry import Registry
from farshore.hub.rollouts import Rollouts
from farshore.hub.savings import Savings
from farshore.hub.settings import Settings
from farshore.hub.standing import Standings
from farshore.hub.telemetry import Telemetry
from farshore.hub.tickets import Tickets
from farshore.hub.tryouts import Tryouts
from farshore.store import files
from farshore.store.objects import Objects
from farshore.trust.metadata import pin_of

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)

ENROLMENTS_KEPT = 30 * 24 * 3600
CHANGES_KEPT = 100_000
SWEEP_SECONDS = 24 * 3600
ADMIN = "admin.token"
LONG_THREADS = 4
SECRET = 32
"""Bytes of a secret."""


class Hub:
    """Opens everything that a hub needs, and closes it.

    Args:
        settings: of this hub.
        clock: tells the time.

    Raises:
        Conflict: another hub uses the data folder, or a newer one made its database.
        Unavailable: the folder or the database cannot be used.
        Invalid: a setting names no such thing.

    """

    def __init__(self, settings: Settings, clock: moments.Clock = time.time) -> None:
        self.settings = settings
        self.clock = clock
        data = settings.data.absolute()
        files.make_folder(data, mode=0o700)
        self._lock = _alone(data / "hub.lock")
        try:
            spool = data / "spool"
            files.make_folder(spool, mode=0o700)
            files.sweep(spool)
            secret = _secret(data / "tickets.key")
            self.tickets = Tickets(secret, settings.ticket_seconds)
            self.authority: Authority | None = None
            self.renew_certificate()
            self.database = Database(settings.database_url)
            self.database.migrate()
            self.director = Director(self.database, data / "keys", clock)
            self.registry = Registry(self.database, _objects(settings), self.director, spool, clock)
            self.fleet = Fleet(self.database, self.director, clock)
            self.deployments = Deployments(self.database, self.director, clock)
            self.rollouts = Rollouts(self.database, self.director, clock)
            self.ledger = Ledger(self.database)
            self.layers = Layers(self.database, clock)
            self.telemetry = Telemetry(self.database)
            self.savings = Savings(self.database, self.registry)
            interval = wire.MAX_WAIT + settings.sync_seconds
            self.census = Census(self.database, clock, interval, settings.seen_seconds)
            self.enrolments = Enrolments(self.database, clock, settings.bearer_seconds)
            self.standings = Standings(self.database, clock, Challenges(secret), settings.bearer_seconds)
            self._know_iothub(data)
            self.operators = Operators(self.database, clock)
            self.issuer = _issuer(settings, clock)
            if settings.development:
                self.operators.settle_development(data / ADMIN)
            else:
                self.operators.end_development(data / ADMIN)
            self.provenance = Provenance(settings.believed, required=settings.require_signature)
            self.builds = Builds(self.database, self.registry, settings, clock)
            self.plans = Plans(self.database, self.registry, self.builds, clock)
            self.tryouts = Tryouts(self.registry, data / "tryouts")
            self.fleet.resolution.foresee = self.plans.foresee
        except BaseException:
            os.close(self._lock)
            raise
        self.bells = Bells(settings.held)
        self.connected = Connected(self.database, clock)
        self.queries.connected = self.connected.connected
        self._limiter: CapacityLimiter | None = None
        self._long_limiter: CapacityLimiter | None = None
        self._swept = 0.0
        self._closed = False

    def _know_iothub(self, data: Path) -> None:
        """What the doors for IoT Hub's clients ask."""
        self.identities = Identities(self.database, self.clock)
        self.policies = Policies(data / "iothub.keys")
        self.bundles = Bundles(self.database, self.registry, self._address)
        self.configurations = Configurations(self.database, self.deployments, self.identities, self.clock)
        self.queries = Queries(self.database, self.fleet.resolution, self.clock)

    def _address(self, device: str, digest: Digest) -> str:
        """Where a device may fetch an object for a while, as an address that it can open by itself."""
        if self.settings.direct:
            return self.registry.objects.address(digest, self.tickets.seconds)
        ticket = quote(self.tickets.write(device, digest, self.clock()), safe="")
        return f"{self.settings.url}/device/v1/objects/{digest}?ticket={ticket}"

    def renew_certificate(self) -> None:
        """Settle the hub's own authority and certificate, if it is its own authority."""
        if self.settings.own_authority:
            folder = self.settings.data.absolute() / "tls"
            self.authority = authority.settle(folder, self.settings.reached_by, self.clock())

    def certificate_is_due(self) -> bool:
        """Whether the hub's own certificate should be made anew."""
        return self.authority is not None and self.clock() >= self.authority.renew

    def invitation(self, secret: str) -> str:
        """What an operator hands to a device: the token's secret, and the pins by which the device knows this hub."""
        return str(
            Invitation(secret, ca=self.authority.pin if self.authority else "", root=pin_of(self.director.roots()[-1]))
        )

    def setup_link(self, secret: str) -> str:
        """The address by which an operator chooses a password. The secret stands behind ``#``: no log of addresses has it."""
        return f"{self.settings.url}/setup#{Invitation(secret, ca=self.authority.pin if self.authority else '')}"

    async def threads(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run short blocking work, a few reads and writes of the database, beside the event loop."""
        if self._limiter is None:  # it belongs to the event loop, which is not there yet at construction
            self._limiter = CapacityLimiter(self.settings.threads)
        return await anyio.to_thread.run_sync(lambda: call(*args, **kwargs), limiter=self._limiter)

    async def long_work(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work that may take minutes (reading models, moving files) beside the event loop.

        It has threads of its own, so that operators who push never keep devices from syncing.
        """
        if self._long_limiter is None:
            self._long_limiter = CapacityLimiter(LONG_THREADS)
        return await anyio.to_thread.run_sync(lambda: call(*args, **kwargs), limiter=self._long_limiter)

    def tidy(self) -> None:
        """What is done now and then: sign anew what would expire, collect unused blobs, forget old tokens and old lines of the
        feed.
        """
        self.director.renew()
        self.registry.collect()
        if self.clock() - self._swept >= SWEEP_SECONDS:
            self._swept = self.clock()
            self.registry.sweep()
        with self.database.writing() as tx:
            self.enrolments.forget(tx, self.clock() - ENROLMENTS_KEPT)
            changes.prune(tx, CHANGES_KEPT)
            messages.forget_expired(tx, self.clock())
            self.rollouts.forget(tx, self.clock())

    def close(self) -> None:
        """Write down what is only in memory, and let go of the data folder. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self.tryouts.close()
            self.builds.close()
            self.fleet.flush_seen()
            self.connected.flush()
        finally:
            self.database.close()
            os.close(self._lock)


def _objects(settings: Settings) -> Objects:
    found = Objects.open(settings.store_url)
    if settings.direct and not found.signs:
        raise Invalid("--direct: devices can fetch only from a store that signs addresses: az://, s3:// or gs://")
    return found


def _issuer(settings: Settings, clock: moments.Clock) -> Issuer | None:
    if not settings.oidc_issuer:
        return None
    secret = Path(settings.oidc_client_secret_file) if settings.oidc_client_secret_file else None
    return Issuer(settings.oidc_issuer, settings.oidc_client_id, secret, f"{settings.url}/login/oidc/back", clock)


def _alone(path: Path) -> int:
    """Hold the folder's lock as long as the returned descriptor is open; it ends with the process, however that dies."""
    with files.translated(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise Conflict(f"another hub uses {path.parent}: stop it, or choose another data folder") from None
    return fd


def _secret(path: Path) -> bytes:
    """The secret bytes in ``path``, made at the first start; readable by nobody else."""
    if not path.exists():
        files.write_atomic(path, secrets.token_bytes(SECRET), mode=0o600)
    data = path.read_bytes()
    if len(data) != SECRET:
        raise Invalid(f"{path} should hold {SECRET} bytes: restore it from a backup")
    return data
