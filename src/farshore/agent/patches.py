"""Patches on a device: what it holds and a patch → what it lacks."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

import farshore
from farshore.store.views import pieces, view

MEMORY = 192
"""MiB that a patch may ask for: the format's 64 and the largest block of rows that an encoder makes fit in it."""


def usable() -> bool:
    """Whether patches are worth fetching here: without the kernel, applying one takes longer than most links take for the whole.

    Looks for the kernel's file only: importing it would bring numpy along.
    """
    return PathFinder.find_spec("_kernel", [str(Path(farshore.__file__).parent / "delta")]) is not None


def apply(patch: Path, bases: Sequence[Path]) -> Iterator[bytes]:
    """The target in order. Patch and bases are mapped, not read, so that memory is bounded whatever their size.

    Args:
        patch: the patch's file.
        bases: what is held, in any order.

    Raises:
        Invalid: not a patch, for other bases than these, or asking for too much.
        Corrupt: it leads to other bytes than it says.
        Unavailable: a file cannot be opened.

    """
    from farshore import delta  # noqa: PLC0415 - brings numpy, which a device should not have to load before it needs it

    try:
        yield from delta.decode(pieces(view(patch)), [view(base) for base in bases], max_memory=MEMORY)
    finally:
        _give_back()


def _give_back() -> None:
    """Return freed memory to the system: the C library would keep most of what the largest block took, for the agent's lifetime."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        pass  # a C library that has no such thing gives back by itself, or not at all
