import time

import pytest

from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core.errors import NotFound
from farshore.hub.registry import ORPHAN_SECONDS
from farshore.trust import releases
from farshore.trust.metadata import moment


def version(operator, which, name="detector"):
    return operator.get(f"/v1/models/{name}/versions/{which}")


def test_numbers_count_up_and_are_never_given_again(operator, pushed):
    assert [pushed(seed=seed)["version"] for seed in (1, 2, 3)] == [1, 2, 3]
    operator.ask("DELETE", "/v1/models/detector/versions/3")
    operator.ask("GET", "/v1/models/detector/versions/3", status=404)
    assert pushed(seed=3)["version"] == 4
    for number in (1, 2, 4):
        operator.ask("DELETE", f"/v1/models/detector/versions/{number}")
    assert pushed(seed=1)["version"] == 5


def test_equal_content_makes_no_new_version(operator, pushed):
    first, again = pushed(), pushed(description="again", alias="champion")
    assert again["existing"] is True
    assert (again["version"], again["digest"], again["aliases"]) == (1, first["digest"], ["champion"])
    assert pushed(name="other")["version"] == 1  # another model, another line
    assert "existing" not in pushed(seed=2)


def test_the_manifest_is_signed_and_says_all(operator, pushed, hub):
    made = pushed()
    payload = operator.ask("GET", "/v1/models/detector/versions/1/manifest").content
    assert digests.of(payload) == made["digest"]
    chain = hub.director.state().chain
    releases.check(chain, "detector", 1, made["digest"], moment(hub.clock()))
    manifest = manifests.decode(payload)
    assert (manifest.model, manifest.version) == ("detector", 1)
    assert manifests.content_digest(manifest.content) == made["content"]
    shown = version(operator, 1)
    assert [file["path"] for file in shown["manifest"]["variants"][0]["files"]] == ["net.onnx", "labels.txt"]
    assert made["size"] == sum(file["size"] for file in shown["manifest"]["variants"][0]["files"])


def test_what_is_said_of_a_version(operator, pushed):
    pushed()
    pushed(
        seed=2,
        description="better",
        tags={"stage": "test"},
        properties={"map": 0.61, "classes": ["ship"], "deep": {"a": None}},
        parent="detector@1",
        operation="fine-tuned",
        dataset="scenes-7",
    )
    shown = version(operator, "latest")
    assert (shown["description"], shown["tags"]) == ("better", {"stage": "test"})
    assert shown["properties"] == {"map": 0.61, "classes": ["ship"], "deep": {"a": None}}
    assert shown["lineage"]["parent"] == {"model": "detector", "version": 1, "digest": version(operator, 1)["digest"]}
    assert (shown["lineage"]["operation"], shown["lineage"]["dataset"]) == ("fine-tuned", "scenes-7")
    assert any("decoder = classification" in note for note in shown["notes"])


def test_refs(operator, pushed):
    for seed in (1, 2, 3):
        pushed(seed=seed)
    operator.ask("PUT", "/v1/models/detector/aliases/champion", json={"version": 1})
    assert version(operator, "champion")["version"] == 1
    operator.ask("PUT", "/v1/models/detector/aliases/candidate", json={"version": "champion"})
    assert version(operator, 1)["aliases"] == ["candidate", "champion"]
    operator.ask("PUT", "/v1/models/detector/aliases/champion", json={"version": 2})
    assert version(operator, "champion")["version"] == 2
    operator.ask("PATCH", "/v1/models/detector/versions/3", json={"archived": True})
    assert version(operator, "latest")["version"] == 2
    assert version(operator, 3)["archived"] is True
    operator.ask("DELETE", "/v1/models/detector/aliases/champion")
    operator.ask("GET", "/v1/models/detector/versions/champion", status=404)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v1/models/absent", 404, "no model 'absent'"),
        ("/v1/models/absent/versions", 404, "no model 'absent'"),
        ("/v1/models/absent/versions/latest", 404, "no model 'absent'"),
        ("/v1/models/detector/versions/7", 404, "no version '7'"),
        ("/v1/models/detector/versions/99999999999999999999", 400, "digits"),
        ("/v1/models/detector/versions/9999999999", 404, "no version"),
        ("/v1/models/detector/versions/absent", 404, "no alias 'absent'"),
        ("/v1/models/detector/versions/1/files/absent.bin", 404, "no file 'absent.bin'"),
        ("/v1/models/Detector/versions/1", 400, "bad name"),
        ("/v1/models/detector/diff?from=1&to=8", 404, "no version '8'"),
    ],
)
def test_what_is_not_there_is_named(operator, pushed, path, status, said):
    pushed()
    assert said in operator.ask("GET", path, status=status).json()["error"]["message"]


def test_files_come_back_as_they_were(operator, make_onnx, pushed):
    pushed()
    got = operator.ask("GET", "/v1/models/detector/versions/1/files/net.onnx")
    assert got.content == make_onnx(1)
    part = operator.ask(
        "GET", "/v1/models/detector/versions/1/files/net.onnx", headers={"Range": "bytes=10-19"}, status=206
    )
    assert part.content == make_onnx(1)[10:20]


