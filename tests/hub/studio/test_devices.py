"""Pages of devices."""

from farshore.hub.studio import devices

DIGEST = "sha256:" + "1" * 64
EVIL = "<script>alert(1)</script>"


def test_a_selectors_fault_is_pointed_at():
    found = devices.pointed("tags.site = oslo", "selector, column 13: unknown property 'oslo'")
    assert (found["before"], found["at"], found["after"]) == ("tags.site = ", "o", "slo")
    end = devices.pointed("tags.site =", "selector, column 12: expected a value, found the end")
    assert (end["before"], end["at"], end["after"]) == ("tags.site =", "", "")
    assert devices.pointed("x" * 5000, "selector: 5000 characters")["before"] == ""


def test_what_a_device_runs_in_rows():
    one = {
        "desired": {
            "detector": {"version": 2, "digest": "sha256:" + "2" * 64},
            "a%2Eb": {"version": 1, "digest": DIGEST},
        },
        "reported": {
            "detector": {
                "current": {"version": 1, "digest": DIGEST, "variant": "onnx-fp32"},
                "target": {"digest": "sha256:" + "2" * 64, "version": 2, "state": "downloading", "done": 5, "size": 10},
            }
        },
    }
    dotted, detector = devices.running(one)
    assert (dotted["model"], dotted["current"], dotted["settled"]) == ("a.b", None, False)
    assert (detector["current"], detector["desired"], detector["state"], detector["settled"]) == (
        1,
        2,
        "downloading",
        False,
    )
    assert devices.running({"reported": {"detector": 5}}) == []


def test_pages_say_what_is_there_and_escape_it(operator, visitor, pushed):
    version = pushed()
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector"})
    device = operator.enrolled("d1", tags={"note": EVIL})
    device.sync()
    current = {"version": 1, "digest": version["digest"]}
    device.sync(reported={"models": {"detector": {"current": current}}, "evil": EVIL})
    for page in ("", "/d1", "/d1/twin", "/d1/timeline"):
        text = visitor.text(f"/studio/devices{page}")
        assert EVIL not in text
        assert "d1" in text
    assert "d1 runs detector@1" in visitor.text("/studio/devices/d1")
    assert "Enrolled" in visitor.text("/studio/devices/d1/timeline")


def test_a_wrong_selector_is_shown_with_the_list(visitor):
    text = visitor.text("/studio/devices?where=tags.site+%3D+%3Cb%3E", status=400)
    assert "column 13" in text
    assert "<b>" not in text.partition("fault")[2]
