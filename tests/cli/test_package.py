"""``farshore package iotedge`` against a real hub; what it writes against IoT Edge's rules."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest

from farshore.client import Hub
from farshore.core import digest as digests
from farshore.core import invitation

NAME = r"^[a-zA-Z0-9_-]+$"
MODULE = {
    "type": "object",
    "required": ["type", "status", "restartPolicy", "settings"],
    "additionalProperties": False,
    "properties": {
        "version": {"type": "string"},
        "type": {"const": "docker"},
        "status": {"enum": ["running", "stopped"]},
        "restartPolicy": {"enum": ["never", "on-failure", "on-unhealthy", "always"]},
        "imagePullPolicy": {"enum": ["on-create", "never"]},
        "startupOrder": {"type": "integer", "minimum": 0, "maximum": 4294967295},
        "env": {
            "type": "object",
            "patternProperties": {
                r"^[^+#$\s.]+$": {
                    "type": "object",
                    "required": ["value"],
                    "additionalProperties": False,
                    "properties": {"value": {"type": ["string", "number", "boolean"]}},
                }
            },
            "additionalProperties": False,
        },
        "settings": {
            "type": "object",
            "required": ["image"],
            "additionalProperties": False,
            "properties": {"image": {"type": "string", "minLength": 1}},
            "patternProperties": {r"^createOptions(0[1-7])?$": {"type": "string", "maxLength": 512}},
        },
    },
}
SYSTEM = {**MODULE, "required": ["type", "settings"]}
ROUTE = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "required": ["route"],
            "additionalProperties": False,
            "properties": {
                "route": {"type": "string", "pattern": r"^FROM /\S+( WHERE .+)? INTO (\$upstream|BrokeredEndpoint\(.+\))$"},
                "priority": {"type": "integer", "minimum": 0, "maximum": 9},
                "timeToLiveSecs": {"type": "integer", "minimum": 0, "maximum": 4294967295},
            },
        },
    ]
}  # fmt: skip


def closed(required, **properties):
    return {
        "type": "object",
        "required": list(required),
        "additionalProperties": False,
        "properties": properties,
    }


AGENT = closed(
    ["schemaVersion", "runtime", "systemModules", "modules"],
    schemaVersion={"const": "1.1"},
    runtime=closed(
        ["type", "settings"],
        type={"const": "docker"},
        settings=closed([], minDockerVersion={"type": "string"}, registryCredentials={"type": "object"}),
    ),
    systemModules=closed(
        ["edgeAgent", "edgeHub"],
        edgeAgent=SYSTEM,
        edgeHub={**SYSTEM, "required": ["type", "settings", "status", "restartPolicy"]},
    ),
    modules={"type": "object", "patternProperties": {NAME: MODULE}, "additionalProperties": False},
)
HUB = closed(
    ["schemaVersion", "routes", "storeAndForwardConfiguration"],
    schemaVersion={"const": "1.1"},
    routes={"type": "object", "patternProperties": {r"^[^.$# ]+$": ROUTE}, "additionalProperties": False},
    storeAndForwardConfiguration=closed(["timeToLiveSecs"], timeToLiveSecs={"type": "integer", "minimum": 0}),
)
WHOLE = closed(
    ["modulesContent"],
    modulesContent={
        "type": "object",
        "required": ["$edgeAgent", "$edgeHub"],
        "properties": {
            "$edgeAgent": closed(["properties.desired"], **{"properties.desired": AGENT}),
            "$edgeHub": closed(["properties.desired"], **{"properties.desired": HUB}),
        },
    },
)
"""A deployment manifest of schema 1.1: learn.microsoft.com/azure/iot-edge/module-composition."""

LAYER = closed(
    ["modulesContent"],
    modulesContent=closed(
        ["$edgeAgent", "$edgeHub"],
        **{
            "$edgeAgent": {
                "type": "object",
                "patternProperties": {r"^properties\.desired\.modules\.[a-zA-Z0-9_-]+$": MODULE},
                "additionalProperties": False,
            },
            "$edgeHub": {
                "type": "object",
                "patternProperties": {r"^properties\.desired\.routes\.[^.$# ]+$": ROUTE},
                "additionalProperties": False,
            },
        },
    ),
)
"""A layered deployment: learn.microsoft.com/azure/iot-edge/module-deployment-monitoring#layered-deployment."""


