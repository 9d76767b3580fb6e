import io
import json
import pathlib
import zipfile

import pytest

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"
JPEG = b"\xff\xd8\xff\xe0 not looked into any further"
TOML = "[input]\nmean = 0\nstd = 255\n"
LABELS = b"ship\nbuoy\nturbine\n"


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return out.getvalue()


def manifest(operator, name="m", which="latest"):
    return operator.get(f"/v1/models/{name}/versions/{which}")["manifest"]


def refused(operator, files, status=400, **more):
    return operator.push("m", files, status=status, **more)["error"]["message"]


def test_a_zip_is_the_same_as_its_files(operator, make_onnx):
    files = {"net.onnx": make_onnx(), "labels.txt": LABELS, "farshore.toml": TOML.encode()}
    first = operator.push("m", files)
    packed = {f"handover/{name}": data for name, data in files.items()}
    packed |= {"handover/.DS_Store": b"x", "__MACOSX/handover/._net.onnx": b"x"}
    again = operator.push("m", {"handover.zip": zipped(packed)})
    assert again["existing"] is True
    assert again["digest"] == first["digest"]


def test_several_model_files_are_variants_of_one_version(operator, make_onnx):
    operator.push(
        "m", {"a.onnx": make_onnx(1), "b.onnx": make_onnx(2), "labels.txt": LABELS, "NOTES.md": b"x"}, overrides=TOML
    )
    first, second = manifest(operator)["variants"]
    assert first["name"] != second["name"]
    assert [(file["path"], file.get("role", "model")) for file in first["files"]] == [
        ("a.onnx", "model"),
        ("labels.txt", "labels"),
        ("NOTES.md", "other"),
    ]
    assert [file["path"] for file in second["files"]] == ["b.onnx", "labels.txt"]


def test_the_toml_beside_the_model_wins_over_recognition(operator, make_onnx):
    toml = '[input]\nmean = [1, 2, 3]\nstd = 4\ncolour = "BGR"\nresize = "letterbox"\n[requires]\nmemory = 1000\n'
    operator.push("m", {"net.onnx": make_onnx(), "labels.txt": LABELS, "farshore.toml": toml.encode()})
    [variant] = manifest(operator)["variants"]
    assert variant["pipeline"]["input"]["mean"] == [1, 2, 3]
    assert variant["pipeline"]["input"]["colour"] == "BGR"
    assert variant["requires"] == {"memory": 1000}
    operator.push("m", {"net.onnx": make_onnx(), "labels.txt": LABELS, "farshore.toml": toml.encode()}, overrides=TOML)
    assert manifest(operator)["variants"][0]["pipeline"]["input"]["std"] == [255, 255, 255]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[input\n", "farshore.toml"),
        ("[inputt]\n", "input"),
        ("[input]\nmaen = 0\n", "mean"),
        ('[input]\nmean = "x"\n', "mean"),
        ("[[acceptance]]\npicture = 'scene.jpg'\n", "expect"),
        ("[[acceptance]]\npicture = 'scene.jpg'\nexpect = {}\ntolerance = 1\n", "tolerance"),
        ("[[acceptance]]\npicture = 'absent.jpg'\nexpect = {}\n", "absent.jpg"),
        ("[[acceptance]]\npicture = 'scene.jpg'\nexpect = 'absent.json'\n", "absent.json"),
        ("[[acceptance]]\npicture = 'labels.txt'\nexpect = {}\n", "JPEG"),
        ("[[acceptance]]\npicture = 'scene.jpg'\nexpect = 'labels.txt'\n", "labels.txt"),
        ("[[acceptance]]\npicture = 'scene.jpg'\nexpect = {}\nscore = 2\n", "score"),
        ("[labels]\nfile = 'absent.txt'\n", "absent.txt"),
    ],
)
def test_what_is_wrong_with_the_toml_is_said(operator, make_onnx, toml, said):
    files = {"net.onnx": make_onnx(), "labels.txt": LABELS, "scene.jpg": JPEG}
    text = toml if toml.startswith("[input") else TOML + toml
    assert said in refused(operator, files, overrides=text)


