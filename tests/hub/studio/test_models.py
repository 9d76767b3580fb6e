"""Pages of models and versions, of a real registry."""

import re

import pytest

from farshore.hub.studio.graphics import Node, lineage
from farshore.hub.studio.models import metrics

HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>{{7*7}}"""


@pytest.fixture
def three(pushed):
    pushed(seed=1, alias="champion", properties={"map50": 0.41})
    pushed(seed=2, parent="detector@1", operation="fine-tuned", properties={"map50": 0.61}, tags={"stage": "test"})
    pushed(seed=3, parent="detector@1", operation="quantized")


def test_the_list_is_searched_and_paged(visitor, pushed, monkeypatch):
    monkeypatch.setattr("farshore.hub.studio.models.PAGE", 2)
    for name in ("alpha", "beta", "gamma-beta"):
        pushed(name)
    first = visitor.text("/studio/models")
    assert "alpha" in first and "gamma-beta" not in first
    [more] = re.findall(r'href="\?([^"]*after=[^"]*)"', first)
    assert "gamma-beta" in visitor.text(f"/studio/models?{more}")
    found = visitor.text("/studio/models?search=BETA")
    assert "/studio/models/gamma-beta" in found and "/studio/models/alpha" not in found
    assert "/studio/models/" not in visitor.text("/studio/models?search=%25").replace("/studio/models?", "")


def test_a_model_shows_versions_aliases_and_where_they_came_from(visitor, three):
    text = visitor.text("/studio/models/detector")
    for number in (1, 2, 3):
        assert f'href="/studio/models/detector/versions/{number}"' in text
    assert "champion" in text and "fine-tuned" in text and text.count('class="line"') == 2


def test_a_version_shows_what_the_manifest_says(visitor, three):
    text = visitor.text("/studio/models/detector/versions/2")
    for word in ("net.onnx", "onnxruntime", "map50", "0.61", "stage", "detector@1", "fine-tuned", "float32"):
        assert word in text, word
    [address] = re.findall(r'href="(/v1/[^"]*net\.onnx)"', text)
    assert visitor.client.get(address).status_code == 200
    assert "detector@1" in visitor.text("/studio/models/detector/versions/champion")


def test_where_each_version_runs(visitor, operator, three):
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@2"})
    one = operator.enrolled("buoy-12")
    digest = one.sync()["desired"]["models"]["detector"]["digest"]
    one.sync(reported={"models": {"detector": {"current": {"version": 2, "digest": digest}}}})
    operator.enrolled("buoy-13").sync()
    found = operator.get("/v1/models/detector/versions")["items"]
    assert [one.get("devices") for one in found] == [None, {"current": 1, "desired": 2}, None]
    assert 'href="/studio/devices?model=detector&amp;version=2">1<' in visitor.text("/studio/models/detector")
    text = visitor.text("/studio/models/detector/versions/2")
    assert "1 device<" in text and "2 devices<" in text


def test_two_versions_side_by_side(visitor, three):
    text = visitor.text("/studio/models/detector/compare?from=1&to=2")
    assert "+0.2" in text and "tag stage" in text and "parent" in text and "weights" in text
    assert '<option value="3" selected' in visitor.text("/studio/models/detector/compare")


def test_one_version_has_nothing_to_compare_with(visitor, pushed):
    pushed()
    assert "one version alone" in visitor.text("/studio/models/detector/compare", status=404)


@pytest.mark.parametrize("path", ["nothing", "nothing/versions/1", "detector/versions/9", "..%2f..", "%3Cscript%3E"])
def test_what_is_not_there_is_said(visitor, three, path):
    answer = visitor.client.get(f"/studio/models/{path}")
    assert answer.status_code in {400, 404} and "<script>" not in answer.text and 'role="alert"' in answer.text


def test_hostile_words_stay_words(visitor, pushed, operator):
    pushed(
        description=HOSTILE, tags={HOSTILE: HOSTILE}, properties={HOSTILE: HOSTILE}, run=HOSTILE, operation="trained"
    )
    pushed(seed=2, description=HOSTILE, parent="detector@1", dataset=HOSTILE)
    operator.ask(
        "PATCH", "/v1/models/detector", json={"title": HOSTILE, "description": HOSTILE, "tags": {HOSTILE: HOSTILE}}
    )
    for path in ("", "/detector", "/detector/versions/1", "/detector/compare", "?search=" + "%3Cscript%3E%22"):
        text = visitor.text(f"/studio/models{path}")
        assert not re.search(r"<script(?![^>]*\bsrc=\"/studio/static)|<img src=x", text), path
        assert "49" not in re.sub(r"[\w-]{9,}|\d{4}-\d\d-\d\d[^<]*", "", text) or "{{7*7}}" in text
        assert HOSTILE not in text


def test_metrics_are_compared_as_numbers():
    found = {
        one["name"]: one
        for one in metrics({"a": 1, "b": True, "c": [1], "d": 2}, {"a": 1.5, "b": False, "e": "x", "d": 2})
    }
    assert found["a"]["change"] == "+0.5"
    assert (found["b"]["change"], found["b"]["after"]) == ("", "false")
    assert (found["c"]["before"], found["c"]["after"]) == ("[1]", "")
    assert found["d"]["same"] and found["d"]["change"] == "+0"


def test_lines_of_descent_never_share_a_lane_where_they_overlap():
    parents = {9: 3, 8: 7, 7: 2, 6: 3, 5: 1, 4: 3, 3: 1, 2: 1, 1: 0}
    nodes = [Node(f"m@{n}", str(n), "<b>", f"/{n}", f"m@{parents[n]}") for n in parents]
    text = str(lineage(nodes, '"x"'))
    assert text.count('class="line"') == 8 and "<b>" not in text and '""x""' not in text
    spots = re.findall(r'<circle class="near" cx="(\d+)" cy="(\d+)"', text)
    assert len(set(spots)) == len(nodes)