def test_deletion_is_refused_while_something_needs_the_version(operator, pushed):
    first = pushed(alias="champion")
    pushed(seed=2)
    device = operator.enrolled("d")

    def refusal():
        answer = operator.ask("DELETE", "/v1/models/detector/versions/1", status=409).json()["error"]
        assert answer["code"] == "conflict"
        return answer["message"]

    assert "alias champion" in refusal()
    operator.ask("DELETE", "/v1/models/detector/aliases/champion")
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    assert "deployment prod" in refusal()
    operator.ask("DELETE", "/v1/deployments/prod")
    running = {"version": 1, "digest": first["digest"]}
    device.sync(reported={"models": {"detector": {"current": running}}})
    assert "device d" in refusal()
    device.sync(reported={"models": {"detector": {"current": None, "previous": running}}})
    assert "device d" in refusal()
    device.sync(reported={"models": None})
    operator.ask("PATCH", "/v1/devices/d/twin", json={"properties": {"desired": {"models": {"detector": running}}}})
    assert "device d" in refusal()
    operator.ask("PATCH", "/v1/devices/d/twin", json={"properties": {"desired": {"models": None}}})
    operator.ask("DELETE", "/v1/models/detector/versions/1")


def test_a_deleted_device_holds_nothing(operator, pushed):
    first = pushed()
    operator.enrolled("d").sync(
        reported={"models": {"detector": {"current": {"version": 1, "digest": first["digest"]}}}}
    )
    operator.ask("DELETE", "/v1/devices/d")
    operator.ask("DELETE", "/v1/models/detector/versions/1")


def test_blobs_go_with_the_last_version_that_needs_them(operator, pushed, hub):
    pushed(seed=1)
    pushed(seed=2)
    model, labels = (file["digest"] for file in version(operator, 1)["manifest"]["variants"][0]["files"])
    operator.ask("DELETE", "/v1/models/detector/versions/1")
    operator.ask("HEAD", f"/v1/blobs/{model}", status=404)
    with pytest.raises(NotFound):
        hub.registry.objects.size(model)
    operator.ask("HEAD", f"/v1/blobs/{labels}")


def test_uploads_that_became_nothing_are_collected_in_the_end(operator, hub, clock):
    digest = operator.upload(b"nobody needs this")
    assert hub.registry.collect() == 0
    clock.now += ORPHAN_SECONDS + 1
    assert hub.registry.collect() == 1
    operator.ask("HEAD", f"/v1/blobs/{digest}", status=404)
    operator.upload(b"nobody needs this")
    operator.ask("HEAD", f"/v1/blobs/{digest}")


def test_bytes_that_a_crash_left_without_a_row_are_swept(operator, pushed, hub, clock, tmp_path):
    pushed()
    before = {digest for digest, _ in hub.registry.objects.stored()}
    path = tmp_path / "stray"
    path.write_bytes(b"stray")
    hub.registry.objects.put(digests.of(b"stray"), path)
    clock.now = time.time()
    assert hub.registry.sweep() == 0  # it may be on its way to a row
    clock.now += ORPHAN_SECONDS + 60
    assert hub.registry.sweep() == 1
    assert {digest for digest, _ in hub.registry.objects.stored()} == before


def test_a_push_of_what_was_not_uploaded_says_so(operator):
    parts = [{"path": "net.onnx", "digest": digests.of(b"never sent")}]
    answer = operator.ask("POST", "/v1/models/m/versions", json={"files": parts}, status=404).json()
    assert "upload it first" in answer["error"]["message"]
    operator.ask("GET", "/v1/models/m", status=404)


def test_tags_and_texts_may_change(operator, pushed):
    pushed(tags={"a": "1", "b": "2"})
    operator.ask("PATCH", "/v1/models/detector/versions/1", json={"tags": {"a": None, "c": "3"}, "description": "x"})
    shown = version(operator, 1)
    assert (shown["tags"], shown["description"]) == ({"b": "2", "c": "3"}, "x")
    operator.ask("PATCH", "/v1/models/detector", json={"title": "Détecteur", "tags": {"t": "é"}})
    model = operator.get("/v1/models/detector")
    assert (model["title"], model["tags"]) == ("Détecteur", {"t": "é"})
    many = {f"k{number}": "v" for number in range(64)}
    operator.ask("PATCH", "/v1/models/detector/versions/1", json={"tags": many}, status=400)


def test_lists_come_in_pages(operator, pushed):
    for seed in range(1, 6):
        pushed(seed=seed)
    for name in ("alpha", "beta"):
        pushed(name=name)
    first = operator.get("/v1/models/detector/versions", params={"limit": 3})
    rest = operator.get("/v1/models/detector/versions", params={"limit": 3, "before": first["next"]})
    assert [one["version"] for one in first["items"] + rest["items"]] == [5, 4, 3, 2, 1]
    found = operator.get("/v1/models", params={"limit": 2})
    assert [one["name"] for one in found["items"]] == ["alpha", "beta"]
    [last] = operator.get("/v1/models", params={"after": found["next"]})["items"]
    assert (last["name"], last["versions"], last["newest"]) == ("detector", 5, 5)


def test_pushes_at_once_get_different_numbers(operator, hub, make_onnx):
    import threading

    from farshore.hub import ingest

    pushes = []
    for seed in range(8):
        files = [{"path": "net.onnx", "digest": operator.upload(make_onnx(seed))}]
        pushes.append(
            ingest.Push(tuple(ingest.PushedFile(**file) for file in files), overrides="[input]\nmean=0\nstd=255\n")
        )
    numbers = []
    threads = [
        threading.Thread(
            target=lambda one=one: numbers.append(
                ingest.push(hub.registry, "m", one, hub.provenance, limit=1 << 30)[0].number
            )
        )
        for one in [*pushes, *pushes]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == sorted([*range(1, 9), *range(1, 9)])
