"""``farshore serve``: answer pictures with the models on this device."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from farshore.cli.output import log_lines
from farshore.core.errors import Invalid


@click.command()
@click.option(
    "--root", type=click.Path(path_type=Path), envvar="FARSHORE_ROOT", help="The device's folder; the agent shares it."
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Instead: try one model file, folder or ZIP, without agent and hub.",
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
@click.option("--grpc-port", type=int, help="TCP port that takes tensors over gRPC.  [default: none]")
@click.option("--model-control/--no-model-control", default=None, help="Whether clients may load and unload models.")
def serve(root: Path | None, model: Path | None, runtimes: str | None, **given: Any) -> None:
    """Answer pictures with the models on this device.

    \b
    farshore serve --root /var/lib/farshore
    farshore serve --model ./ssd_mobilenet_v1_coco.zip
    curl --data-binary @cat.jpg http://127.0.0.1:8000/score
    curl --data-binary @cat.jpg 'http://127.0.0.1:8000/score?model=detector&threshold=0.3&top=5'

    Which versions run is the agent's business: the server starts with the current ones and switches when the agent says so,
    without failing a request. /healthz, /readyz and /metrics tell how it is.
    """
    from farshore.serve.app import run
    from farshore.serve.bare import install
    from farshore.serve.settings import Settings

    log_lines()
    chosen = {name: value for name, value in given.items() if value is not None}
    if runtimes:
        chosen["runtimes"] = tuple(part.strip() for part in runtimes.split(",") if part.strip())
    if (root is None) == (model is None):
        raise Invalid("give --root FOLDER, or --model FILE to try one model")
    if root is not None:
        run(Settings(root=root.absolute(), **chosen))
        return
    assert model is not None
    with tempfile.TemporaryDirectory(prefix="farshore-") as folder:
        installed, recognised = install(model, Path(folder))
        click.echo(f"{installed.model}: {recognised.task} ({recognised.decoder})", err=True)
        run(Settings(root=Path(folder), **chosen))
