"""The classic contract with a ZIP in Blob Storage: a module that knows nothing of Farshore, a hub that speaks IoT Hub, and Azurite."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
import urllib3
from tests.azurite import Azurite
from tests.hub.iothub.face import Face
from tests.hub.iothub.sdk import python

from farshore.store.objects import Objects

PATIENCE = 60.0
MODULE = "classic"


def bundle(model: bytes, labels: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model.onnx", model)
        archive.writestr("labels.txt", labels)
    return out.getvalue()


@pytest.fixture
def face(tmp_path):
    made = Face(tmp_path)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path, monkeypatch):
    with Azurite(tmp_path / "azurite") as azurite:
        for name, value in azurite.environment.items():
            monkeypatch.setenv(name, value)
        yield Objects.open(azurite.container("models"))


@pytest.fixture
def module(face, tmp_path):
    environment = {
        **os.environ,
        "EdgeHubConnectionString": f"{face.connection('d', MODULE)};GatewayHostName={face.host}",
        "EdgeModuleCACertificateFile": str(face.ca),
    }
    with (tmp_path / "module.log").open("wb") as log:
        process = subprocess.Popen(
            [python("device"), str(Path(__file__).with_name("classic_module.py")), str(tmp_path / "models")],
            env=environment,
            stdout=log,
            stderr=log,
        )
    yield process
    process.kill()
    process.wait()


def told(face, store, name, data, *, late=False, md5=None):
    store.write(f"classic/{name}", data)
    address = store.address(f"classic/{name}", 1 if late else 600)
    while late and urllib3.request("GET", address).status != 403:
        time.sleep(0.1)
    digest = base64.b64encode(hashlib.md5(data).digest()).decode()
    desired = {"FileName": name, "DownloadUrl": address, "ContentMD5": md5 or digest}
    face.patch_twin("d", MODULE, {"properties": {"desired": desired}})


def says(face, key, value, module, tmp_path):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        reported = face.twin("d", MODULE)["properties"]["reported"]
        if reported.get(key) == value:
            return reported
        assert module.poll() is None, (tmp_path / "module.log").read_text()[-3000:]
        time.sleep(0.05)
    raise AssertionError(f"{reported} never said {key} = {value}\n{(tmp_path / 'module.log').read_text()[-3000:]}")


def test_download_compare_unpack_load_report(face, store, module, tmp_path):
    told(face, store, "first.zip", bundle(b"1" * 300_000, "ship buoy"))
    reported = says(face, "LatestAIModelFileName", "first.zip", module, tmp_path)
    assert (reported["Bytes"], reported["Labels"]) == (300_000, 2)
    told(face, store, "wrong.zip", bundle(b"2", "a"), md5="AAAAAAAAAAAAAAAAAAAAAA==")
    says(face, "LastError", "wrong.zip: MD5 differs", module, tmp_path)
    told(face, store, "second.zip", bundle(b"3" * 500_000, "ship buoy turbine"))
    reported = says(face, "LatestAIModelFileName", "second.zip", module, tmp_path)
    assert (reported["Bytes"], reported["Labels"]) == (500_000, 3)
    assert "LastError" not in reported


def test_an_address_that_ran_out_is_written_anew(face, store, module, tmp_path):
    data = bundle(b"1" * 1000, "ship")
    told(face, store, "late.zip", data, late=True)
    says(face, "LastError", "late.zip: HTTP Error 403: Server failed to authenticate the request. Make sure the value of the Authorization header is formed correctly including the signature.", module, tmp_path)  # fmt: skip
    told(face, store, "late.zip", data)
    says(face, "LatestAIModelFileName", "late.zip", module, tmp_path)
