"""OpenSSF Model Signing at the door of the registry, with bundles made by the standard's own library."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from farshore.core.errors import Invalid
from farshore.hub.provenance import Provenance

signing = pytest.importorskip("model_signing.signing", reason="farshore[signing] is not installed")


def make_key(folder, name):
    """A P-256 key pair as PEM files; returns the path of the private half, ``.pub`` beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    path = folder / name
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


LABELS = b"ship\nbuoy\nturbine\n"
TOML = "[input]\nmean = 127.5\nstd = 127.5\n"


def sign(folder, key, files):
    """A bundle over ``files``."""
    model = folder / "signed"
    model.mkdir(exist_ok=True)
    for name, data in files.items():
        (model / name).write_bytes(data)
    signing.Config().use_elliptic_key_signer(private_key=key).sign(model, folder / "model.sig")
    return (folder / "model.sig").read_bytes()


@pytest.fixture
def model(make_onnx):
    return make_onnx()


@pytest.fixture
def keys(tmp_path):
    return make_key(tmp_path, "lab"), make_key(tmp_path, "other")


@pytest.fixture
def believing(operator_of, keys):
    """A hub that believes the first key and takes nothing unsigned."""
    return operator_of(signed_by=str(keys[0].with_suffix(".pub")), require_signature=True)


def test_a_signed_model_is_taken_and_its_signer_noted(believing, keys, tmp_path, model):
    files = {"model.onnx": model, "labels.txt": LABELS}
    believing.push("detector", {**files, "model.sig": sign(tmp_path, keys[0], files)}, overrides=TOML)
    version = believing.get("/v1/models/detector/versions/1")
    assert any("2 files signed by the key with SHA-256" in note for note in version["notes"])
    shipped = [file["path"] for file in version["manifest"]["variants"][0]["files"]]
    assert "model.onnx" in shipped and "model.sig" not in shipped


@pytest.mark.parametrize(
    ("spoil", "status", "said"),
    [
        (lambda files, bundle: {**files, "labels.txt": b"cow\n", "model.sig": bundle}, 422, "labels.txt"),
        (lambda files, bundle: {"model.onnx": files["model.onnx"], "model.sig": bundle}, 422, "labels.txt"),
        (lambda files, bundle: {**files, "model.sig": b"{}"}, 422, "model.sig"),
        (lambda files, bundle: {**files, "model.sig": bundle[:-40]}, 422, "model.sig"),
        (lambda files, bundle: files, 403, "only signed models"),
        (lambda files, bundle: {**files, "model.sig": bundle, "b.sig": bundle}, 400, "push one"),
    ],
    ids=["changed", "missing", "empty", "cut", "unsigned", "two"],
)
def test_what_was_not_signed_so_is_refused(believing, keys, tmp_path, model, spoil, status, said):
    files = {"model.onnx": model, "labels.txt": LABELS}
    pushed = spoil(files, sign(tmp_path, keys[0], files))
    assert said in json.dumps(believing.push("detector", pushed, overrides=TOML, status=status))
    believing.ask("GET", "/v1/models/detector", status=404)


def test_a_file_slipped_in_beside_signed_ones_is_refused(believing, keys, tmp_path, model):
    bundle = sign(tmp_path, keys[0], {"labels.txt": LABELS})
    pushed = {"model.onnx": model, "labels.txt": LABELS, "model.sig": bundle}
    assert "does not sign model.onnx" in json.dumps(believing.push("detector", pushed, overrides=TOML, status=403))


def test_another_key_is_not_believed(believing, keys, tmp_path, model):
    files = {"model.onnx": model}
    bundle = sign(tmp_path, keys[1], files)
    assert (
        "key"
        in json.dumps(believing.push("detector", {**files, "model.sig": bundle}, overrides=TOML, status=422)).lower()
    )


def test_settings_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(Invalid, match="--signed-by"):
        Provenance([], required=True)
    with pytest.raises(Invalid, match="no such file"):
        Provenance([tmp_path / "nothing.pem"], required=False)
