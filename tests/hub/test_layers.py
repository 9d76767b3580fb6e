"""What devices heed: links, layers, and an operator's hand."""

import pytest


def told(device):
    return device.sync(seen=0)["desired"].get("settings")


def put(operator, name, where, settings, priority=0, status=200):
    body = {"selector": where, "settings": settings, "priority": priority}
    return operator.ask("PUT", f"/v1/settings/{name}", json=body, status=status).json()


def test_the_link_then_layers_then_the_hand(operator):
    device = operator.enrolled("d", tags={"link": "iridium", "site": "oslo"})
    assert told(device) is None
    operator.ask("PUT", "/v1/links/iridium", json={"rate": 16000, "windows": ["22:00-06:00"], "day": 5_000_000})
    assert told(device) == {"link": "iridium", "rate": 16000, "windows": ["22:00-06:00"], "day": 5_000_000}
    put(operator, "oslo", "tags.site = 'oslo'", {"rate": 8000, "month": 10**8}, priority=5)
    put(operator, "all", "*", {"rate": 4000, "windows": []})
    assert told(device) == {"link": "iridium", "rate": 8000, "windows": [], "day": 5_000_000, "month": 10**8}
    operator.ask("PATCH", "/v1/devices/d/twin", json={"properties": {"desired": {"settings": {"rate": 100}}}})
    assert told(device)["rate"] == 100
    operator.ask("PATCH", "/v1/devices/d/twin", json={"properties": {"desired": {"settings": None}}})
    operator.ask("DELETE", "/v1/settings/oslo", status=204)
    operator.ask("DELETE", "/v1/settings/oslo", status=404)
    operator.ask("DELETE", "/v1/links/iridium", status=204)
    assert told(device) == {"rate": 4000, "windows": []}
    assert [one["id"] for one in operator.get("/v1/settings")] == ["all"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"colour": "red"}, "no setting 'colour': use link, rate"),
        ({"rate": -1}, "rate"),
        ({"windows": ["late"]}, "windows"),
        ({"windows": ["22:00-22:00"]}, "empty"),
        ({"day": "much"}, "day"),
    ],
)
def test_what_no_device_would_understand_is_refused(operator, values, said):
    assert said in put(operator, "all", "*", values, status=400)["error"]["message"]
    hand = {"properties": {"desired": {"settings": values}}}
    operator.enrolled("d")
    if "colour" not in values:  # by hand, also what later devices may know
        assert said in operator.ask("PATCH", "/v1/devices/d/twin", json=hand, status=400).json()["error"]["message"]


def test_a_links_window_is_checked(operator):
    operator.ask("PUT", "/v1/links/iridium", json={"windows": ["06:00-06:00"]}, status=400)
