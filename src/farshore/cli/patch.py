"""``farshore patch``: patches between model files, without a hub."""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from farshore.cli.output import json_option, megabytes, print_facts, print_json, print_table, progress
from farshore.core.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from farshore.cli.pairs import Measured
    from farshore.delta import PatchInfo
    from farshore.delta.inspecting import PartInfo
    from farshore.formats import SegmentMap

LEVELS = ("fast", "default", "max")
FILES = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
FORCE = click.option("--force", is_flag=True, help="Write over a file that is there.")
RATE = "64kB"
SLOWER = 4.0
REPEATED = 0.2
"""Seconds of applying a patch below which they are taken again."""

SHOWN = 20
NAMES = 20
"""Letters of a pair's name where the table is wide."""


@click.group()
def patch() -> None:
    """Patches between model files: a device that holds BASEs needs only the patch.

    One format for everything that travels: with no base a patch is the smallest form of the file itself. A patch is checked
    from its header to the digest of what comes out.
    """


@patch.command()
@FILES
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The patch to write.")
@click.option(
    "--level", type=click.Choice([*LEVELS, "auto"]), default="default", show_default=True,
    help="How much work to spend; auto takes what is soonest done on the device.",
)  # fmt: skip
@click.option("--rate", default=RATE, show_default=True, help="For auto: bytes a second of the device's link.")
@click.option(
    "--slower", type=float, default=SLOWER, show_default=True,
    help="For auto: how many times slower than this machine the device is.",
)  # fmt: skip
@click.option(
    "--model", "models", multiple=True, type=click.Path(path_type=Path),
    help="The ONNX model that a file of external data belongs to: once for all, or for each of BASE… TARGET in their order.  "
    "[default: the one model beside the file that names it]",
)  # fmt: skip
@FORCE
@json_option
def make(
    paths: tuple[Path, ...], out: Path, level: str, rate: str, slower: float, models: tuple[Path, ...], force: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Make a patch: BASE… TARGET.

    The order of bases is free, there may be none, and more of them only help.

    \b
    farshore patch make v1.onnx v2.onnx -o v2.patch
    farshore patch make v2.onnx -o v2.small                        no base: v2 itself, as small as it gets
    farshore patch make v1.onnx other.onnx v2.onnx -o v2.patch --level auto --rate 2kB
    farshore patch make v1/net.data v2/net.data -o data.patch      weights beside a model, which is found there
    """
    from farshore.agent.settings import parse_size
    from farshore.cli import beside
    from farshore.store.views import view

    _free(out, force=force)
    bytes_a_second = parse_size(rate)
    if bytes_a_second <= 0 or slower <= 0:
        raise Invalid("--rate and --slower must be above 0")
    views = [view(_there(path)) for path in paths]
    target, bases = views[-1], views[:-1]
    maps = beside.maps(paths, views, models)
    began = time.monotonic()
    if level == "auto":
        chosen, data = _soonest(target, bases, maps, bytes_a_second, slower)
    else:
        chosen, data = level, _encode(target, bases, maps, level)
    seconds = time.monotonic() - began
    _write(out, [data])
    said = {
        "patch": str(out), "size": len(data), "level": chosen, "target": len(target),
        "bases": [len(base) for base in bases], "seconds": round(seconds, 3),
    }  # fmt: skip
    if as_json:
        print_json(said)
        return
    share = f", {len(data) / len(target):.1%} of {megabytes(len(target))}" if len(target) else ""
    click.echo(f"{out}: {len(data)} bytes{share} (level {chosen}, {seconds:.1f} s)")


@patch.command()
@FILES
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The file to write.")
@FORCE
def apply(paths: tuple[Path, ...], out: Path, force: bool) -> None:
    """Apply a patch: BASE… FILE.

    OUT appears only when it is whole and its digest is the one that the patch was made for.

    \b
    farshore patch apply v1.onnx v2.patch -o v2.onnx
    """
    from farshore import delta
    from farshore.store.views import pieces, view

    _free(out, force=force)
    views = [view(_there(path)) for path in paths]
    about = delta.info(views[-1])
    with progress("applying", about.target_size) as advance:

        def counted() -> Iterable[bytes]:
            for piece in delta.decode(pieces(views[-1]), views[:-1]):
                yield piece
                advance(len(piece))

        _write(out, counted())
    click.echo(f"{out}: {about.target_size} bytes, sha256:{about.target_digest}")


@patch.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", type=click.Path(path_type=Path), help="The file it makes: tells the tensors' names.")
@click.option("--base", "bases", multiple=True, type=click.Path(path_type=Path), help="What it needs; repeatable.")
@click.option("--all", "everything", is_flag=True, help="Show every part.")
@json_option
def info(file: Path, target: Path | None, bases: tuple[Path, ...], everything: bool, as_json: bool) -> None:
    """Say what a patch is for, and where its bytes go.

    With its bases at hand the patch is applied, and each matrix of values costs what the coder spent on it. Without them a
    frame's bytes are exact, and within a frame they are shared out by length.

    \b
    farshore patch info v2.patch
    farshore patch info v2.patch --base v1.onnx --target v2.onnx --all
    """
    from farshore import delta
    from farshore.store.views import view

    about = delta.info(view(_there(file)), [view(_there(base)) for base in bases] if bases else None)
    names = _names(target, about) if target else []
    if as_json:
        print_json({**asdict(about), "names": {str(offset): name for offset, name in names}})
        return
    print_facts([
        ("level", about.level), ("size", f"{about.size} bytes"),
        ("target", f"{about.target_size} bytes, sha256:{about.target_digest}"),
        *(("base", f"{size} bytes, sha256:{digest}") for size, digest in about.bases),
        ("memory", f"{about.memory} MiB to decode"),
    ])  # fmt: skip
    click.echo()
    print_table(
        [">frame", "how", ">bytes", ">of target", ">share", ">parts"],
        [
            (
                number,
                frame.kind,
                frame.size,
                frame.target_bytes,
                _share(frame.size, frame.target_bytes),
                len(frame.parts),
            )
            for number, frame in enumerate(about.frames)
        ],
        empty="no frames: the target is empty",
    )
    rows = [(round(part.cost), number, part) for number, frame in enumerate(about.frames) for part in frame.parts]
    rows.sort(key=lambda row: -row[0])
    shown = rows if everything else rows[:SHOWN]
    if shown:
        click.echo()
        print_table(
            [">offset", ">of target", "how", "what", "base and miss", ">bytes" if about.exact else ">about bytes", ">frame", *(["tensor"] if names else [])],
            [
                (part.offset, part.length, part.how, part.what, _expected(part), cost, number,
                 *([_named(names, part.offset, part.length)] if names else []))
                for cost, number, part in shown
            ],
        )  # fmt: skip
    if len(shown) < len(rows):
        click.echo(f"  … and {len(rows) - len(shown)} more: --all")


@patch.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--level", "levels", type=click.Choice(LEVELS), multiple=True, help="Repeatable.  [default: all]")
@click.option("--only", multiple=True, metavar="PAIR", help="Measure this pair alone; repeatable.")
@click.option("--without-base", is_flag=True, help="As if nothing were held: the smallest form of each target itself.")
@click.option("--cache", type=click.Path(path_type=Path), help="JSON file to keep the other tools' sizes in.")
@json_option
def bench(
    folder: Path, levels: tuple[str, ...], only: tuple[str, ...], without_base: bool, cache: Path | None, as_json: bool
) -> None:
    """Measure against other tools: exact sizes over version pairs, every patch applied and compared.

    FOLDER holds a folder for each pair, with what is held in ``a/`` (nothing, one file or several) and what is wanted in
    ``b/``. Tools that are not installed are left out. Speeds are MB of the target per second of one core's time.

    \b
    farshore patch bench ./pairs --cache sizes.json
    """
    from farshore.cli import pairs

    levels = tuple(level for level in reversed(LEVELS) if not levels or level in levels)
    found = pairs.find(folder, only, without_base=without_base)
    rows = []
    with progress("measuring", sum(pair.target.stat().st_size for pair in found)) as advance:
        for pair in found:
            rows.append(pairs.measure(pair, levels, cache))
            advance(pair.target.stat().st_size)
    if as_json:
        print_json(
            [
                {**asdict(row), "best": row.best[0], "best_tool": row.best[1], "ratio": row.ratio(levels[0])}
                for row in rows
            ]
        )
        return
    _print_sizes(rows, levels)
    _print_rivals(rows)
    _print_speeds(rows, levels)
    _print_means(rows, levels)


def _print_sizes(rows: list[Measured], levels: tuple[str, ...]) -> None:
    from farshore.cli.rivals import brief

    best, *others = levels
    print_table(
        ["pair", ">b", "best tool", ">", f">{best}", ">ratio", *(f">{level}" for level in others)],
        [
            (row.pair, row.b, brief(row.best[1]), row.best[0], row.ours[best].size, f"{row.ratio(best):.3f}",
             *(row.ours[level].size for level in others))
            for row in rows
        ],
    )  # fmt: skip


def _print_rivals(rows: list[Measured]) -> None:
    from farshore.cli.rivals import UNUSUAL, brief

    names = [name for name in rows[0].others if name not in UNUSUAL]
    click.echo()
    print_table(
        ["other tools", *(f">{brief(name)}" for name in names)],
        [(_clipped(row.pair), *(row.others[name] for name in names)) for row in rows],
    )


def _print_speeds(rows: list[Measured], levels: tuple[str, ...]) -> None:
    click.echo()
    print_table(
        ["MB/s", *(f">{level}\n{what}" for level in levels for what in ("make", "apply"))],
        [
            (row.pair, *(f"{rate:.1f}" for level in levels for rate in (row.ours[level].made, row.ours[level].applied)))
            for row in rows
        ],
    )


def _clipped(name: str) -> str:
    return name if len(name) <= NAMES else name[: NAMES - 1] + "…"


def _print_means(rows: list[Measured], levels: tuple[str, ...]) -> None:
    from farshore.cli import pairs

    click.echo()
    print_table(
        ["geometric mean of ratios", ">pairs", *(f">{level}" for level in levels)],
        [(kind, count, *(f"{mean[level]:.3f}" for level in levels)) for kind, count, mean in pairs.means(rows, levels)],
    )
    for level in levels:
        names = ", ".join(pairs.larger(rows, level))
        click.echo(f"{level}: larger than the smallest of the others by over {pairs.SLACK} bytes: {names or 'none'}")


def _encode(target: memoryview, bases: list[memoryview], maps: list[SegmentMap], level: str) -> bytes:
    """`maps` of the target and then of each base."""
    from farshore import delta

    done = 0
    with progress(f"encoding ({level})", len(target)) as advance:

        def told(now: int, _total: int) -> None:
            nonlocal done
            advance(now - done)
            done = now

        workers = os.cpu_count() or 1
        return b"".join(delta.encode(target, bases, level=level, maps=maps, progress=told, workers=workers))


def _soonest(
    target: memoryview, bases: list[memoryview], maps: list[SegmentMap], rate: float, slower: float
) -> tuple[str, bytes]:
    """The level whose patch is fetched and applied first: bytes saved against seconds spent, both measured."""
    made = {level: _encode(target, bases, maps, level) for level in LEVELS}
    costs = {level: (len(data), _seconds(data, bases)) for level, data in made.items()}
    level = soonest(costs, rate, slower)
    return level, made[level]


def soonest(costs: dict[str, tuple[int, float]], rate: float, slower: float) -> str:
    """The level that is there first on a device.

    Args:
        costs: by level, bytes of the patch and processor seconds that applying it takes here.
        rate: bytes a second of the device's link.
        slower: how many times slower than this machine the device is.

    """
    return min(costs, key=lambda level: costs[level][0] / rate + slower * costs[level][1])


def _seconds(data: bytes, bases: list[memoryview]) -> float:
    """What applying a patch takes of the processor; small ones more than once, for the first time pays for what is not loaded."""
    from farshore import delta

    least = math.inf
    for _ in range(3):
        began = time.process_time()
        for _ in delta.decode(data, bases):
            pass
        spent = time.process_time() - began
        least = min(least, spent)
        if spent > REPEATED:
            break
    return least


def _names(path: Path, about: PatchInfo) -> list[tuple[int, str]]:
    """(offset, name) of every tensor in the target, in order."""
    from farshore.cli import beside
    from farshore.core import digest as digests
    from farshore.store.views import view

    data = view(_there(path))
    if digests.of(data) != f"sha256:{about.target_digest}":
        raise Invalid(f"{path} is not what this patch makes (sha256:{about.target_digest})")
    return [(segment.offset, segment.name) for segment in beside.maps([path], [data], [])[0].segments if segment.name]


def _named(names: list[tuple[int, str]], offset: int, length: int) -> str:
    """The tensors that begin in a range."""
    first = bisect_left(names, (offset, ""))
    inside = names[first : bisect_left(names, (offset + length, ""))]
    return "" if not inside else inside[0][1] + (f" and {len(inside) - 1} more" if len(inside) > 1 else "")


def _there(path: Path) -> Path:
    if not path.is_file():
        raise NotFound(f"no file {str(path)!r}")
    return path


def _free(out: Path, *, force: bool) -> None:
    """Before any work: may this be written?"""
    if out.is_dir():
        raise Invalid(f"{out} is a folder: name a file")
    if not out.absolute().parent.is_dir():
        raise NotFound(f"no folder {str(out.parent)!r}")
    if out.exists() and not force:
        raise Conflict(f"{out} is there already: use another --out, or --force")


def _write(out: Path, chunks: Iterable[bytes]) -> None:
    """Visible under its name only when it is whole."""
    from farshore.store import files

    temp = files.temporary(out.absolute())
    try:
        with files.translated(out), temp.open("xb") as sink:
            for chunk in chunks:
                sink.write(chunk)
        files.publish(temp, out.absolute(), mode=0o644)
    finally:
        temp.unlink(missing_ok=True)


def _expected(part: PartInfo) -> str:
    """What lets expect a part, and how far the values are from that, as a share of their magnitude."""
    if not part.based or not part.source:
        return "yes" if part.based else ""
    return part.source if part.near < 1 else f"{part.source}, 1/{1 << min(part.near, 40)}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""
