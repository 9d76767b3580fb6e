"""What devices fetched, in bytes and money."""

import pytest


@pytest.fixture
def two(operator, pushed):
    digests = {n: pushed(seed=n)["digest"] for n in (1, 2)}
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    operator.ask("PUT", "/v1/links/iridium", json={"price": 6.5, "currency": "EUR", "rate": 16000})
    return digests


def say(device, digests, version, fetched):
    current = {"version": version, "digest": digests[version]}
    device.sync(reported={"models": {"detector": {"current": current, "fetched": fetched}}})


def test_reports_become_entries_once(operator, two, clock):
    device = operator.enrolled("d", tags={"link": "iridium"})
    device.sync()
    say(device, two, 1, 1_000_000)
    say(device, two, 1, 1_000_000)  # said again after a lost answer
    clock.now += 86400
    operator.ask("POST", "/v1/rollouts", json={"model": "detector@2", "deployment": "prod"})
    device.sync()
    say(device, two, 2, 1_400_000)
    rows = operator.get("/v1/ledger?by=day,version,rollout,link")
    assert [(row["version"], row["rollout"], row["link"], row["bytes"], row["money"]) for row in rows] == [
        (1, "", "iridium", 1_000_000, 6.5),
        (2, "prod-2", "iridium", 400_000, 2.6),
    ]
    assert rows[0]["day"] < rows[1]["day"]
    [total] = operator.get("/v1/ledger?by=device")
    assert (total["device"], total["bytes"], total["currency"]) == ("d", 1_400_000, "EUR")
    assert operator.get("/v1/ledger?by=version&rollout=prod-2")[0]["bytes"] == 400_000
    assert operator.get(f"/v1/ledger?by=version&since={rows[1]['day']}")[0]["version"] == 2
    assert operator.get("/v1/ledger?by=version&until=2000-01-01") == []


def test_a_device_set_up_anew_counts_from_nothing(operator, two):
    device = operator.enrolled("d")
    device.sync()
    say(device, two, 1, 900)
    say(device, two, 1, 50)
    assert operator.get("/v1/ledger?by=device")[0]["bytes"] == 950


def counted(device, digests, fetched, series, number, version=1):
    current = {"version": version, "digest": digests[version]}
    said = {"models": {"detector": {"current": current, "fetched": fetched}}}
    return device.sync(reported=said, series=series, number=number)


def test_a_report_that_comes_late_or_again_is_no_news(operator, two):
    device = operator.enrolled("d")
    device.sync()
    for fetched, series, number in ((100, "a", 1), (200, "a", 2), (100, "a", 1), (200, "a", 2), (300, "a", 3)):
        counted(device, two, fetched, series, number)
    assert operator.get("/v1/ledger?by=device")[0]["bytes"] == 300
    counted(device, two, 400, "b", 1)  # the agent was started again
    counted(device, two, 350, "a", 4)  # a report of before, on a long way
    twin = operator.get("/v1/devices/d/twin")
    assert twin["properties"]["reported"]["models"]["detector"]["fetched"] == 400
    counted(device, two, 50, "b", 2)  # it lost its notes
    assert operator.get("/v1/ledger?by=device")[0]["bytes"] == 450


def test_who_does_not_count_his_reports_is_heard_as_before(operator, two):
    device = operator.enrolled("d")
    counted(device, two, 100, "a", 5)
    say(device, two, 1, 150)
    assert operator.get("/v1/ledger?by=device")[0]["bytes"] == 150


def test_the_ledger_outlives_devices_and_links(operator, two):
    device = operator.enrolled("d", tags={"link": "iridium"})
    device.sync()
    say(device, two, 1, 1_000_000)
    operator.ask("DELETE", "/v1/devices/d")
    operator.ask("DELETE", "/v1/links/iridium")
    operator.ask("DELETE", "/v1/links/iridium", status=404)
    assert operator.get("/v1/ledger?by=link") == [
        {"bytes": 1_000_000, "money": 6.5, "currency": "EUR", "link": "iridium"}
    ]


def test_a_price_that_comes_during_the_day_has_its_currency(operator, two):
    device = operator.enrolled("d", tags={"link": "lte"})
    device.sync()
    say(device, two, 1, 1_000_000)
    operator.ask("PUT", "/v1/links/lte", json={"price": 2.0, "currency": "EUR"})
    say(device, two, 1, 2_000_000)
    [found] = operator.get("/v1/ledger?by=link")
    assert found == {"bytes": 2_000_000, "money": 2.0, "currency": "EUR", "link": "lte"}


def test_a_version_is_a_number(operator):
    said = operator.ask("GET", "/v1/ledger?version=two", status=400).json()
    assert "version 'two': use its number" in said["error"]["message"]


def test_wrong_columns_are_named(operator):
    said = operator.ask("GET", "/v1/ledger?by=colour", status=400).json()
    assert "no 'colour': use month, day, device" in said["error"]["message"]
    operator.ask("PUT", "/v1/links/Bad Name", json={}, status=400)


def test_sums_by_month(operator, two, clock):
    clock.now += 8 * 86400
    device = operator.enrolled("d")
    device.sync()
    say(device, two, 1, 100)
    clock.now += 4 * 86400
    say(device, two, 1, 350)
    rows = operator.get("/v1/ledger?by=month,model")
    assert [(row["month"], row["bytes"]) for row in rows] == [("2026-09", 100), ("2026-10", 250)]
    [only] = operator.get("/v1/ledger?by=model&month=2026-10")
    assert only["bytes"] == 250


def test_against_whole_files(operator, two):
    content = operator.get("/v1/models/detector/versions/2")["manifest"]
    size = sum(file["size"] for file in content["variants"][0]["files"])
    for name in ("d", "e"):
        device = operator.enrolled(name)
        device.sync()
        say(device, two, 2, 100)
    assert operator.get("/v1/savings") == [
        {"model": "detector", "version": 2, "devices": 2, "bytes": 200, "whole": 2 * size}
    ]
    assert operator.get("/v1/savings?until=2000-01-01") == []


def test_more_than_whole_saves_nothing(operator, two):
    device = operator.enrolled("d")
    device.sync()
    say(device, two, 1, 10_000_000)
    [found] = operator.get("/v1/savings")
    assert found["whole"] == found["bytes"] == 10_000_000


def test_comma_separated_values(operator, two):
    device = operator.enrolled("d", tags={"link": "=cmd()"})
    device.sync()
    say(device, two, 1, 100)
    answer = operator.ask("GET", "/v1/ledger?by=model,link&as=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text.splitlines() == ["model,link,bytes,money,currency", "detector,'=cmd(),100,0.0,"]
