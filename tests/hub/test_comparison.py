def test_what_differs_between_versions(operator, pushed):
    pushed(seed=1, description="one")
    pushed(seed=2, description="two")
    found = operator.get("/v1/models/detector/diff", params={"from": "1", "to": "2"})
    assert (found["before"], found["after"]) == (1, 2)
    assert {"what": "description", "before": "one", "after": "two"} in found["changes"]
    [variant] = found["variants"]
    assert variant["kind"] == "changed"
    [tensor] = variant["tensors"]
    assert (tensor["name"], tensor["kind"], tensor["before"]) == ("weights", "changed", "float32 [3, 3]")
    assert variant["bytes"]["changed"] == 36
    assert variant["rest_equal"] is True


def test_equal_models_and_another_pipeline(operator, pushed):
    pushed()
    pushed(overrides="[input]\nmean = 0\nstd = 255\n")
    [variant] = operator.get("/v1/models/detector/diff", params={"from": "1", "to": "2"})["variants"]
    assert variant["kind"] == "changed"
    assert [change["what"] for change in variant["changes"]] == ["pipeline"]
    [same] = operator.get("/v1/models/detector/diff", params={"from": "1", "to": "1"})["variants"]
    assert (same["kind"], same["changes"]) == ("equal", [])