def options_of(module):
    settings = module["settings"]
    return json.loads("".join(settings[key] for key in sorted(settings) if key.startswith("createOptions")))


@pytest.mark.parametrize(
    "more", [(), ("--agent-only",), ("--module", "vision", "--port", "0", "--folder", "/" + "x" * 200)]
)
def test_what_is_written_fits_the_schema(farshore, tmp_path, more):
    out = tmp_path / "edge"
    farshore.ok("package", "iotedge", "--image", "registry.example/farshore:1", "--out", out, *more)
    whole, layer = (json.loads((out / name).read_text()) for name in ("deployment.json", "layer.json"))
    jsonschema.validate(whole, WHOLE)
    jsonschema.validate(layer, LAYER)
    modules = whole["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]
    assert {
        key.removeprefix("properties.desired.modules."): value
        for key, value in layer["modulesContent"]["$edgeAgent"].items()
    } == modules
    assert len(modules) == (1 if "--agent-only" in more else 2)
    for module in modules.values():
        (bind,) = options_of(module)["HostConfig"]["Binds"]
        assert bind.endswith(":/var/lib/farshore")
    for system in whole["modulesContent"]["$edgeAgent"]["properties.desired"]["systemModules"].values():
        options_of(system)


def test_the_schema_tells_wrong_ones(farshore, tmp_path):
    out = tmp_path / "edge"
    farshore.ok("package", "iotedge", "--image", "registry.example/farshore:1", "--out", out)
    whole = json.loads((out / "deployment.json").read_text())
    settings = whole["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["farshore"]["settings"]
    settings["createOptions"] = {"HostConfig": {}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(whole, WHOLE)


def test_models_go_into_the_image_by_their_digests(farshore, classifier, tmp_path):
    model = classifier("packed.onnx")
    farshore.ok("model", "push", "packed", model)
    out = tmp_path / "edge"
    said = json.loads(
        farshore.ok("package", "iotedge", "packed@1", "--image", "r.example/f:1", "--out", out, "--env", "FARSHORE_RATE=64kB", "--json")
    )  # fmt: skip
    estimate = said["estimate"]
    blobs = {path.name: path.read_bytes() for path in (out / "blobs").iterdir()}
    assert all(digests.of(data) == f"sha256:{name}" for name, data in blobs.items())
    assert model.read_bytes() in blobs.values()
    assert estimate["models"] == sum(map(len, blobs.values()))
    assert estimate["total"] == estimate["base"] + estimate["packages"] + estimate["models"]
    assert estimate["packages"] > 50_000_000  # numpy and a runtime at least
    recipe = (out / "Dockerfile").read_text()
    assert "COPY --chmod=0444 blobs/ /opt/farshore/blobs/\nENV FARSHORE_SEED=/opt/farshore/blobs" in recipe
    assert re.search(r'pip install \S+ \S+ "farshore\[azure,onnx\]==', recipe)
    modules = json.loads((out / "deployment.json").read_text())["modulesContent"]["$edgeAgent"]["properties.desired"][
        "modules"
    ]
    assert modules["farshore"]["env"] == {"FARSHORE_RATE": {"value": "64kB"}}
    command = options_of(modules["farshore"])["Cmd"]
    pinned = invitation.parse(command[command.index("--enrol") + 1])
    assert pinned.root == Hub(farshore.hub, farshore.token).info()["root"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--image", "has space"), "REGISTRY/NAME:TAG"),
        (("--image", "x", "--module", "a.b"), "letters"),
        (("--image", "x", "--folder", "relative"), "absolute"),
        (("absent@1", "--image", "x"), "absent"),
    ],
)
def test_wrong_wishes_get_one_line(farshore, tmp_path, arguments, says):
    code, _, err = farshore("package", "iotedge", "--out", tmp_path / "edge", *arguments)
    assert code != 0
    assert says in err
    assert err.count("\n") == 1


def test_nothing_is_written_over(farshore, tmp_path):
    (tmp_path / "mine").write_text("x")
    code, _, err = farshore("package", "iotedge", "--image", "x", "--out", tmp_path)
    assert code == 4
    assert "not empty" in err
