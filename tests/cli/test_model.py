"""``farshore model`` against a real hub."""

import json
import zipfile

import httpx
import onnx
from onnx import TensorProto, helper
from tests.sim.devices import enrol_body

from farshore.core import digest as digests


def test_push_numbers_by_itself_and_knows_what_it_has(farshore, classifier, tmp_path):
    first = classifier()
    out = farshore.ok(
        "model",
        "push",
        "numbers",
        first,
        tmp_path / "labels.txt",
        "--alias",
        "champion",
        "--property",
        "top1=0.9",
        "--tag",
        "camera=north",
    )
    assert out.startswith("numbers@1 ")
    assert "classification" in out
    assert "new version" in farshore.ok("model", "push", "numbers", first, tmp_path / "labels.txt")
    second = json.loads(
        farshore.ok(
            "model",
            "push",
            "numbers",
            classifier(weight=2.0),
            "--parent",
            "numbers@champion",
            "--operation",
            "fine-tuned",
            "--json",
        )
    )
    assert (second["version"], second["existing"]) == (2, False)
    assert second["lineage"]["operation"] == "fine-tuned"
    shown = json.loads(farshore.ok("model", "show", "numbers@champion", "--json"))
    assert shown["version"] == 1
    assert shown["properties"] == {"top1": 0.9}
    assert shown["tags"] == {"camera": "north"}
    assert [v["version"] for v in json.loads(farshore.ok("model", "list", "numbers", "--json"))] == [2, 1]
    assert "numbers" in farshore.ok("model", "list")
    assert "numbers@1" in farshore.ok("model", "show", "numbers@2")  # its parent


def test_a_zip_a_folder_and_files_are_the_same_content(farshore, classifier, tmp_path):
    path = classifier("same.onnx", weight=0.5)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "same.onnx").write_bytes(path.read_bytes())
    (folder / "labels.txt").write_text((tmp_path / "labels.txt").read_text())
    with zipfile.ZipFile(tmp_path / "same.zip", "w") as archive:
        archive.write(path, "same.onnx")
        archive.write(tmp_path / "labels.txt", "labels.txt")
    made = [
        json.loads(farshore.ok("model", "push", "same", *given, "--json"))
        for given in ([folder], [tmp_path / "same.zip"], [path, tmp_path / "labels.txt"])
    ]
    assert [(m["version"], m["existing"]) for m in made] == [(1, False), (1, True), (1, True)]


def test_pull_gives_back_the_same_bytes(farshore, classifier, tmp_path):
    path = classifier("ü 模型.onnx")
    farshore.ok("model", "push", "pulled-back", path, tmp_path / "labels.txt")
    farshore.ok("model", "pull", "pulled-back", "-o", tmp_path / "out")
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "out" / "labels.txt").read_text() == (tmp_path / "labels.txt").read_text()
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["model"] == "pulled-back"
    status, _, err = farshore("model", "pull", "pulled-back", "-o", tmp_path / "out")
    assert status == 4
    assert "--force" in err
    farshore.ok("model", "pull", "pulled-back", "-o", tmp_path / "out", "--force")
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_diff_names_what_changed(farshore, classifier):
    farshore.ok("model", "push", "differs", classifier(weight=1.0), "--property", "top1=0.5")
    farshore.ok("model", "push", "differs", classifier(weight=3.0), "--property", "top1=0.6")
    text = farshore.ok("model", "diff", "differs@1", "differs@2")
    assert "properties" in text
    assert "w" in text
    found = json.loads(farshore.ok("model", "diff", "differs@1", "differs@2", "--json"))
    assert found["variants"][0]["counts"]["changed"] == 1


def test_aliases_tags_archive_and_delete(farshore, classifier):
    farshore.ok("model", "push", "kept", classifier(weight=1.0))
    farshore.ok("model", "push", "kept", classifier(weight=2.0))
    assert "version 1" in farshore.ok("model", "alias", "kept@1", "champion")
    status, _, err = farshore("model", "delete", "kept@1", "--yes")
    assert status == 4
    assert "champion" in err
    farshore.ok("model", "alias", "kept", "champion", "--remove")
    assert "reviewed=yes" in farshore.ok("model", "tag", "kept@1", "reviewed=yes")
    assert "no tags" in farshore.ok("model", "tag", "kept@1", "reviewed=")
    assert "team=blades" in farshore.ok("model", "tag", "kept", "team=blades")
    farshore.ok("model", "archive", "kept@2")
    assert json.loads(farshore.ok("model", "show", "kept", "--json"))["version"] == 1
    farshore.ok("model", "archive", "kept@2", "--undo")
    farshore.ok("model", "delete", "kept@2", "--yes")
    farshore.ok("model", "push", "kept", classifier(weight=4.0))
    assert json.loads(farshore.ok("model", "show", "kept", "--json"))["version"] == 3


def test_deleting_asks_first(farshore, classifier, monkeypatch):
    import io

    farshore.ok("model", "push", "asked", classifier())
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, _, _ = farshore("model", "delete", "asked@1")
    assert status == 130
    assert farshore.ok("model", "show", "asked@1")


