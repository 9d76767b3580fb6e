"""``farshore patch``: patches between model files, without a hub."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farshore.cli.output import json_option, megabytes, print_facts, print_json, print_table, progress
from farshore.core.errors import Conflict, FarshoreError, Invalid, NotFound

if TYPE_CHECKING:
    from farshore.delta import PatchInfo

LEVELS = ("fast", "default", "max")
FILES = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
FORCE = click.option("--force", is_flag=True, help="Write over a file that is there.")
RATE = "64kB"
SLOWER = 4.0
SHOWN = 20


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
@FORCE
@json_option
def make(paths: tuple[Path, ...], out: Path, level: str, rate: str, slower: float, force: bool, as_json: bool) -> None:
    """Make a patch: BASE… TARGET.

    The order of bases is free, there may be none, and more of them only help.

    \b
    farshore patch make v1.onnx v2.onnx -o v2.patch
    farshore patch make v2.onnx -o v2.small                        no base: v2 itself, as small as it gets
    farshore patch make v1.onnx other.onnx v2.onnx -o v2.patch --level auto --rate 2kB
    """
    from farshore.agent.settings import parse_size
    from farshore.store.views import view

    _free(out, force=force)
    bytes_a_second = parse_size(rate)
    if bytes_a_second <= 0 or slower <= 0:
        raise Invalid("--rate and --slower must be above 0")
    views = [view(_there(path)) for path in paths]
    target, bases = views[-1], views[:-1]
    began = time.monotonic()
    if level == "auto":
        chosen, data = _soonest(target, bases, bytes_a_second, slower)
    else:
        chosen, data = level, _encode(target, bases, level)
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
@click.option("--all", "everything", is_flag=True, help="Show every part.")
@json_option
def info(file: Path, target: Path | None, everything: bool, as_json: bool) -> None:
    """Say what a patch is for, and where its bytes go.

    A frame's bytes are exact; within a frame they are shared out by length.

    \b
    farshore patch info v2.patch
    farshore patch info v2.patch --target v2.onnx --all
    """
    from farshore import delta
    from farshore.store.views import view

    about = delta.info(view(_there(file)))
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
    rows = [
        (round(frame.size * part.length / max(frame.target_bytes, 1)), number, part)
        for number, frame in enumerate(about.frames)
        for part in frame.parts
    ]
    rows.sort(key=lambda row: -row[0])
    shown = rows if everything else rows[:SHOWN]
    if shown:
        click.echo()
        print_table(
            [">offset", ">of target", "how", "what", "base", ">about bytes", ">frame", *(["tensor"] if names else [])],
            [
                (part.offset, part.length, part.how, part.what, "yes" if part.based else "", cost, number,
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
@click.option("--cache", type=click.Path(path_type=Path), help="JSON file to keep the other tools' sizes in.")
@json_option
def bench(folder: Path, levels: tuple[str, ...], only: tuple[str, ...], cache: Path | None, as_json: bool) -> None:
    """Measure against other tools: exact sizes over version pairs, every patch applied and compared.

    FOLDER holds a folder for each pair, with what is held in ``a/`` (nothing, one file or several) and what is wanted in
    ``b/``. Tools that are not installed are left out.

    \b
    farshore patch bench ./pairs --cache sizes.json
    """
    from farshore.cli import rivals

    levels = levels or LEVELS
    pairs = _pairs(folder, only)
    rows = []
    with progress("measuring", sum(target.stat().st_size for _, _, target in pairs)) as advance:
        for name, bases, target in pairs:
            held, wanted = [base.read_bytes() for base in bases], target.read_bytes()
            ours = {level: _measured(held, wanted, level) for level in levels}
            others = rivals.sizes(held[0] if held else b"", wanted, cache)
            rows.append(_compared(name, sum(map(len, held)), len(wanted), ours, others, rivals.NOT_GENERAL))
            advance(len(wanted))
    if as_json:
        print_json(rows)
        return
    known = [name for name in rivals.tools() if name not in rivals.NOT_GENERAL]
    print_table(
        ["pair", ">a", ">b", ">zip", *(f">{name}" for name in known), *(f">{level}" for level in levels), ">ratio"],
        [
            (row["pair"], row["a"], row["b"], row["others"]["zip"], *(row["others"][name] for name in known),
             *(row["ours"][level]["size"] for level in levels), f"{row['ratio']:.3f}")
            for row in rows
        ],
    )  # fmt: skip
    _sum_up(rows, levels)


def _sum_up(rows: list[dict[str, Any]], levels: tuple[str, ...]) -> None:
    import math

    best = levels[-1]
    mean = math.exp(sum(math.log(row["ratio"]) for row in rows) / len(rows))
    larger = [row["pair"] for row in rows if row["ours"][best]["size"] > row["best"] + 200]
    click.echo(f"\nratio: {best} over the smallest of the others; geometric mean {mean:.3f} over {len(rows)} pairs")
    click.echo(f"larger than the smallest of the others by over 200 bytes: {', '.join(larger) or 'none'}")
    for level in levels:
        size = sum(row["b"] for row in rows)
        encoded = sum(row["ours"][level]["encode"] for row in rows)
        decoded = sum(row["ours"][level]["decode"] for row in rows)
        click.echo(
            f"{level}: encodes {size / encoded / 1e6:.2f} MB/s, decodes {size / decoded / 1e6:.2f} MB/s of target"
        )


def _compared(
    name: str, held: int, wanted: int, ours: dict[str, dict[str, float]], others: dict[str, int], aside: Iterable[str]
) -> dict[str, Any]:
    best, tool = min((size, tool) for tool, size in others.items() if tool not in aside)
    smallest = min(one["size"] for one in ours.values())
    return {
        "pair": name, "a": held, "b": wanted, "others": others, "ours": ours,
        "best": best, "best_tool": tool, "ratio": smallest / max(best, 1),
    }  # fmt: skip


def _measured(bases: list[bytes], target: bytes, level: str) -> dict[str, float]:
    """Size and seconds of a patch that was applied and compared."""
    from farshore import delta

    began = time.perf_counter()
    data = b"".join(delta.encode(target, bases, level=level))
    between = time.perf_counter()
    if b"".join(delta.decode(data, bases)) != target:
        raise FarshoreError("a patch led to other bytes than it should: this is a fault of Farshore, report it")
    return {"size": len(data), "encode": between - began, "decode": time.perf_counter() - between}


def _pairs(folder: Path, only: tuple[str, ...]) -> list[tuple[str, list[Path], Path]]:
    """(name, what is held, what is wanted) of every pair."""
    if not folder.is_dir():
        raise NotFound(f"no folder {str(folder)!r}")
    found = []
    for place in sorted(path.parent for path in folder.glob("*/b")):
        if only and place.name not in only:
            continue
        held = sorted(path for path in (place / "a").glob("*") if path.is_file())
        wanted = sorted(path for path in (place / "b").glob("*") if path.is_file())
        for target in wanted:
            name = place.name if len(wanted) == 1 else f"{place.name}/{target.name}"
            same_name_first = sorted(held, key=lambda path, target=target: path.name != target.name)  # type: ignore[misc]
            found.append((name, same_name_first, target))
    if not found:
        raise NotFound(f"no pairs in {folder}: PAIR/a/FILE and PAIR/b/FILE are needed")
    return found


def _encode(target: memoryview, bases: list[memoryview], level: str) -> bytes:
    from farshore import delta

    done = 0
    with progress(f"encoding ({level})", len(target)) as advance:

        def told(now: int, _total: int) -> None:
            nonlocal done
            advance(now - done)
            done = now

        return b"".join(delta.encode(target, bases, level=level, progress=told, workers=os.cpu_count() or 1))


def _soonest(target: memoryview, bases: list[memoryview], rate: float, slower: float) -> tuple[str, bytes]:
    """The level whose patch is fetched and applied first: bytes saved against seconds spent, both measured."""
    from farshore import delta

    tried: list[tuple[float, str, bytes]] = []
    for level in LEVELS:
        data = _encode(target, bases, level)
        began = time.perf_counter()
        for _ in delta.decode(data, bases):
            pass
        tried.append((len(data) / rate + slower * (time.perf_counter() - began), level, data))
    _, level, data = min(tried, key=lambda one: one[0])
    return level, data


def _names(path: Path, about: PatchInfo) -> list[tuple[int, str]]:
    """(offset, name) of every tensor in the target, in order."""
    from farshore import formats
    from farshore.core import digest as digests
    from farshore.store.views import view

    data = view(_there(path))
    if digests.of(data) != f"sha256:{about.target_digest}":
        raise Invalid(f"{path} is not what this patch makes (sha256:{about.target_digest})")
    return [(segment.offset, segment.name) for segment in formats.segment(data).segments if segment.name]


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


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""
