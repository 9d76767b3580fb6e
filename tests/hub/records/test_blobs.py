from farshore.core import digest as digests
from farshore.core.manifest import File
from farshore.hub.records import blobs, models

A, B, C = (digests.of(text) for text in (b"a", b"b", b"c"))


def test_known_and_unknown(tx):
    blobs.add(tx, A, 1, 10.0)
    blobs.add(tx, A, 1, 20.0)
    assert (blobs.size(tx, A), blobs.size(tx, B)) == (1, None)
    assert blobs.sizes(tx, [A, B]) == {A: 1}


def test_only_what_is_unused_and_untouched_goes(tx):
    for digest in (A, B, C):
        blobs.add(tx, digest, 1, 10.0)
    model = models.add_model(tx, "m", 1.0)
    row = models.Version(0, "m", 1, A, A, 1, "", {}, {}, {}, [], archived=False, created=1.0)
    models.add_version(tx, model.id, row, b"manifest", {"net.onnx": File("net.onnx", A, 1)})
    blobs.touch(tx, [B], 30.0)
    assert blobs.unused(tx, 20.0, 10) == [C]
    assert blobs.unused(tx, 40.0, 1) in ([B], [C])
    assert not blobs.remove_unused(tx, A, 40.0)
    assert not blobs.remove_unused(tx, B, 20.0)
    assert blobs.remove_unused(tx, C, 20.0)
    assert blobs.sizes(tx, [A, B, C]) == {A: 1, B: 1}
