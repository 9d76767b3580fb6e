"""``farshore serve``: answer pictures with the models on this device."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from farshore.cli.logs import log_lines
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
    "--memory", help="Most that all workers together may hold, as 512MB.  [default: what the machine has free]"
)
@click.option("--pin", "pins", multiple=True, help="Model that stays in memory when others need room; repeatable.")
@click.option(
    "--tune",
    is_flag=True,
    help="First measure on how many threads models answer soonest here; kept for the next start.",
)
@click.option("--grpc-port", type=int, help="TCP port that takes tensors over gRPC.  [default: none]")
@click.option(
    "--model-control", is_flag=True, default=None, help="Let clients load and unload models (/v2/repository)."
)
def serve(
    root: Path | None, model: Path | None, runtimes: str | None, memory: str | None, *, tune: bool, **given: Any
) -> None:
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
    from farshore.serve.settings import Settings

    log_lines()
    chosen = {name: value for name, value in given.items() if value is not None}
    if memory is not None:
        from farshore.agent.settings import parse_size

        chosen["memory"] = parse_size(memory)
    if runtimes:
        chosen["runtimes"] = tuple(part.strip() for part in runtimes.split(",") if part.strip())
    if (root is None) == (model is None):
        raise Invalid("give --root FOLDER, or --model FILE to try one model")
    if root is not None:
        _tune(root.absolute()) if tune else None
        run(Settings(root=root, **chosen))
        return
    from farshore.serve.bare import install  # reads model files, which the server itself never does

    assert model is not None
    with tempfile.TemporaryDirectory(prefix="farshore-") as folder:
        installed, recognised = install(model, Path(folder))
        click.echo(f"{installed.model}: {recognised.task} ({recognised.decoder})", err=True)
        _tune(Path(folder)) if tune else None
        run(Settings(root=Path(folder), **chosen))


def _tune(root: Path) -> None:
    from farshore.core.errors import FarshoreError
    from farshore.serve.measure import tune

    for installed, found in tune(root):
        name = f"{installed.model}@{installed.version}"
        if isinstance(found, FarshoreError):
            click.echo(f"{name}: {found.message}", err=True)
            continue
        alone = ", ".join(f"{threads} in {taken:.1f} ms" for threads, taken in found.milliseconds.items())
        crowd = ", ".join(f"{width} at once {rate:.1f}/s" for width, rate in found.rates.items())
        click.echo(
            f"{name}: threads of a lone request: {found.lone} ({alone}); at once: {found.width} ({crowd})", err=True
        )
