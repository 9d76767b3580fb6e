"""``farshore model``: the registry."""

from __future__ import annotations

import contextlib
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from farshore.cli.connection import pairs, with_hub
from farshore.cli.keys import publisher_of
from farshore.cli.output import json_option, megabytes, print_facts, print_json, print_table, progress
from farshore.core.errors import Conflict, Invalid, NotFound
from farshore.store import files

if TYPE_CHECKING:
    from farshore.client import Hub
    from farshore.formats import ModelInfo, Recognition

MAX_UNPACKED = 8 << 30
PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.group()
def model() -> None:
    """Models and their versions.

    A version is written NAME, NAME@3 or NAME@ALIAS; NAME alone means the newest that is not archived.
    """


@model.command()
@click.argument("name")
@PATHS
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="Tag the version; repeatable.")
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="K=V",
    help="Typed metadata, e.g. map50=0.41 or epochs=30; repeatable.",
)
@click.option("--description", default="", help="Free text.")
@click.option("--alias", default="", help="Point this alias at the new version.")
@click.option("--parent", default="", metavar="REF", help="Version that this one came from.")
@click.option(
    "--operation",
    default="",
    type=click.Choice(["", "trained", "fine-tuned", "quantized", "pruned", "converted", "imported"]),
    help="How it came from there.",
)
@click.option("--run", default="", help="Training run.")
@click.option("--dataset", default="", help="Data it was trained on.")
@click.option("--commit", default="", help="Commit of the code that made it.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="K=V",
    help="What cannot be told from the files, as in farshore.toml, e.g. input.mean=127.5 or task=detection; repeatable.",
)
@click.option(
    "--toml",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A farshore.toml that says what cannot be told from the files.",
)
@click.option(
    "--keys",
    "ring",
    type=click.Path(path_type=Path),
    envvar="FARSHORE_KEYS",
    help="Key ring of the publisher, where the hub does not sign itself.  [env: FARSHORE_KEYS]",
)
@json_option
@with_hub
def push(
    hub: Hub,
    name: str,
    paths: tuple[Path, ...],
    ring: Path | None,
    tags: tuple[str, ...],
    properties: tuple[str, ...],
    settings: tuple[str, ...],
    toml: Path | None,
    as_json: bool,
    **about: Any,
) -> None:
    """Make files the next version of a model.

    PATHS are model files, a folder, or a ZIP with model and labels. Several model files make several variants of one version. The
    number is given by the registry; pushing identical content again makes no new version.

    \b
    farshore model push detector ./ssd_mobilenet_v1_coco.zip
    farshore model push detector ./v2/ --property map50=0.41 --alias candidate --parent detector@1
    farshore model push detector model.onnx labels.txt --set input.mean=0 --set input.std=255
    """
    found = hub.push(
        name, paths, progress=progress, publisher=publisher_of(hub, ring), tags=pairs(tags, "--tag"), overrides=_overrides(toml, settings),
        properties={key: _typed(value) for key, value in pairs(properties, "--property").items()}, **about,
    )  # fmt: skip
    full = hub.version(f"{name}@{found['version']}")
    if as_json:
        print_json({**full, "existing": found.get("existing", False)})
        return
    if found.get("existing"):
        click.echo(f"{name}@{found['version']} has exactly this content already: no new version was made")
        return
    click.echo(f"{name}@{found['version']}  {megabytes(found['size'])}")
    for variant in full["manifest"]["variants"]:
        click.echo(f"  {variant['name']}: {_recognised(variant)}")
    for note in full.get("notes", []):
        click.echo(f"  note: {note}")


