import pytest
from sqlalchemy.exc import IntegrityError

from farshore.core import digest as digests
from farshore.core.manifest import File
from farshore.hub.records import blobs, deployments, models
from farshore.hub.records.deployments import Deployment


@pytest.fixture
def add_version(tx):
    def add(model, text):
        digest = digests.of(text)
        blobs.add(tx, digest, len(text), 1.0)
        number = models.next_number(tx, model.id)
        row = models.Version(0, model.name, number, digest, digest, 1, "", {}, {}, {}, [], archived=False, created=1.0)
        key = models.add_version(
            tx, model.id, row, b"manifest of " + text, {"a.onnx": File("a.onnx", digest, len(text))}
        )
        return models.version(tx, model.name, number) if key else None

    return add


def test_numbers_are_never_given_twice(tx, add_version):
    model = models.add_model(tx, "m", 1.0)
    one = add_version(model, b"one")
    models.remove_version(tx, one.id)
    assert add_version(model, b"two").number == 2
    assert models.model(tx, "m").last == 2


def test_ways_to_find_a_version(tx, add_version):
    model = models.add_model(tx, "m", 1.0)
    one, two = add_version(model, b"one"), add_version(model, b"two")
    assert models.by_digest(tx, two.digest) == models.newest(tx, "m") == two
    assert models.by_content(tx, model.id, one.content) == one
    models.set_alias(tx, model.id, "champion", one.id, 1.0)
    models.set_alias(tx, model.id, "champion", two.id, 2.0)
    assert models.by_alias(tx, "m", "champion") == two
    assert models.all_aliases(tx, ["m", "other"]) == {"m": {"champion": 2}}
    models.annotate(tx, two.id, "text", {"k": "v"}, archived=True)
    assert models.newest(tx, "m") == one
    assert models.version(tx, "m", 2).tags == {"k": "v"}
    assert [row.number for row in models.all_versions(tx, "m", 9, 9)] == [2, 1]
    assert models.version_counts(tx, ["m", "other"]) == {"m": (2, 1)}
    assert models.manifest(tx, one.digest) == b"manifest of one"
    assert models.any_version(tx)


def test_references_hold(tx, add_version):
    model = models.add_model(tx, "m", 1.0)
    one = add_version(model, b"one")
    models.set_alias(tx, model.id, "champion", one.id, 1.0)
    with pytest.raises(IntegrityError):
        models.remove_version(tx, one.id)
    assert models.remove_alias(tx, model.id, "champion")
    assert not models.remove_alias(tx, model.id, "champion")
    deployments.add(tx, Deployment(0, "p", "*", "m@1", "m", 1, one.digest, 0, 1.0, 1.0, one.id))
    with pytest.raises(IntegrityError):
        models.remove_version(tx, one.id)
    assert deployments.naming(tx, one.id, 5) == ["p"]
    deployments.remove(tx, "p")
    models.remove_version(tx, one.id)
    assert models.version_files(tx, one.id) == []
    assert not models.any_version(tx)


def test_files(tx, add_version):
    one = add_version(models.add_model(tx, "m", 1.0), b"one")
    assert models.file(tx, one.id, "a.onnx") == File("a.onnx", one.digest, 3)
    assert models.file(tx, one.id, "b.onnx") is None
    assert models.version_files(tx, one.id) == [File("a.onnx", one.digest, 3)]