def bare(path):
    """A classifier that does not say how pixels are normalised."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [5, 3, 32, 32], [0.1] * (5 * 3072))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["f"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("f", TensorProto.FLOAT, [1, 5])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_what_cannot_be_told_is_asked_for_with_the_option(farshore, tmp_path):
    path = bare(tmp_path / "bare.onnx")
    status, _, err = farshore("model", "push", "unclear", path)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "input.mean" in err
    assert "--set" in err
    told = ["--set", "input.mean=127.5", "--set", "input.std=127.5", "--set", "input.colour=BGR"]
    made = json.loads(farshore.ok("model", "push", "unclear", path, *told, "--json"))
    assert made["manifest"]["variants"][0]["pipeline"]["input"]["colour"] == "BGR"
    status, _, err = farshore("model", "push", "unclear", path, "--set", "input.meen=1")
    assert "input.mean" in err
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08 not a model")
    status, _, err = farshore("model", "push", "unclear", tmp_path / "broken.onnx")
    assert status == 2
    assert "broken.onnx" in err


def test_names_from_outside_cannot_drive_the_terminal(farshore, classifier):
    farshore.ok("model", "push", "quiet", classifier(), "--description", "red\x1b[31m [bold]x[/bold]")
    text = farshore.ok("model", "list", "quiet") + farshore.ok("model", "show", "quiet")
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text


def test_the_digest_shown_is_the_manifests(farshore, classifier, hub_process):
    from farshore.client import Hub

    farshore.ok("model", "push", "named", classifier())
    url, token = hub_process
    hub = Hub(url, token.read_text().strip())
    assert digests.of(hub.manifest("named@1")) == hub.version("named@1")["digest"]


def test_inspect_tells_what_a_push_would_see_without_a_hub(farshore, classifier, tmp_path):
    path = classifier()
    nowhere = {"FARSHORE_HUB": "http://127.0.0.1:9"}
    text = farshore.ok("model", "inspect", path, tmp_path / "labels.txt", **nowhere)
    assert "classification" in text
    assert "because" in text
    found = json.loads(farshore.ok("model", "inspect", path, tmp_path / "labels.txt", "--json", **nowhere))
    assert found[0]["recognition"]["decoder"] == "classification"
    assert "must be told: input.mean" in farshore.ok("model", "inspect", bare(tmp_path / "bare.onnx"), **nowhere)
    (tmp_path / "farshore.toml").write_text("[input]\nmean = 0\nstd = 255\ncolour = 'BGR'\n")
    told = farshore.ok("model", "inspect", tmp_path / "bare.onnx", tmp_path / "farshore.toml", **nowhere)
    assert "must be told" not in told
    status, _, err = farshore("model", "inspect", tmp_path / "labels.txt", **nowhere)
    assert (status, len(err.splitlines())) == (2, 1)


def test_inspect_opens_a_zip_as_the_hub_would(farshore, classifier, tmp_path):
    path = classifier("packed.onnx")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.write(path, "inner/packed.onnx")
        archive.write(tmp_path / "labels.txt", "inner/labels.txt")
        archive.writestr("inner/farshore.toml", "[input]\nmean = 3\nstd = 58.5\n")
    told = farshore.ok("model", "inspect", tmp_path / "model.zip")
    assert "packed.onnx: classification" in told
    assert "3, std 58.5" in told
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 no more")
    status, _, err = farshore("model", "inspect", tmp_path / "broken.zip")
    assert (status, "ZIP" in err) == (2, True)


def test_patches_are_shown_with_what_each_tensor_takes(farshore, classifier, tmp_path):
    """A device says what it holds; the hub builds a patch, and show and diff tell of it."""
    old, new = (classifier(weight=weight, classes=40).read_bytes() for weight in (1.0, 2.0))
    for data in (old, new):
        (tmp_path / "model.onnx").write_bytes(data)
        farshore.ok("model", "push", "shifted", tmp_path / "model.onnx", tmp_path / "labels.txt")
    assert "patch" not in farshore.ok("model", "diff", "shifted@1", "shifted@2")
    told = json.loads(farshore.ok("device", "token", "--device", "patched-7", "--json"))
    credential = "credential-of-patched-7-xxxxxxxxxxxxxxxx"
    farshore.ok("deployment", "create", "shifted", "--model", "shifted@2", "--to", "deviceId = 'patched-7'")
    with httpx.Client(base_url=farshore.hub, headers={"Authorization": f"Bearer {credential}"}, timeout=60) as device:
        asked = enrol_body("patched-7", told["token"], bearer=credential)
        assert device.post("/device/v1/enrol", json=asked).status_code == 200
        assert device.post("/device/v1/sync", json={"seen": 0}).status_code == 200
        ticket = device.post("/device/v1/tickets", json={"want": digests.of(new), "have": [digests.of(old)]}).json()
    assert ticket["routes"][0]["kind"] == "patch"
    shown = farshore.ok("model", "show", "shifted@2")
    assert "shifted@1 model.onnx" in shown[shown.index("patches to it") :]
    [patch] = json.loads(farshore.ok("model", "show", "shifted@2", "--json"))["patches"]
    assert patch["size"] == ticket["routes"][0]["size"]
    compared = farshore.ok("model", "diff", "shifted@1", "shifted@2")
    assert "in patch" in compared
    assert "  patch: " in compared
