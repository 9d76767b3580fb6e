"""For all tests: what needs the patches' kernel is skipped where it was not built, and Ctrl-C works everywhere.

A shell that runs the suite in the background lets it, and all it starts, ignore the interrupt signal.
"""

import signal

import pytest

from farshore import delta

KERNEL = (
    "delta/test_",
    "hub/test_builder",
    "hub/test_builds",
    "agent/test_patches",
    "cli/test_model.py::test_patches",
    "cli/test_patch",
    "e2e/test_patches",
)
"""Tests that make or apply patches of some size."""
TWIN = {"test_fixtures.py", "test_kernel.py"}
"""Of those, the ones that hold the kernel's twin."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    if delta.COMPILED:
        return
    skip = pytest.mark.skip(
        reason="Farshore was installed without a C compiler: the kernel's twin is too slow for this"
    )
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(KERNEL) and item.path.name not in TWIN:
            item.add_marker(skip)
