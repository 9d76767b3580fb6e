"""How long-running commands tell what happens. Apart from :mod:`farshore.cli.output`, whose tables they never draw and would carry."""

from __future__ import annotations

import logging


def log_lines(*, verbose: bool = False) -> None:
    """Let a long-running command tell what happens, a line an event, on standard error."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    for noisy in ("urllib3", "alembic", "asyncio", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
