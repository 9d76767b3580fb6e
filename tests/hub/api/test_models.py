import os

import pytest

from farshore.core import digest as digests
from farshore.core.errors import Unavailable
from farshore.store import files

DATA = b"some bytes of a model"
DIGEST = digests.of(DATA)


def put(operator, digest=DIGEST, content=DATA, status=201, **headers):
    return operator.ask("PUT", f"/v1/blobs/{digest}", content=content, headers=headers, status=status)


def spool(settings):
    return list((settings.data / "spool").iterdir())


def test_an_upload_is_known_afterwards_and_again_is_fine(operator, settings):
    operator.ask("HEAD", f"/v1/blobs/{DIGEST}", status=404)
    assert put(operator).json() == {"digest": DIGEST, "size": len(DATA)}
    assert operator.ask("HEAD", f"/v1/blobs/{DIGEST}").headers["content-length"] == str(len(DATA))
    put(operator)
    assert operator.ask("GET", f"/v1/blobs/{DIGEST}").content == DATA
    assert spool(settings) == []


def test_other_bytes_than_said_are_refused(operator, settings):
    answer = put(operator, content=DATA + b"!", status=422)
    assert answer.json()["error"]["code"] == "corrupt"
    operator.ask("HEAD", f"/v1/blobs/{DIGEST}", status=404)
    assert spool(settings) == []


def test_a_length_must_be_given(operator):
    def chunks():
        yield DATA

    assert put(operator, content=chunks(), status=400).json()["error"]["message"].startswith("Transfer-Encoding")


def test_uploads_have_a_limit(operator_of):
    assert put(operator_of(max_blob=10), status=413).json()["error"]["code"] == "too_large"


def test_versions_have_a_limit(operator_of, make_onnx):
    operator_of(max_version=100).push("m", {"net.onnx": make_onnx()}, status=413)


def test_a_full_disk_is_said_before_the_first_byte(operator, monkeypatch, settings):
    monkeypatch.setattr(files, "free_bytes", lambda _folder: 1 << 20)
    answer = put(operator, status=503)
    assert "disk full" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"]
    assert spool(settings) == []


def test_a_store_that_fails_leaves_no_row(operator, hub, monkeypatch, settings):
    def fail(*_):
        raise Unavailable("object store: away")

    monkeypatch.setattr(hub.registry.objects, "put", fail)
    put(operator, status=503)
    operator.ask("HEAD", f"/v1/blobs/{DIGEST}", status=404)
    assert spool(settings) == []


def test_a_large_upload_goes_through_the_disk(process):
    operator = process.operator()
    data = os.urandom(24 << 20)
    put(operator, digests.of(data), data)
    assert operator.ask("HEAD", f"/v1/blobs/{digests.of(data)}").headers["content-length"] == str(len(data))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"files": []},
        {"files": [{"path": "a.onnx"}]},
        {"files": [{"path": "a.onnx", "digest": DIGEST}], "tags": {"": "x"}},
        {"files": [{"path": "a.onnx", "digest": DIGEST}], "tags": {"a": 1}},
        {"files": [{"path": "a.onnx", "digest": DIGEST}], "properties": []},
        {"files": [{"path": "a.onnx", "digest": DIGEST}], "operation": "dreamt"},
        {"files": [{"path": "a.onnx", "digest": DIGEST}], "parent": "absent@1"},
        {"files": [{"path": "a.onnx", "digest": DIGEST}], "alias": "12"},
        {"files": [{"path": "a.onnx", "digest": DIGEST}], "alias": "Bad"},
        {"files": [{"path": "a.onnx", "digest": DIGEST}], "acceptance": [{"picture": "a.jpg"}]},
        {"files": [{"path": "a.onnx", "digest": DIGEST}] * 2},
    ],
)
def test_bad_pushes(operator, body):
    put(operator)
    operator.ask("POST", "/v1/models/m/versions", json=body, status=(400, 404))
    assert operator.get("/v1/models")["items"] == []
