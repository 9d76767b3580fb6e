"""Manifests are canonical, checked, and never guessed at."""

import json

import pytest

from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core.errors import Invalid, TooLarge
from farshore.core.manifest import (
    AcceptanceCase,
    Content,
    File,
    Labels,
    Manifest,
    Pipeline,
    Requirements,
    Tensor,
    Variant,
)

A, B = digests.of(b"a"), digests.of(b"b")


MODEL = (File("m.onnx", A, 1),)


def variant(name="onnx-fp32", files=MODEL, **changes):
    values = {
        "name": name,
        "runtime": "onnxruntime",
        "precision": "fp32",
        "files": files,
        "inputs": (Tensor("x", "float32", (1, "n")),),
        "outputs": (),
        "pipeline": Pipeline("tensors", "tensors"),
    } | changes
    return Variant(**values)


def manifest(*variants, **changes):
    return Manifest("detector", 1, Content(variants or (variant(),), **changes))


def test_round_trip_is_canonical():
    data = manifests.encode(manifest())
    assert manifests.decode(data) == manifest()
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()
    assert json.loads(data)["format"] == manifests.FORMAT


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (manifest(variant(), variant()), "stands twice"),
        (manifest(variant(files=())), "exactly one"),
        (manifest(variant(files=(File("m", A, 1), File("n", B, 1)))), "exactly one"),
        (manifest(variant(files=(File("m", A, 1), File("m", B, 1, "labels")))), "stands twice"),
        (manifest(variant(files=(File("../m", A, 1),))), "bad file name"),
        (manifest(variant(files=(File("a\\b", A, 1),))), "bad file name"),
        (manifest(variant(files=(File(".hidden", A, 1),))), "bad file name"),
        (manifest(variant(files=(File("m\n", A, 1),))), "bad file name"),
        (manifest(variant(files=(File("ü" * 128, A, 1),))), "bad file name"),
        (manifest(variant(pipeline=Pipeline("tensors", "tensors", labels=Labels("l.txt")))), "not among its files"),
        (manifest(acceptance=(AcceptanceCase("c", File("p.jpg", A, 2, "picture"), {}),)), "two sizes"),
        (Manifest("Detector", 1, Content((variant(),))), "model"),
        (Manifest("detector", 0, Content((variant(),))), "version"),
        (Manifest("detector", 1, Content(())), "variants"),
        (manifest(variant(files=(File("m", "sha256:00", 1),))), "digest"),
        (manifest(variant(files=(File("m", A, -1),))), "size"),
    ],
)
def test_rules(broken, words):
    with pytest.raises(Invalid, match=words):
        manifests.encode(broken)


def test_other_formats_and_sizes_are_refused():
    data = manifests.encode(manifest())
    with pytest.raises(Invalid):
        manifests.decode(data.replace(b"manifest/1", b"manifest/2"))
    with pytest.raises(TooLarge):
        manifests.decode(data + b" " * manifests.MAX_MANIFEST)


def test_content_digest_ignores_name_and_number():
    other = Manifest("other", 7, manifest().content)
    assert manifests.content_digest(other.content) == manifests.content_digest(manifest().content)
    assert manifests.content_digest(manifest(variant("x")).content) != manifests.content_digest(manifest().content)


def test_files_needed_leave_out_what_only_pull_wants():
    case = AcceptanceCase("c", File("p.jpg", B, 1, "picture"), {})
    notes = File("notes.md", digests.of(b"n"), 1, "other")
    made = manifest(variant(files=(File("m.onnx", A, 1), notes)), acceptance=(case,))
    assert set(made.needed(made.content.variants[0])) == {A, B}
    assert set(made.files()) == {A, B, digests.of(b"n")}


@pytest.mark.parametrize(
    ("runtimes", "memory", "machine", "chosen"),
    [
        (("onnxruntime",), 0, "x86_64", "onnx-fp32"),
        (("litert",), 100, "aarch64", "litert-int8"),
        (("litert",), 99, "aarch64", None),
        (("litert",), 100, "x86_64", None),
        (("litert", "onnxruntime"), 100, "aarch64", "litert-int8"),
        ((), 100, "x86_64", None),
    ],
)
def test_the_first_variant_that_fits_is_chosen(runtimes, memory, machine, chosen):
    small = variant("litert-int8", runtime="litert", requires=Requirements(memory=100, architectures=("aarch64",)))
    found = manifests.choose_variant(manifest(small, variant()), runtimes, memory, machine)
    assert (found.name if found else None) == chosen


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a/b", "ü", "a" * 64, "a\n", ".a", "a\x00"])
def test_bad_names(name):
    with pytest.raises(Invalid):
        manifests.check_name(name)


@pytest.mark.parametrize("name", ["a", "0", "detector", "a.b_c-d", "a" * 63])
def test_good_names(name):
    assert manifests.check_name(name) == name
