"""``farshore serve``: answer pictures with the models on this device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from farshore.cli.output import log_lines


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    required=True,
    envvar="FARSHORE_ROOT",
    help="The device's folder; the agent shares it.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that takes pictures.")
@click.option("--port", default=8000, show_default=True, help="TCP port that takes pictures; 0 for any free one.")
@click.option("--runtimes", help="Runtimes to use, with commas.  [default: all that are installed]")
@click.option("--threads", type=int, help="Requests that one worker answers at once.  [default: one for each core]")
@click.option("--queue", type=int, help="Requests that may wait for each model; more get 503.  [default: 64]")
@click.option("--max-pixels", type=int, help="Pixels of the largest picture.  [default: 40000000]")
@click.option(
    "--memory", type=int, help="Bytes that all workers together may hold.  [default: what the machine has free]"
)
def serve(root: Path, runtimes: str | None, **given: Any) -> None:
    """Answer pictures with the models on this device.

    \b
    farshore serve --root /var/lib/farshore
    curl --data-binary @cat.jpg http://127.0.0.1:8000/score
    curl --data-binary @cat.jpg 'http://127.0.0.1:8000/score?model=detector&threshold=0.3&top=5'

    Which versions run is the agent's business: the server starts with the current ones and switches when the agent says so,
    without failing a request. /healthz, /readyz and /metrics tell how it is.
    """
    from farshore.serve.app import run
    from farshore.serve.settings import Settings

    log_lines()
    chosen = {name: value for name, value in given.items() if value is not None}
    if runtimes:
        chosen["runtimes"] = tuple(part.strip() for part in runtimes.split(",") if part.strip())
    run(Settings(root=root.absolute(), **chosen))
