"""Every instant at which a kill could matter: before and after each change to the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from farshore.store import files

CHANGES = (
    "write_atomic",
    "write_all",
    "publish",
    "publish_folder",
    "make_folder",
    "point",
    "remove",
    "remove_tree",
    "sync_folder",
)


@contextmanager
def watched(observe: Callable[[str], None]) -> Iterator[None]:
    """Call ``observe(where)`` around every durable change made inside the block, and in the middle of every write.

    Changes that ``observe`` makes itself are not observed.
    """
    observing = False

    def note(where: str) -> None:
        nonlocal observing
        if not observing:
            observing = True
            try:
                observe(where)
            finally:
                observing = False

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            note(f"before {name}")
            if name == "write_all" and len(args[1]) > 1:
                half = len(args[1]) // 2
                original(args[0], memoryview(args[1])[:half])
                note(f"in the middle of {name}")
                return original(args[0], memoryview(args[1])[half:])
            result = original(*args, **kwargs)
            note(f"after {name}")
            return result

        return act

    with mock.patch.multiple(files, **{name: wrapped(name, getattr(files, name)) for name in CHANGES}):
        yield
