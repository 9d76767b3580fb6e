"""Who made a pushed model: an OpenSSF Model Signing bundle among its files is verified before they become a version.

It says who signed, not whether that is current: devices go by the signed metadata of releases alone. Format:
https://github.com/ossf/model-signing-spec (a Sigstore bundle with a DSSE envelope around one digest a file).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import json

from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, Denied, Invalid, Unavailable
from farshore.hub.verifier import SECONDS, Job, Verdict
from farshore.store.files import translated
from farshore.store.objects import Objects

BUNDLES = (".sig", ".sigstore", ".sigstore.json")
MAX_VERDICT = 1 << 20


@dataclass(frozen=True, slots=True)
class Signature:
    """A verified one.

    Attributes:
        bundle: name of the file that holds it.
        key: SHA-256 of the key that signed.
        names: the files it speaks for.

    """

    bundle: str
    key: str
    names: frozenset[str]

    def check_names(self, used: Iterable[str]) -> None:
        """Pass if it speaks for all of ``used``, the files that devices will run.

        Raises:
            Denied: it leaves one out.

        """
        missed = sorted(set(used) - self.names)
        if missed:
            raise Denied(f"{self.bundle}: does not sign {', '.join(missed[:5])}: sign all files of the model together")

    def __str__(self) -> str:
        return f"{self.bundle}: {len(self.names)} files signed by the key with SHA-256 {self.key}"


class Provenance:
    """Verifies bundles against the keys that a hub believes.

    Args:
        keys: PEM files of public keys; without any, bundles are not looked at.
        required: refuse a push without a bundle.

    Raises:
        Invalid: ``required`` without a key, or a key that cannot be read.

    """

    def __init__(self, keys: Iterable[Path], *, required: bool) -> None:
        self._keys = tuple(key.absolute() for key in keys)
        self._required = required
        if required and not self._keys:
            raise Invalid("signed models are required, but no key is believed: name one with --signed-by")
        for key in self._keys:
            if not key.is_file():
                raise Invalid(f"--signed-by {key}: no such file")

    def verify(self, parts: Mapping[str, Digest], objects: Objects, spool: Path) -> Signature | None:
        """Verify the bundle among pushed files.

        Args:
            parts: plain name → blob of every file.
            objects: where the blobs are.
            spool: folder for temporary files.

        Returns:
            What was signed; None if there is no bundle, or no key to verify one with.

        Raises:
            Denied: a bundle is required and there is none.
            Corrupt: the bundle does not fit these files or is not by a key that is believed.
            Invalid: there are several.
            Unavailable: disk or store failing.

        """
        bundles = sorted(name for name in parts if name.lower().endswith(BUNDLES))
        if not self._keys:
            return None
        if not bundles and self._required:
            raise Denied(
                f"this hub takes only signed models: push the bundle (a name ending in {BUNDLES[0]}) beside them"
            )
        if not bundles:
            return None
        if len(bundles) > 1:
            raise Invalid(f"{len(bundles)} signature bundles: {', '.join(bundles[:5])}; push one")
        verdict = self._ask(bundles[0], parts, objects, spool)
        if verdict.fault:
            raise Corrupt(f"{bundles[0]}: {verdict.fault}")
        return Signature(bundles[0], verdict.key, frozenset(verdict.files))

    def _ask(self, bundle: str, parts: Mapping[str, Digest], objects: Objects, spool: Path) -> Verdict:
        with ExitStack() as stack, translated(spool):
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=spool)))
            folder = scratch / "model"
            folder.mkdir()
            for name, digest in parts.items():
                path = stack.enter_context(objects.local(digest, spool))
                _lay(path, scratch / "bundle" if name == bundle else folder / name)
            return _run(Job(str(folder), str(scratch / "bundle"), tuple(str(key) for key in self._keys)))


def _lay(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _run(job: Job) -> Verdict:
    """Let a process do it; one that ends without a verdict did not believe."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "farshore.hub.verifier"],
            input=json.encode(job) + b"\n", capture_output=True, timeout=SECONDS * 2, check=False,
        )  # fmt: skip
        return json.decode(done.stdout[:MAX_VERDICT], type=Verdict)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"the signature took more than {SECONDS * 2} seconds to verify: push again") from None
    except msgspec.DecodeError:
        return Verdict(fault=f"its verification ended with status {done.returncode} and no verdict")
