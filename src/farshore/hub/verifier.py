"""One OpenSSF Model Signing bundle, verified in a process of its own: ``python -m farshore.hub.verifier``, its job as a line
of JSON on standard input, its verdict as one on standard output.

The library behind it (extra ``[signing]``) brings in dozens of packages and reads hostile input: neither belongs into the
hub's own process, and none of it on a device. Bounded in memory and processor time.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import resource
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct, json

MEMORY = 2 << 30
SECONDS = 1800
MAX_BUNDLE = 4 << 20


class Job(Struct, frozen=True):
    """What is to be verified.

    Attributes:
        folder: holds the files under their plain names, the bundle not among them.
        bundle: path of the bundle.
        keys: paths of PEM public keys (P-256, P-384, P-521), any of which may have signed.

    """

    folder: str
    bundle: str
    keys: tuple[str, ...]


class Verdict(Struct, frozen=True):
    """What came out.

    Attributes:
        key: SHA-256 of the key that signed, of its DER form; "" if none did.
        files: the names that it signed.
        fault: why the bundle is not believed; "" if it is.

    """

    key: str = ""
    files: tuple[str, ...] = ()
    fault: str = ""


def verify(job: Job) -> Verdict:
    """Verify a bundle against each key in turn. Files that it does not name are left aside: ``files`` says which it does."""
    if Path(job.bundle).stat().st_size > MAX_BUNDLE:
        return Verdict(fault=f"the bundle is larger than {MAX_BUNDLE} bytes")
    try:
        from model_signing import verifying  # noqa: PLC0415 - only this process pays for it
    except ImportError as error:
        return Verdict(fault=f"farshore[signing] is not installed on this hub ({error})")
    faults: list[str] = []
    for key in job.keys:
        config: Any = verifying.Config()  # type: ignore[no-untyped-call]
        config = config.use_elliptic_key_verifier(public_key=key).set_ignore_unsigned_files(True)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # standard output is the verdict's
                config.verify(Path(job.folder), Path(job.bundle))
            return Verdict(_fingerprint(Path(key)), _signed(Path(job.bundle)))
        except Exception as error:  # noqa: BLE001 - a hostile bundle may raise anything; all of it means "not believed"
            faults.append(_why(error, job.folder))
    return Verdict(fault="; ".join(dict.fromkeys(faults)))


def _why(error: Exception, folder: str) -> str:
    """One line without the library's dumps of digests."""
    text = str(error).strip().partition("\n")[0].replace(f"{folder}/", "")
    changed = re.findall(r"Hash mismatch for '([^']{1,255})'", text)
    if changed:
        return f"not the files that were signed: {', '.join(changed[:5])}"
    return text[:300] or f"the signature is not by this key ({type(error).__name__})"


def _fingerprint(key: Path) -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    public = serialization.load_pem_public_key(key.read_bytes())
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public.public_bytes(*form)).hexdigest()


def _signed(bundle: Path) -> tuple[str, ...]:
    """Names in a bundle whose signature was verified: the subjects of its in-toto statement."""
    envelope: dict[str, Any] = json.decode(bundle.read_bytes())["dsseEnvelope"]
    predicate = json.decode(base64.b64decode(envelope["payload"]))["predicate"]
    return tuple(sorted(one["name"] for one in predicate["resources"]))


def main() -> None:
    """Do the job on standard input."""
    job = json.decode(sys.stdin.buffer.readline(), type=Job)
    for what, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (limit, limit))
    sys.stdout.buffer.write(json.encode(verify(job)) + b"\n")


if __name__ == "__main__":
    main()
