"""A key ring: the folder of the offline keys of one hub's trust, one key a file.

``root-1.key`` … are the roots (give each to another person or place), ``targets.key`` says who publishes what, ``publisher.key``
signs versions. Beside them lie the last ``root.json`` and ``targets.json``: the ring believes a hub only if its line of roots
leads through this root.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from farshore.core.errors import Conflict, Denied, Invalid, NotFound
from farshore.core.trust import KeyId, PublicKey, SigningKey
from farshore.store import files, keys
from farshore.trust.repository import Holders

README = """This folder is a Farshore key ring. Whoever has these files can speak for your models. In plain words:

root-*.key     say who may hold the other keys. Several must sign together. Move each to another stick, safe or person;
               they are needed about once a year, and when another key was lost or stolen.
targets.key    says which publisher may release which model. Keep it offline too; needed when a publisher changes.
publisher.key  signs every version that is pushed. It lives where you push from: a build server, or your desk.
root.json,     public. What devices believe first, and the last word of the targets key.
targets.json

The hub has keys of its own (timestamp, snapshot, director), which never leave it: they say what is current, and can
release nothing. docs/security.md says what a thief of each key can do, and how to recover.
"""

Ask = Callable[[str], bytes]
"""``(name of the file)`` → the passphrase that seals it."""


class Ring:
    """One folder.

    Args:
        folder: of the ring.
        ask: for the passphrase of a sealed key.

    """

    def __init__(self, folder: Path, ask: Ask) -> None:
        self.folder, self._ask = folder, ask
        self._open: dict[str, SigningKey] = {}

    @classmethod
    def make(cls, folder: Path, ask: Ask) -> Ring:
        """An empty ring in a new or empty folder, readable by its owner alone.

        Raises:
            Conflict: something is there.

        """
        if folder.exists() and any(folder.iterdir()):
            raise Conflict(f"{folder} is not empty: a key ring gets a folder of its own")
        files.make_folder(folder, mode=0o700)
        folder.chmod(0o700)
        files.write_atomic(folder / "README.txt", README.encode())
        return cls(folder, ask)

    def add(self, name: str, passphrase: bytes | None) -> SigningKey:
        """A new key in a file of its own."""
        key = SigningKey(secrets.token_bytes(32))
        keys.write(self.folder / f"{name}.key", key, passphrase)
        self._open[name] = key
        return key

    def free(self, stem: str) -> str:
        """A name for a new key that no file has: ``stem``, or ``stem-2`` …"""
        names = {path.stem for path in self.folder.glob("*.key")}
        return next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, len(names) + 3))) if name not in names)

    def signers(self, holders: Holders, what: str, *, every: bool = False) -> list[SigningKey]:
        """Keys of this ring that may sign for a role, as many as are needed, or all.

        Raises:
            Denied: too few are here.

        """
        wanted = {key.id for key in holders.keys}
        found: dict[KeyId, SigningKey] = {}
        for path in sorted(self.folder.glob("*.key")):
            if len(found) >= holders.threshold and not every:
                break
            key = self._key(path)
            if key.public.id in wanted:
                found[key.public.id] = key
        if len(found) < holders.threshold:
            raise Denied(
                f"{what}: {holders.threshold} of its {len(wanted)} keys must sign, {len(found)} of them are in {self.folder}: "
                "put the files of the others there for the moment"
            )
        return list(found.values())

    def publics(self) -> dict[KeyId, tuple[str, PublicKey]]:
        """The keys that are here: id → name of the file, public key."""
        found = [(path.stem, self._key(path).public) for path in sorted(self.folder.glob("*.key"))]
        return {public.id: (name, public) for name, public in found}

    def keep(self, name: str, data: bytes) -> None:
        """Keep a public document."""
        files.write_atomic(self.folder / name, data)

    def read(self, name: str) -> bytes:
        """A public document that was kept.

        Raises:
            NotFound: it is not there.

        """
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{self.folder} is no key ring ({name} is missing): farshore keys init makes one") from None
        except OSError as error:
            raise Invalid(f"{self.folder / name}: cannot be read ({error.strerror})") from error

    def _key(self, path: Path) -> SigningKey:
        if path.stem not in self._open:
            try:
                self._open[path.stem] = keys.read(path)
            except Denied:
                self._open[path.stem] = keys.read(path, self._ask(path.name))
        return self._open[path.stem]


def publics_of(signers: Iterable[SigningKey]) -> tuple[PublicKey, ...]:
    """Their public halves."""
    return tuple(key.public for key in signers)