def test_acceptance_cases_from_toml_and_body(operator, make_onnx):
    answers = {"detections": [{"class": "ship", "score": 0.9, "box": [1, 2, 3, 4]}]}
    several = {"answers": {"two.png": [{"class": "buoy", "score": 0.8, "box": [0, 0, 1, 1]}]}}
    files = {
        "net.onnx": make_onnx(),
        "labels.txt": LABELS,
        "one.jpg": JPEG,
        "two.png": b"\x89PNG\r\n\x1a\nx",
        "one.json": json.dumps(answers).encode(),
        "all.json": json.dumps(several).encode(),
    }
    toml = TOML + "[[acceptance]]\npicture = 'one.jpg'\nexpect = 'one.json'\nscore = 0.2\nname = 'harbour'\n"
    operator.push("m", files, overrides=toml, acceptance=[{"picture": "two.png", "expect": "all.json", "iou": 0.7}])
    one, two = manifest(operator)["acceptance"]
    assert (one["name"], one["score"], one["expect"]) == ("harbour", 0.2, answers)
    assert one["picture"]["role"] == "picture"
    assert (two["name"], two["iou"], two["expect"]) == ("two.png", 0.7, {"detections": several["answers"]["two.png"]})
    roles = {file["path"]: file.get("role", "model") for file in manifest(operator)["variants"][0]["files"]}
    assert roles == {"net.onnx": "model", "labels.txt": "labels", "one.json": "other", "all.json": "other"}
    got = operator.ask("GET", "/v1/models/m/versions/1/files/one.jpg")
    assert got.content == JPEG


def test_what_cannot_be_told_is_asked_for(operator, make_onnx):
    message = refused(operator, {"net.onnx": make_onnx(classes=3), "labels.txt": b"a\nb\nc\nd\ne\n"}, overrides=TOML)
    assert message.startswith("net.onnx: ")
    assert "labels.skip" in message


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"labels.txt": b"a\n"}, "no model among 'labels.txt'"),
        ({"net.onnx": b"this is no model"}, "net.onnx: "),
        ({"net.onnx": b""}, "net.onnx: the file is empty"),
        ({"net.pkl": b"\x80\x04."}, "no model"),
        ({"models.zip": zipped({"a.txt": b"x"})}, "no model"),
        ({"models.zip": b"PK\x03\x04 broken"}, "ZIP"),
        ({"models.zip": zipped({"a/net.onnx": b"x", "b/net.onnx": b"y"})}, "twice"),
    ],
)
def test_what_is_no_model_is_refused(operator, files, said):
    assert said in refused(operator, files)
    operator.ask("GET", "/v1/models/m", status=404)


def test_properties_have_limits(operator, make_onnx):
    files = {"net.onnx": make_onnx()}
    deep = json.loads("[" * 200 + "]" * 200)
    assert "deep" in refused(operator, files, properties={"a": deep}, overrides=TOML)
    assert "65536" in refused(operator, files, status=413, properties={"a": "x" * 70000}, overrides=TOML)


ASSETS = pathlib.Path(__file__).parents[2] / "src" / "farshore" / "cli" / "demo_assets"


@pytest.mark.parametrize("folder", ["v1", "v2", "v3"])
def test_the_shipped_detectors(operator, folder):
    operator.push("demo", {path.name: path.read_bytes() for path in (ASSETS / folder).rglob("*") if path.is_file()})
    found = manifest(operator, "demo")
    assert {variant["runtime"] for variant in found["variants"]} == {"onnxruntime", "litert"}
    assert {variant["pipeline"]["task"] for variant in found["variants"]} == {"detection"}
    assert all(case["expect"]["detections"] for case in found["acceptance"])


@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="../shared/data is not here")
def test_the_ssd_mobilenet_zip_as_it_is_handed_over(operator):
    data = (SHARED / "models" / "ssd_mobilenet_v1_coco.zip").read_bytes()
    operator.push("ssd", {"ssd_mobilenet_v1_coco.zip": data})
    [variant] = manifest(operator, "ssd")["variants"]
    pipeline = variant["pipeline"]
    assert (variant["runtime"], pipeline["task"], pipeline["decoder"]) == ("litert", "detection", "tflite-ssd")
    assert (pipeline["input"]["width"], pipeline["labels"]) == (300, {"path": "labelmap.txt", "skip": 1})


@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="../shared/data is not here")
def test_labels_packed_in_the_model_become_a_file(operator):
    with zipfile.ZipFile(SHARED / "models" / "ssd_mobilenet_v1_coco.zip") as opened:
        [name] = [name for name in opened.namelist() if name.endswith(".tflite")]
        data = opened.read(name)
    operator.push("ssd", {name: data})
    labels = manifest(operator, "ssd")["variants"][0]["pipeline"]["labels"]
    text = operator.ask("GET", f"/v1/models/ssd/versions/1/files/{labels['path']}").text
    assert "cat" in text.splitlines()
