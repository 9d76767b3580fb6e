"""No change without a line in the audit log."""

import pytest


def lines(operator):
    return operator.get("/v1/audit", params={"limit": 1000, "after": 0})


@pytest.fixture
def noted(operator):
    """Ask for a change; the lines that it left."""

    def change(method, path, **more):
        before = len(lines(operator))
        operator.ask(method, path, **more)
        return [
            (line["action"], line["subject"], bool(line["before"]), bool(line["after"]))
            for line in lines(operator)[before:]
        ]

    return change


def test_changes_with_who_what_and_digests(operator, noted, pushed):
    operator.enrolled("d")
    assert noted("PATCH", "/v1/devices/d/twin", json={"tags": {"a": 1}}) == [("twin.desired", "d", True, True)]
    assert noted("POST", "/v1/devices/d/revoke", json={}) == [("device.revoked", "d", True, True)]
    assert noted("DELETE", "/v1/devices/d") == [("device.removed", "d", True, False)]
    pushed()
    assert noted("PUT", "/v1/models/detector/aliases/champion", json={"version": 1}) == [
        ("alias.set", "detector@champion", False, True)
    ]
    body = {"selector": "*", "model": "detector"}
    assert noted("PUT", "/v1/deployments/p", json=body) == [("deployment.created", "p", False, True)]
    assert noted("PUT", "/v1/deployments/p", json={**body, "priority": 2}) == [("deployment.changed", "p", True, True)]
    assert noted("DELETE", "/v1/deployments/p") == [("deployment.removed", "p", True, False)]
    assert noted("PATCH", "/v1/models/detector", json={"title": "x"}) == [("model.changed", "detector", True, True)]
    for line in lines(operator):
        assert (line["who"] == "development" and line["via"].startswith("token:")) or line["who"] == "device:d"


def test_what_has_no_word_of_its_own_is_noted_by_its_address(noted):
    assert noted("PUT", "/v1/links/satellite", json={"price": 9.0}) == [
        ("PUT /v1/links/{link}", "/v1/links/satellite", False, False)
    ]
    assert noted("DELETE", "/v1/links/satellite") == [("DELETE /v1/links/{link}", "/v1/links/satellite", False, False)]


def test_what_changes_nothing_leaves_no_line(operator, noted):
    operator.enrolled("d")
    assert noted("GET", "/v1/devices/d/twin") == []
    assert noted("PATCH", "/v1/devices/absent/twin", json={"tags": {}}, status=404) == []
    assert noted("POST", "/v1/tokens", json={"name": ""}, status=400) == []


def test_what_devices_report_is_no_line(operator):
    device = operator.enrolled("d")
    before = len(lines(operator))
    device.sync(reported={"n": 1})
    assert len(lines(operator)) == before


def test_reading_is_not_written_down_as_the_readers_doing(operator, pushed, noted):
    """A twin is resolved when it is read; that is the deployment's doing, and was noted with it."""
    operator.enrolled("d")
    pushed()
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "*", "model": "detector"})
    assert noted("GET", "/v1/devices/d/twin") == []
