"""Names and digests that are made to do harm, at every door where one comes in."""

import warnings

import pytest
from tests.sim.devices import enrol_body

with warnings.catch_warnings():  # it would rather have httpx's successor
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

from farshore.core import digest as digests
from farshore.hub.app import create_app
from farshore.hub.settings import Settings

NAMES = ["..", ".", "a/b", "../a", "a\\b", "A", "é", "a b", "", "-a", "a" * 64, "a\n", "a\0", "%2e%2e", "a%2f..%2fb"]
DIGESTS = [
    "sha256:" + "0" * 63,
    "sha256:" + "0" * 65,
    "sha256:" + "G" * 64,
    "sha256:" + "A" * 64,
    "sha256:" + "0" * 63 + "/",
    "sha256:../../" + "0" * 58,
    "sha512:" + "0" * 128,
    "md5:" + "0" * 32,
    "0" * 64,
    "SHA256:" + "0" * 64,
    "sha256:" + "0" * 64 + "%0a",
    "sha256:" + "0" * 64 + "\n",
    "sha256:" + "٠" * 64,
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    data = tmp_path_factory.mktemp("names") / "hub"
    with TestClient(create_app(Settings(data=data)), raise_server_exceptions=False) as client:
        client.headers["Authorization"] = "Bearer " + (data / "admin.token").read_text().strip()
        client.data = data
        token = client.post("/v1/enrolments", json={}).json()["token"]
        asked = enrol_body("d", token, bearer="c" * 40)
        assert client.post("/device/v1/enrol", json=asked).status_code == 200
        client.device = {"Authorization": "Bearer " + "c" * 40}
        yield client


def operator_upload(hub, data: bytes) -> str:
    digest = digests.of(data)
    assert hub.put(f"/v1/blobs/{digest}", content=data).status_code == 201
    return digest


def quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


@pytest.mark.parametrize("digest", DIGESTS)
@pytest.mark.parametrize("path", ["/v1/blobs/{}", "/device/v1/objects/{}", "/device/v1/manifests/{}"])
def test_digests_in_addresses(hub, path, digest):
    for form in (quoted(digest), quoted(quoted(digest))):
        answer = hub.get(path.format(form), headers=hub.device if path.startswith("/device/") else {})
        assert answer.status_code == 400, answer.text
        assert "not a digest" in answer.json()["error"]["message"]


@pytest.mark.parametrize("digest", DIGESTS)
def test_digests_in_bodies(hub, digest):
    for path, body in (
        ("/device/v1/tickets", {"want": digest}),
        ("/device/v1/tickets", {"want": "sha256:" + "0" * 64, "have": [digest]}),
        ("/v1/models/m/versions", {"files": [{"path": "a.onnx", "digest": digest}]}),
    ):
        headers = hub.device if path.startswith("/device/") else {}
        assert hub.post(path, json=body, headers=headers).status_code == 400


@pytest.mark.parametrize("digest", DIGESTS)
def test_nothing_is_uploaded_under_a_bad_digest(hub, digest):
    before = sorted(hub.data.rglob("*"))
    assert hub.put(f"/v1/blobs/{quoted(digest)}", content=b"x").status_code == 400
    assert sorted(hub.data.rglob("*")) == before


@pytest.mark.parametrize("name", NAMES)
def test_model_names(hub, name):
    for path in (
        "/v1/models/{}",
        "/v1/models/{}/versions/1",
        "/v1/models/{}/versions",
        "/v1/models/{}/diff?from=1&to=1",
    ):
        answer = hub.get(path.format(quoted(name)))
        assert answer.status_code in {400, 404}
        assert answer.json()["error"]["code"] in {"invalid", "not_found"}
    answer = hub.post(
        f"/v1/models/{quoted(name)}/versions", json={"files": [{"path": "a.onnx", "digest": "sha256:" + "0" * 64}]}
    )
    assert answer.status_code in {400, 404}
    assert hub.get("/v1/models").json()["items"] == []


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "../a", "a\\b", "", "a\n", "a\0", ".hidden", "a" * 256, "é" * 128, "a\x7fb"]
)
def test_file_names_in_pushes(hub, name):
    digest = operator_upload(hub, b"x")
    answer = hub.post("/v1/models/m/versions", json={"files": [{"path": name, "digest": digest}]})
    assert "bad file name" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", NAMES)
def test_device_names(hub, name):
    token = hub.post("/v1/enrolments", json={}).json()["token"]
    asked = enrol_body(name, token)
    assert hub.post("/device/v1/enrol", json=asked).status_code == 400
    assert hub.post("/v1/enrolments", json={"device": name}).status_code == 400
    assert hub.get(f"/v1/devices/{quoted(name)}").status_code in {400, 404}


@pytest.mark.parametrize("name", NAMES)
def test_deployment_and_alias_names(hub, name):
    body = {"selector": "*", "model": "m@1"}
    assert hub.put(f"/v1/deployments/{quoted(name)}", json=body).status_code in {400, 404, 405}
    assert hub.put(f"/v1/models/m/aliases/{quoted(name)}", json={"version": 1}).status_code in {400, 404, 405}


@pytest.mark.parametrize(
    "ref", ["m@", "m@@1", "m@../1", "../m", "m@1@2", "@1", "M", "m@99999999999999999999999", "m" * 500]
)
def test_refs(hub, ref):
    answer = hub.post("/v1/deployments", json={"selector": "*", "model": ref})
    assert answer.status_code in {400, 404}


def test_an_escaped_slash_stays_in_its_segment(hub):
    answer = hub.get("/v1/models/m%2f..%2f..%2fhub")
    assert answer.status_code == 400
    assert "bad name" in answer.json()["error"]["message"]
    assert hub.get("/v1/models/../hub").status_code in {200, 404}  # the client itself resolves this one


@pytest.mark.parametrize("path", ["/v1/models/%ff", "/v1/models/%c0%ae", "/v1/devices/%ed%a0%80"])
def test_percent_encoding_must_be_utf8(hub, path):
    assert hub.get(path).status_code == 400


def test_long_addresses(hub):
    assert hub.get("/v1/models/" + "a" * 4000).status_code == 413
    assert hub.get("/v1/devices", params={"where": "x" * 9000}).status_code == 413
