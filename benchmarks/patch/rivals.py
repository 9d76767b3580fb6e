"""What other tools need for the same step: the best general compressors and delta tools, at their strongest settings.

Sizes are deterministic, so they are kept in a cache file by the digests of both sides; a tool that is not installed
is left out of the table rather than guessed.
"""

import hashlib
import io
import json
import lzma
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import zstandard


def _zip(_: bytes, b: bytes) -> int:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("model", b)
    return len(out.getvalue())


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, preset=9 | lzma.PRESET_EXTREME)


def _xz_words(data: bytes) -> bytes:
    """xz told by hand that the data are 4-byte words; nobody's default, shown beside the others for honesty."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}]
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters)


def _brotli(data: bytes) -> bytes:
    import brotli

    return brotli.compress(data, quality=11, lgwin=24)


def _zstd_patch(a: bytes, b: bytes) -> int:
    total = len(a) + len(b)
    params = zstandard.ZstdCompressionParameters.from_level(
        22, source_size=total, window_log=max(10, min(30, total.bit_length())), enable_ldm=True,
    )
    base = zstandard.ZstdCompressionDict(a, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if a else None
    return len(zstandard.ZstdCompressor(compression_params=params, dict_data=base).compress(b))


def _bsdiff(a: bytes, b: bytes) -> int:
    """bsdiff's three streams, each recompressed by the better of xz and brotli."""
    import bsdiff4.core

    streams = bsdiff4.core.diff(a, b)  # control, differences, extra
    return 32 + sum(min(len(_xz(s)), len(_brotli(s))) for s in streams)


def _xdelta3(a: bytes, b: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        base, target, out = (Path(folder) / name for name in ("a", "b", "p"))
        base.write_bytes(a)
        target.write_bytes(b)
        window = str(max(len(a), 1 << 19))
        subprocess.run(["xdelta3", "-9", "-S", "djw", "-B", window, "-e", "-f", "-s", base, target, out], check=True)
        return out.stat().st_size


def _tools() -> dict[str, Callable[[bytes, bytes], int]]:
    tools: dict[str, Callable[[bytes, bytes], int]] = {
        "zip": _zip,
        "xz -9e": lambda _, b: len(_xz(b)),
        "(xz lp=2)": lambda _, b: len(_xz_words(b)),
        "zstd -22 --patch-from": _zstd_patch,
        "xz of a+b": lambda a, b: len(_xz(a + b)) - len(_xz(a)),
    }
    try:
        import brotli  # noqa: F401

        tools["brotli 11"] = lambda _, b: len(_brotli(b))
        import bsdiff4  # noqa: F401

        tools["bsdiff*"] = _bsdiff
    except ImportError:
        pass
    if shutil.which("xdelta3"):
        tools["xdelta3"] = _xdelta3
    return tools


NOT_GENERAL = ("(xz lp=2)", "zip")


def sizes(a: bytes, b: bytes, cache: Path | None = None) -> dict[str, int]:
    """Bytes that each installed tool needs to bring `b` to one who holds `a` (empty `a`: nothing held)."""
    key = hashlib.sha256(hashlib.sha256(a).digest() + hashlib.sha256(b).digest()).hexdigest()
    known = json.loads(cache.read_text()) if cache and cache.exists() else {}
    row = known.setdefault(key, {})
    for name, run in _tools().items():
        if name not in row:
            row[name] = run(a, b)
    if cache:
        cache.write_text(json.dumps(known))
    return dict(row)
