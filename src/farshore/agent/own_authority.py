"""A device as its own publisher and director, for one model whose versions nobody signs.

An operator who turns the classic contract on believes whoever writes the module's twin. What is taken from there goes the way of
everything else, so that trust, trial and way back have one form: it is signed here, by a key that never leaves the device and that no
other device believes.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from msgspec import Raw, Struct
from msgspec.structs import replace
from tuf.api.metadata import Snapshot, Targets, Timestamp

from farshore.core import digest as digests
from farshore.core import documents, manifest, twin
from farshore.core.digest import Digest
from farshore.core.errors import Invalid
from farshore.core.trust import SigningKey
from farshore.core.wire import News, SyncRequest
from farshore.store import files
from farshore.trust import director, repository
from farshore.trust.director import Order
from farshore.trust.releases import Release, role_of
from farshore.trust.repository import Holders

KEPT = 3
"""Releases that stay listed: what runs, what was before it, and what comes."""

FAR = 4_000_000_000.0
"""Seconds since 1970 by which metadata are signed: they never expire. Expiry guards against somebody between signer and device, and
here is nobody.
"""


class State(Struct, frozen=True):
    """What is kept on disk.

    Attributes:
        version: number of the newest release; 0 for none.
        signed: counts every signing.
        source: what the newest release was made from, as the twin said it.
        releases: number → (digest, length of the manifest).

    """

    version: int = 0
    signed: int = 1
    source: tuple[str, str] = ("", "")
    releases: dict[str, tuple[str, int]] = {}


class OwnAuthority:
    """See the module.

    Args:
        folder: made when missing.
        device: its id.
        model: name of the one model.

    Raises:
        Invalid: what is kept is damaged; the message says what to delete.
        Unavailable: the disk fails.

    """

    def __init__(self, folder: Path, device: str, model: str) -> None:
        self._folder, self._device, self.model = folder, device, manifest.check_name(model)
        files.make_folder(folder, mode=0o700)
        files.sweep(folder)
        key, root = folder / "own.key", folder / "root.json"
        if not key.exists():
            files.write_atomic(key, secrets.token_bytes(32), mode=0o600)
        try:
            self._key = SigningKey(key.read_bytes())
            state = folder / "state.json"
            self.state = documents.decode(state.read_bytes(), State, what=str(state)) if state.exists() else State()
        except (OSError, Invalid) as error:
            raise Invalid(
                f"{folder} is damaged ({error}): delete it, and {folder.parent / 'trust'}, to begin anew"
            ) from error
        self._mine = Holders((self._key.public,))
        if not root.exists():
            made = repository.root(dict.fromkeys(("root", "timestamp", "snapshot", "targets"), self._mine), 1, FAR)
            files.write_atomic(root, repository.sign(made, [self._key]))
        self.root = root.read_bytes()

    @property
    def newest(self) -> Digest | None:
        """Digest of the newest release's manifest."""
        found = self.state.releases.get(str(self.state.version))
        return None if found is None else Digest(found[0])

    def release(self, content: manifest.Content, source: tuple[str, str]) -> bytes:
        """Make the next version, and keep its manifest.

        Args:
            content: what it is.
            source: what it was made from.

        Returns:
            the manifest.

        """
        number = self.state.version + 1
        payload = manifest.encode(manifest.Manifest(self.model, number, content))
        digest = digests.of(payload)
        files.write_atomic(self._folder / f"{digests.hex_of(digest)}.json", payload)
        kept = dict(list({**self.state.releases, str(number): (str(digest), len(payload))}.items())[-KEPT:])
        self._write(State(number, self.state.signed + 1, source, kept))
        names = {f"{digests.hex_of(Digest(one))}.json" for one, _ in kept.values()} | {
            "own.key",
            "root.json",
            "state.json",
        }
        for path in self._folder.iterdir():
            if path.is_file() and path.suffix == ".json" and path.name not in names:
                files.remove(path)
        return payload

    def forget(self) -> None:
        """Forget what the newest release was made from, so that it is made anew."""
        self._write(replace(self.state, source=("", "")))

    def manifest(self, digest: Digest) -> bytes | None:
        """A manifest made here."""
        path = self._folder / f"{digests.hex_of(digest)}.json"
        return path.read_bytes() if path.exists() else None

    def desired(self) -> dict[str, Any]:
        """The desired section: the newest release, if there is one."""
        models = (
            {}
            if self.newest is None
            else {twin.key_of(self.model): {"version": self.state.version, "digest": self.newest}}
        )
        return {"models": models, "$version": self.state.signed}

    def news(self, asked: SyncRequest, now: float) -> News:
        """The signed part of the answer to a sync.

        Args:
            asked: the question.
            now: seconds since the epoch.

        """
        desired, number = self.desired(), self.state.signed
        moment = int(now)
        order = Order(self._device, number, asked.nonce, moment, moment + director.LIFE, director.digest_of(desired))
        releases = {int(one): Release(Digest(digest), size) for one, (digest, size) in self.state.releases.items()}
        role = repository.role(self.model, releases, 1, number, FAR)
        targets = repository.targets(self._mine, {self.model: self._mine}, number, FAR)
        snapshot = repository.snapshot({"targets": number, role_of(self.model): number}, number, FAR)
        timestamp = repository.timestamp(number, number, FAR)
        made: dict[str, Timestamp | Snapshot | Targets] = {
            "timestamp": timestamp,
            "snapshot": snapshot,
            "targets": targets,
            role_of(self.model): role,
        }
        lacking = {
            name: Raw(repository.sign(one, [self._key])) for name, one in made.items() if asked.have.get(name) != number
        }
        return News(Raw(director.seal(order, self._key)), (), lacking)

    def _write(self, state: State) -> None:
        files.write_atomic(self._folder / "state.json", documents.canonical(state))
        self.state = state
