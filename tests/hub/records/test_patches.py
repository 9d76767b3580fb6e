"""Rows of patches."""

import pytest
from sqlalchemy import select

from farshore.core import digest as digests
from farshore.core.manifest import File
from farshore.hub.database import Database
from farshore.hub.records import blobs, models, patches
from farshore.hub.records.models import Version
from farshore.hub.records.patches import Patch
from farshore.hub.records.tables import patch_bases

A, B, C, P, Q = (digests.of(name.encode()) for name in "abcpq")


@pytest.fixture
def tx(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'db'}")
    database.migrate()
    with database.writing() as tx:
        for digest in (A, B, C, P, Q):
            blobs.add(tx, digest, 1000, 5.0)
        yield tx
    database.close()


def row(target, *bases, digest=P, size=10):
    return Patch(target, bases, digest, size, "default", 1.0)


def test_newest_first_and_one_for_each_set_of_bases(tx):
    for one in (row(C, A), row(C, B, A), row(C), row(B, A)):
        patches.add(tx, one)
    patches.add(tx, row(C, A, size=7))
    assert patches.to(tx, C, 10) == [row(C, A, size=7), row(C), row(C, B, A)]
    assert patches.to(tx, C, 1) == [row(C, A, size=7)]
    assert patches.to(tx, A, 10) == []


def test_what_was_not_kept_is_remembered(tx):
    patches.add(tx, row(C, A, digest=None))
    assert patches.to(tx, C, 10) == [row(C, A, digest=None)]


def test_patches_are_in_use_until_a_file_goes(tx):
    patches.add(tx, row(C, A, B))
    patches.add(tx, row(C, A, digest=Q))
    assert {P, Q}.isdisjoint(blobs.unused(tx, 100.0, 10))
    assert not blobs.remove_unused(tx, P, 100.0)
    patches.forget(tx, B)
    assert patches.to(tx, C, 10) == [row(C, A, digest=Q)]
    assert P in blobs.unused(tx, 1.0, 10)
    patches.forget(tx, C)
    assert Q in blobs.unused(tx, 1.0, 10)
    assert tx.execute(select(patch_bases)).all() == []


def test_the_oldest_are_pruned(tx):
    for one in (row(C, A), row(C, B, digest=Q), row(B, A)):
        patches.add(tx, one)
    patches.prune(tx, C, 1)
    assert patches.to(tx, C, 10) == [row(C, B, digest=Q)]
    assert patches.to(tx, B, 10) == [row(B, A)]


def test_external_data_knows_the_models_beside_it_in_its_newest_version(tx):
    model = models.add_model(tx, "m", 1.0)
    outside = File("net.data", A, 900, "external")
    for number, parts in enumerate(
        [(outside, File("old.onnx", B, 10)), (outside, File("large.onnx", P, 500), File("net.onnx", C, 10))], start=1
    ):
        row = Version(0, "m", number, f"sha256:{number:064}", f"sha256:{number:064}", 1, "", {}, {}, {}, [], False, 1.0)
        models.add_version(tx, model.id, row, b"", {part.path: part for part in parts})
    assert patches.beside(tx, [A, B, Q], 4) == {A: ("net.data", (C, P))}
    assert patches.beside(tx, [A], 1) == {A: ("net.data", (C,))}