@model.command("try")
@click.argument("ref")
@click.argument("picture", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--threshold", type=click.FloatRange(0, 1), help="Least score.  [default: the model's]")
@json_option
@with_hub
def try_(hub: Hub, ref: str, picture: Path, threshold: float | None, as_json: bool) -> None:
    """Show what a version says to a picture, tried out beside the hub: no device is asked.

    \b
    farshore model try detector@3 harbour.jpg
    farshore model try detector@candidate harbour.jpg --threshold 0.3 --json
    """
    found = hub.try_out(ref, picture.read_bytes(), threshold)
    if as_json:
        print_json(found)
        return
    findings = next((found[name] for name in ("detections", "segments", "classes", "poses") if name in found), None)
    if findings is None:
        click.echo("the answer is no list of findings: --json shows it")
        return
    rows = [
        (
            one.get("class", ""),
            f"{one.get('score', one.get('share', 0)):.3f}",
            " ".join(f"{edge:.0f}" for edge in one.get("box", ())),
        )
        for one in findings
    ]
    print_table(["class", ">score", "box (top left bottom right)"], rows, empty="nothing above the threshold")


@model.command("list")
@click.argument("name", required=False)
@json_option
@with_hub
def list_(hub: Hub, name: str | None, as_json: bool) -> None:
    """List models, or the versions of one.

    \b
    farshore model list
    farshore model list detector
    """
    items = list(hub.versions(name) if name else hub.models())
    if as_json:
        print_json(items)
    elif name:
        print_table(
            [">version", "aliases", ">devices", ">size", "created", "tags", "description"],
            [
                (v["version"], ", ".join(v.get("aliases", [])), v.get("devices", {}).get("current", ""), megabytes(v["size"]), _when(v["created"]),
                 _tags(v.get("tags", {})), ("archived; " if v.get("archived") else "") + v.get("description", ""))
                for v in items
            ],
            empty=f"{name} has no versions",
        )  # fmt: skip
    else:
        print_table(
            ["model", ">newest", "aliases", "title", "created"],
            [
                (m["name"], m.get("newest"), ", ".join(f"{a}→{n}" for a, n in m.get("aliases", {}).items()), m.get("title", ""), _when(m["created"]))
                for m in items
            ],
            empty="no models yet: farshore model push NAME PATH",
        )  # fmt: skip


@model.command()
@click.argument("ref")
@json_option
@with_hub
def show(hub: Hub, ref: str, as_json: bool) -> None:
    """Show all that is known of a version.

    \b
    farshore model show detector
    farshore model show detector@champion --json
    """
    found = hub.version(ref)
    patches = hub.patches(f"{found['model']}@{found['version']}")
    if as_json:
        print_json({**found, "patches": patches})
        return
    print_facts([
        ("version", f"{found['model']}@{found['version']}" + (" (archived)" if found.get("archived") else "")),
        ("digest", found["digest"]), ("size", megabytes(found["size"])), ("created", _when(found["created"])),
        ("aliases", ", ".join(found.get("aliases", []))), ("description", found.get("description")),
        ("tags", _tags(found.get("tags", {}))),
        *((f"  {key}", value) for key, value in found.get("properties", {}).items()),
        *((key, _origin(value)) for key, value in found.get("lineage", {}).items()),
        *(("note", note) for note in found.get("notes", [])),
    ])  # fmt: skip
    for variant in found["manifest"]["variants"]:
        click.echo(f"\n{variant['name']}: {_recognised(variant)}")
        rows = [("in", *_tensor(t)) for t in variant["inputs"]] + [("out", *_tensor(t)) for t in variant["outputs"]]
        print_table(["", "tensor", "dtype", "shape"], rows)
        print_table(
            ["file", ">size", "role", "digest"],
            [
                (f["path"], megabytes(f["size"]), f.get("role", "model"), f["digest"][:19] + "…")
                for f in variant["files"]
            ],
        )
    if patches:
        click.echo("\npatches to it")
        print_table(
            ["file", "from", ">size", ">of whole", "level", "built"],
            [
                (p["path"], ", ".join(_base(b) for b in p["bases"]) or "nothing", megabytes(p["size"]),
                 f"{p['size'] / p['whole']:.1%}", p["level"], _when(p["created"]))
                for p in patches
            ],
        )  # fmt: skip
    cases = found["manifest"].get("acceptance", [])
    if cases:
        click.echo("\nacceptance: " + ", ".join(case["name"] for case in cases))


@model.command()
@click.argument("name")
@json_option
@with_hub
def behaviour(hub: Hub, name: str, as_json: bool) -> None:
    """Tell how a model's versions did on devices, as their rollouts saw it: speed, agreement, and how far what they find moved.

    \b
    farshore model behaviour detector
    """
    found = hub.behaviour(name)
    if as_json:
        print_json(found)
        return

    def shown(one: dict[str, Any], key: str, unit: str = "", times: float = 1.0) -> str:
        return f"{one[key] * times:.3g}{unit}" if one.get(key) is not None else ""

    rows = [
        (
            one["rollout"], one["version"], one.get("devices", 0), one.get("failed", 0), shown(one, "agreement", " %", 100),
            shown(one, "latency", "×"), shown(one, "memory", "×"), shown(one, "errors", " %", 100), shown(one, "class_shift"),
            shown(one, "score_shift"),
        )
        for one in found
    ]  # fmt: skip
    columns = [
        "rollout",
        ">version",
        ">devices",
        ">failed",
        ">agree",
        ">latency",
        ">memory",
        ">errors",
        ">classes",
        ">scores",
    ]
    print_table(columns, rows, empty="no rollout has brought it to devices yet")


@model.command()
@click.argument("before")
@click.argument("after")
@click.option("--all", "everything", is_flag=True, help="Name every tensor.")
@json_option
@with_hub
def diff(hub: Hub, before: str, after: str, everything: bool, as_json: bool) -> None:
    """Compare two versions: metadata, signature, sizes, tensors changed.

    \b
    farshore model diff detector@1 detector@2
    """
    name, _, one = before.partition("@")
    other, _, two = after.partition("@")
    if name != other:
        raise Invalid(f"versions of two models, {name!r} and {other!r}: only versions of one can be compared")
    found = hub.diff(name, one, two)
    if as_json:
        print_json(found)
        return
    click.echo(f"{name}@{found['before']} → {name}@{found['after']}")
    for change in found["changes"]:
        click.echo(f"  {change['what']}: {change['before'] or '–'} → {change['after'] or '–'}")
    for variant in found["variants"]:
        click.echo(f"\n{variant['name']}: {variant['kind']}")
        for change in [*variant.get("changes", []), *variant.get("file", [])]:
            click.echo(f"  {change['what']}: {change['before'] or '–'} → {change['after'] or '–'}")
        counts, sizes = variant.get("counts", {}), variant.get("bytes", {})
        if counts:
            print_table(
                ["tensors", ">count", ">bytes"],
                [(kind, counts[kind], megabytes(sizes.get(kind, 0))) for kind in counts],
            )
        patch = variant.get("patch")
        if patch:
            click.echo(
                f"  patch: {megabytes(patch['size'])} for {megabytes(patch['whole'])}, "
                f"{'' if patch.get('exact') else 'about '}{megabytes(patch['rest'])} of it not for tensors"
                + ("" if patch["based"] else "; it needs no base")
            )
        costs = patch["tensors"] if patch else {}
        tensors = variant.get("tensors", [])
        shown = tensors if everything else sorted(tensors, key=lambda t: -t["bytes"])[:10]
        if shown:
            print_table(
                [
                    "",
                    "tensor",
                    "before",
                    "after",
                    ">bytes",
                    *([">in patch" if patch.get("exact") else ">about in patch"] if patch else []),
                ],
                [
                    (
                        t["kind"],
                        t["name"],
                        t["before"],
                        t["after"] if t["after"] != t["before"] else "",
                        t["bytes"],
                        *([costs.get(t["name"], "")] if patch else []),
                    )
                    for t in shown
                ],
            )
        if len(shown) < len(tensors):
            click.echo(f"  … and {len(tensors) - len(shown)} more: --all")


@model.command()
@click.argument("ref")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder to write to.  [default: NAME-NUMBER]")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@with_hub
def pull(hub: Hub, ref: str, out: Path | None, force: bool) -> None:
    """Fetch all files of a version, as they were pushed, with its signed manifest.

    \b
    farshore model pull detector@champion -o ./champion
    """
    found = hub.version(ref)
    exact = f"{found['model']}@{found['version']}"
    folder = out or Path(f"{found['model']}-{found['version']}")
    wanted = {f["path"]: f for variant in found["manifest"]["variants"] for f in variant["files"]}
    wanted |= {case["picture"]["path"]: case["picture"] for case in found["manifest"].get("acceptance", [])}
    for path in wanted:
        if (folder / path).exists() and not force:
            raise Conflict(f"{folder / path} is there already: use another --out, or --force")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with progress(f"pulling {exact}", sum(f["size"] for f in wanted.values())) as advance:
            for path, file in wanted.items():
                _pull(hub, exact, path, file["digest"], folder / path, advance)
        (folder / "manifest.json").write_bytes(hub.manifest(exact))
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # nothing came: an empty folder would say that something did
        raise
    click.echo(f"{exact}: {len(wanted)} files in {folder}/")


@model.command()
@click.argument("ref")
@click.argument("alias")
@click.option("--remove", is_flag=True, help="Remove the alias from the model.")
@with_hub
def alias(hub: Hub, ref: str, alias: str, remove: bool) -> None:
    """Point an alias at a version, or remove it.

    \b
    farshore model alias detector@3 champion
    farshore model alias detector champion --remove
    """
    name = ref.partition("@")[0]
    if remove:
        hub.delete_alias(name, alias)
        click.echo(f"{name} has no alias {alias} any more")
    else:
        found = hub.set_alias(ref, alias)
        click.echo(f"{name}@{alias} is version {found['version']} now")


@model.command()
@click.argument("ref")
@click.argument("tags", nargs=-1, required=True, metavar="K=V…")
@with_hub
def tag(hub: Hub, ref: str, tags: tuple[str, ...]) -> None:
    """Set tags of a version; ``K=`` removes one. With a bare NAME, of the model.

    \b
    farshore model tag detector@3 reviewed=yes camera=
    farshore model tag detector team=blades
    """
    change = {key: value or None for key, value in pairs(tags, "tag").items()}
    found = hub.change_version(ref, tags=change) if "@" in ref else hub.change_model(ref, tags=change)
    click.echo(f"{ref}: {_tags(found.get('tags', {})) or 'no tags'}")


@model.command()
@click.argument("ref")
@click.option("--undo", is_flag=True, help="Take it out of the archive.")
@with_hub
def archive(hub: Hub, ref: str, undo: bool) -> None:
    """Put a version out of sight: it is no longer the newest, and stays where it runs.

    \b
    farshore model archive detector@2
    """
    found = hub.change_version(ref, archived=not undo)
    click.echo(f"{found['model']}@{found['version']} is {'back' if undo else 'archived'}")


@model.command()
@click.argument("ref")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_hub
def delete(hub: Hub, ref: str, yes: bool) -> None:
    """Delete a version for ever. Refused while an alias, a deployment or a device needs it.

    \b
    farshore model delete detector@2
    """
    found = hub.version(ref)
    exact = f"{found['model']}@{found['version']}"
    if not yes:
        click.confirm(f"Delete {exact} ({megabytes(found['size'])}) for ever?", abort=True)
    hub.delete_version(exact)
    click.echo(f"{exact} is deleted; its number is not used again")


def _pull(hub: Hub, ref: str, path: str, digest: Any, target: Path, advance: Any) -> None:
    """One file, visible under its name only when it is whole and right."""
    temp = target.with_name(f".{target.name}.part")
    try:
        with files.translated(target), temp.open("wb") as sink:
            hub.pull(ref, path, digest, sink, advance)
        temp.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


def _text(path: Path) -> str:
    try:
        return _decoded(str(path), path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"no file {str(path)!r}") from None
    except OSError as error:
        raise Invalid(f"{path}: cannot be read as text ({error})") from error


def _decoded(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"{name}: cannot be read as text ({error})") from error


def _overrides(toml: Path | None, settings: tuple[str, ...]) -> str:
    """The text of a ``farshore.toml``: a file's, or one made of dotted keys."""
    if toml is not None and settings:
        raise Invalid("--set and --toml cannot be used together: write it into the file")
    if toml is not None:
        return _text(toml)
    return "".join(f"{key} = {_toml(value)}\n" for key, value in pairs(settings, "--set").items())


def _toml(text: str) -> str:
    """A value as TOML: as it stands if it reads as such, else as a string."""
    try:
        tomllib.loads(f"x = {text}")
    except tomllib.TOMLDecodeError:
        return msgspec.json.encode(text).decode()
    return text


def _typed(text: str) -> Any:
    """A property's value: JSON if it reads as such, else text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _recognised(variant: dict[str, Any]) -> str:
    """One line: task, decoder, how a picture goes in."""
    pipeline = variant["pipeline"]
    picture = pipeline.get("input")
    parts = [f"{pipeline['task']} ({pipeline['decoder']})", variant["runtime"], variant["precision"]]
    if picture:
        parts.append(
            f"{picture['width']}×{picture['height']} {picture.get('colour', 'RGB')} {picture['layout']}, {picture.get('resize', 'stretch')}"
        )
    if pipeline.get("labels"):
        parts.append(f"labels from {pipeline['labels']['path']}")
    return ", ".join(parts)


def _tensor(tensor: dict[str, Any]) -> tuple[str, str, str]:
    return tensor["name"], tensor["dtype"], "×".join(str(size) for size in tensor["shape"]) or "scalar"


def _base(base: dict[str, Any]) -> str:
    return f"{base['model']}@{base['version']} {base['path']}" if base.get("model") else base["digest"][:19] + "…"


def _origin(value: Any) -> str:
    """A member of the lineage for people: a version by its name, all else as it is."""
    return f"{value['model']}@{value['version']}" if isinstance(value, dict) else str(value)


def _tags(tags: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in tags.items())


def _when(text: str) -> str:
    """A moment for people: to the second, in UTC."""
    return text[:19].replace("T", " ")


@model.command()
@PATHS
@json_option
def inspect(paths: tuple[Path, ...], as_json: bool) -> None:
    """Show what a push would make of files, without a hub: what is recognised, why, and what must be told.

    \b
    farshore model inspect yolox_nano.onnx
    farshore model inspect detector.tflite labels.txt farshore.toml
    farshore model inspect ssd_mobilenet.zip
    """
    from farshore import formats
    from farshore.client import collect

    with tempfile.TemporaryDirectory(prefix="farshore-") as spool:
        found = dict(_opened(collect(paths), Path(spool)))
    toml = found.pop("farshore.toml", None)
    overrides = (
        formats.Overrides() if toml is None else formats.overrides(tomllib.loads(_decoded("farshore.toml", toml)))
    )
    models = {name: data for name, data in found.items() if name.lower().endswith((".onnx", ".tflite", ".lite"))}
    if not models:
        raise Invalid("no model among these files: name a .onnx or .tflite file")
    texts = {name: data for name, data in found.items() if name.lower().endswith((".txt", ".names"))}
    shown = []
    for name, data in models.items():
        info = formats.inspect(data)
        recognised = formats.recognise(info, texts, overrides)
        shown.append({"file": name, "info": info, "recognition": recognised})
        if not as_json:
            _explain(name, info, recognised)
    if as_json:
        print_json(msgspec.to_builtins(shown))


def _opened(paths: Sequence[Path], spool: Path) -> Iterator[tuple[str, bytes]]:
    """Files by name, those of a ZIP among them as the hub would take them out."""
    from farshore.store import archive

    for path in paths:
        with path.open("rb") as file:
            packed = archive.is_zip(path.name, file.read(4))
        if packed:
            for member in archive.unpack(path, spool, limit=MAX_UNPACKED):
                yield member.name, member.path.read_bytes()
        else:
            yield path.name, path.read_bytes()


def _explain(name: str, info: ModelInfo, recognised: Recognition) -> None:
    click.echo(f"{name}: {recognised.task} ({recognised.decoder}), {info.runtime}, {info.precision}")
    tensors = [("in", t) for t in info.inputs] + [("out", t) for t in info.outputs]
    print_table(["", "tensor", "dtype", "shape"], [(way, *_tensor(msgspec.to_builtins(t))) for way, t in tensors])
    print_table(["what", "is", "because"], [(r.what, r.value, r.why) for r in recognised.reasons])
    for question in recognised.questions:
        click.echo(f"{'must be told' if question.blocking else 'may be told'}: {question.option}: {question.text}")
