"""Twins and syncs, through the API and, where figures count, at the fleet itself."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from farshore.core.wire import SyncRequest


def twin(operator, device="d"):
    return operator.get(f"/v1/devices/{device}/twin")


def desired(operator, **values):
    return operator.ask("PATCH", "/v1/devices/d/twin", json={"properties": {"desired": values}}).json()


@pytest.fixture
def device(operator):
    return operator.enrolled("d", tags={"site": "oslo"})


@pytest.fixture
def statements(hub):
    """Every statement that the database is sent from now on, beside BEGIN and COMMIT."""
    sent = []

    def note(_connection, _cursor, sql, *_):
        if not sql.startswith("BEGIN"):
            sent.append(sql)

    event.listen(hub.database.engine, "before_cursor_execute", note)
    return sent


def test_a_new_twin_as_iot_hub_has_it(operator, device):
    assert twin(operator) == {
        "deviceId": "d",
        "etag": "AAAAAAAAAAE=",
        "version": 1,
        "tags": {"site": "oslo"},
        "properties": {
            "desired": {
                "$version": 1,
                "$metadata": {"$lastUpdated": "2026-09-21T14:13:20.0000000Z", "$lastUpdatedVersion": 1},
            },
            "reported": {"$version": 1, "$metadata": {"$lastUpdated": "2026-09-21T14:13:20.0000000Z"}},
        },
    }


def test_an_idle_sync_is_one_read_and_no_write(hub, device, statements):
    device.sync(seen=1)  # compiles the deployments once
    statements.clear()
    for _ in range(3):
        device.sync(seen=1)
    assert len(statements) == 3
    assert all(sql.startswith("SELECT") for sql in statements)
    with hub.database.reading() as tx:
        plan = tx.exec_driver_sql("EXPLAIN QUERY PLAN " + statements[0], ("x", "rules")).all()
    assert not any("SCAN" in row[3] for row in plan), plan


def test_an_idle_sync_stays_one_read_with_deployments(operator, pushed, device, statements):
    pushed()
    for number in range(20):
        operator.ask("PUT", f"/v1/deployments/p{number}", json={"selector": f"tags.n = {number}", "model": "detector"})
    device.sync(seen=1)
    before = len(statements)
    device.sync(seen=1)
    assert len(statements) == before + 1


def test_desired_comes_when_it_is_not_what_was_seen(operator, device):
    assert device.sync()["desired"] == {"$version": 1}
    assert "desired" not in device.sync(seen=1)
    desired(operator, rate=5)
    assert device.sync(seen=1)["desired"] == {"$version": 2, "rate": 5}
    assert device.sync(seen=7)["desired"] == {"$version": 8, "rate": 5}  # a hub restored from a backup goes on above
    assert "desired" not in device.sync(seen=8)


def test_reports_merge_and_repeating_one_costs_nothing(operator, device, statements):
    device.sync(seen=1, reported={"a": {"b": 1, "c": 2}})
    device.sync(seen=1, reported={"a": {"b": None, "d": 3}})
    reported = twin(operator)["properties"]["reported"]
    assert reported["a"] == {"c": 2, "d": 3}
    assert reported["$version"] == 3
    before = len(statements)
    device.sync(seen=1, reported={"a": {"d": 3}})
    assert not [sql for sql in statements[before:] if not sql.startswith("SELECT")]
    assert twin(operator)["properties"]["reported"]["$version"] == 3


@pytest.mark.parametrize(
    "report",
    [
        {"a b": 1},
        {"a": [None]},
        {"a": "x" * 5000},
        {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"j": {"k": 1}}}}}}}}}}},
        {f"k{number}": "x" * 4000 for number in range(9)},
        {"models": {"m": {"current": "yes"}}},
        {"models": {"m": {"current": {"version": 1, "digest": "sha256:12"}}}},
        {"models": 3},
    ],
)
def test_a_report_that_breaks_a_rule_changes_nothing(operator, device, report):
    status = 413 if len(report) == 9 else 400
    device.sync(status=status, reported=report)
    assert twin(operator)["properties"]["reported"]["$version"] == 1


def test_patch_and_put(operator, device):
    first = desired(operator, a={"b": 1, "c": 2}, d=[1])
    assert first["version"] == 2
    assert desired(operator, a={"b": None})["properties"]["desired"]["a"] == {"c": 2}
    document = {"tags": {"x": 1}, "properties": {"desired": {"e": True}, "reported": {"ignored": 1}}}
    put = operator.ask("PUT", "/v1/devices/d/twin", json=document).json()
    assert put["tags"] == {"x": 1}
    assert {key: value for key, value in put["properties"]["desired"].items() if key[0] != "$"} == {"e": True}
    assert put["properties"]["desired"]["$version"] == 4
    assert "ignored" not in put["properties"]["reported"]
    operator.ask("PUT", "/v1/devices/d/twin", json={"properties": {"desired": {"e": None}}}, status=400)


def test_a_twin_may_be_sent_back_as_it_was_read(operator, device):
    desired(operator, a=1)
    back = operator.ask("PATCH", "/v1/devices/d/twin", json=twin(operator)).json()
    assert back["properties"]["desired"]["a"] == 1
    assert back["properties"]["desired"]["$version"] == 3


@pytest.mark.parametrize("form", ['"{}"', "{}", "*", '"*"'])
def test_etags_in_every_form(operator, device, form):
    match = {"If-Match": form.format(twin(operator)["etag"])}
    changed = operator.ask("PATCH", "/v1/devices/d/twin", json={"tags": {"x": 1}}, headers=match)
    assert changed.headers["etag"] == f'"{changed.json()["etag"]}"'


def test_a_stale_etag_is_refused(operator, device):
    old = {"If-Match": twin(operator)["etag"]}
    desired(operator, a=1)
    answer = operator.ask("PATCH", "/v1/devices/d/twin", json={"tags": {"x": 1}}, headers=old, status=412)
    assert answer.json()["error"]["code"] == "conflict"
    device.sync(reported={"x": 1})  # reports do not change the etag
    operator.ask("PATCH", "/v1/devices/d/twin", json={}, headers={"If-Match": twin(operator)["etag"]})


def test_deployments_and_an_operators_hand(operator, pushed, device):
    one, two = pushed(seed=1), pushed(seed=2)
    put = lambda key, **more: operator.ask("PUT", f"/v1/deployments/{key}", json={"selector": "*", **more})  # noqa: E731
    put("base", model="detector@1")
    assert device.sync(seen=1)["desired"]["models"]["detector"]["version"] == 1
    put("oslo", model="detector@2", selector="tags.site = 'oslo'", priority=5)
    assert device.sync(seen=2)["desired"]["models"]["detector"]["digest"] == two["digest"]
    pinned = {"models": {"detector": {"version": 1, "digest": one["digest"]}}}
    assert desired(operator, **pinned)["properties"]["desired"]["$version"] == 4
    assert device.sync(seen=3)["desired"]["models"]["detector"]["version"] == 1
    desired(operator, models={"detector": None})
    assert device.sync(seen=4)["desired"]["models"]["detector"]["version"] == 2
    operator.ask("PATCH", "/v1/devices/d/twin", json={"tags": {"site": "bergen"}})
    assert device.sync(seen=5)["desired"]["models"]["detector"]["version"] == 1
    operator.ask("DELETE", "/v1/deployments/base")
    assert device.sync(seen=6)["desired"] == {"$version": 7}


def test_a_device_that_tries_again_still_follows_its_deployment(operator, pushed, device):
    one, two = pushed(seed=1), pushed(seed=2)
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "*", "model": "detector@1"})
    desired(operator, models={"detector": {"retry": 1}})
    again = {"version": 1, "digest": one["digest"], "retry": 1}
    assert device.sync(seen=1)["desired"]["models"]["detector"] == again
    device.manifest(one["digest"])
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "*", "model": "detector@2"})
    moved = device.sync(seen=2)["desired"]
    assert moved["models"]["detector"]["digest"] == two["digest"]
    operator.ask("DELETE", "/v1/deployments/p")
    assert device.sync(seen=moved["$version"])["desired"] == {"$version": moved["$version"] + 1}


def test_a_deployment_writes_nothing_for_devices_it_does_not_change(operator, pushed, device, statements):
    pushed()
    before = len(statements)
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "tags.site = 'bergen'", "model": "detector"})
    made = [sql for sql in statements[before:] if not sql.startswith("SELECT")]
    assert not any("twins" in sql or "devices" in sql for sql in made)
    before = len(statements)
    assert "desired" not in device.sync(seen=1)
    assert all(sql.startswith("SELECT") for sql in statements[before:])


@pytest.mark.parametrize(
    "models",
    [
        {"detector": {"version": 9, "digest": "sha256:" + "0" * 64}},
        {"detector": {"version": 1}},
        {"detector": {"retry": -1}},
        {"detector": {"retry": "again"}},
        {"detector": "detector@1"},
        [],
    ],
)
def test_an_operator_cannot_name_what_does_not_exist(operator, pushed, device, models):
    pushed()
    operator.ask("PATCH", "/v1/devices/d/twin", json={"properties": {"desired": {"models": models}}}, status=400)
    assert twin(operator)["version"] == 1


def test_the_digest_of_another_model_is_refused(operator, pushed, device):
    other = pushed("other")
    models = {"detector": {"version": 1, "digest": other["digest"]}}
    operator.ask("PATCH", "/v1/devices/d/twin", json={"properties": {"desired": {"models": models}}}, status=400)


def test_a_full_desired_section_stays_as_it_was(operator, pushed, device, caplog):
    pushed()
    full = {f"k{number}": "x" * 4090 for number in range(8)}
    desired(operator, **full)
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "*", "model": "detector"})
    assert device.sync()["desired"] == {**full, "$version": 2}
    assert "too large" in caplog.text


def test_seen_is_kept_in_memory_and_flushed_together(operator, device, hub, clock, statements):
    clock.now += 100
    device.sync(seen=1)
    assert operator.get("/v1/devices/d")["seen"] == "2026-09-21T14:15:00.0000000Z"
    before = len(statements)
    hub.fleet.flush_seen()
    hub.fleet.flush_seen()
    assert len(statements) == before + 1
    assert operator.get("/v1/devices/d")["seen"] == "2026-09-21T14:15:00.0000000Z"


def test_devices_by_selector_and_page(operator):
    for number in range(7):
        operator.enrolled(f"d{number}", tags={"site": "oslo" if number % 2 else "bergen"})
    found = operator.get("/v1/devices", params={"where": "tags.site = 'oslo'"})
    assert [one["id"] for one in found["items"]] == ["d1", "d3", "d5"]
    assert "next" not in found
    first = operator.get("/v1/devices", params={"limit": 4})
    rest = operator.get("/v1/devices", params={"limit": 4, "after": first["next"]})
    assert [one["id"] for one in first["items"] + rest["items"]] == [f"d{number}" for number in range(7)]
    wrong = operator.ask("GET", "/v1/devices", params={"where": "site = 1"}, status=400).json()
    assert "column 1" in wrong["error"]["message"]


def test_a_deleted_device_is_nobody(operator, device):
    operator.ask("DELETE", "/v1/devices/d")
    device.sync(status=401)
    operator.ask("GET", "/v1/devices/d/twin", status=404)
    operator.ask("DELETE", "/v1/devices/d", status=404)


leaves = st.one_of(
    st.booleans(), st.integers(-9, 9), st.text("xyz", max_size=3), st.lists(st.integers(0, 3), max_size=2)
)
keys = st.sampled_from(["a", "b", "c"])
objects = st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6)
patches = st.recursive(
    st.one_of(st.none(), leaves), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6
)
change = st.one_of(
    st.tuples(st.just("PATCH"), st.dictionaries(keys, patches, max_size=3)),
    st.tuples(st.just("PUT"), st.dictionaries(keys, objects, max_size=3)),
    st.tuples(st.just("report"), st.dictionaries(keys, patches, max_size=3)),
)


def naive(target, patch):
    """RFC 7396, word for word."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = naive(target.get(name), value)
    return target


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(change, max_size=6))
def test_any_changes_end_where_the_standard_says(operator, changes):
    operator.ask("DELETE", "/v1/devices/d", status=(204, 404))
    device = operator.enrolled("d")
    wanted, said, version = {}, {}, 1
    for kind, body in changes:
        if kind == "report":
            device.sync(reported=body)
            said = naive(said, body)
            continue
        document = {"properties": {"desired": body}}
        answer = operator.ask(kind, "/v1/devices/d/twin", json=document).json()
        wanted, version = (naive(wanted, body) if kind == "PATCH" else body), version + 1
        assert answer["properties"]["desired"]["$version"] == version
    found = device.sync()["desired"]
    assert found.pop("$version") == version
    assert found == wanted
    reported = twin(operator)["properties"]["reported"]
    assert {key: value for key, value in reported.items() if key[0] != "$"} == said


def test_many_syncs_at_once_agree(operator, pushed, hub, device):
    import threading

    pushed()
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "*", "model": "detector"})
    found = []

    def ask():
        credential = device.headers["Authorization"].removeprefix("Bearer ")
        found.append(hub.fleet.sync(credential, SyncRequest(reported={"n": len(found)})).twin.desired.version)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 8


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_twin_read_changed_and_sent_back_whole_holds_no_model(operator, pushed, device, method):
    pushed()
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "*", "model": "detector@1"})
    whole = operator.get("/v1/devices/d/twin")
    whole["tags"]["site"] = "bergen"
    whole["properties"]["desired"]["rate"] = 5
    operator.ask(method, "/v1/devices/d/twin", json=whole, headers={"If-Match": whole["etag"]})
    pushed(seed=2)
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "*", "model": "detector@2"})
    desired = operator.get("/v1/devices/d/twin")["properties"]["desired"]
    assert (desired["models"]["detector"]["version"], desired["rate"]) == (2, 5)


def test_also_when_deployments_moved_on_meanwhile(operator, pushed, device):
    for seed in (1, 2):
        pushed(seed=seed)
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "*", "model": "detector@1"})
    whole = operator.get("/v1/devices/d/twin")
    operator.ask("PUT", "/v1/deployments/p", json={"selector": "*", "model": "detector@2"})
    operator.ask("PUT", "/v1/devices/d/twin", json=whole)
    assert operator.get("/v1/devices/d/twin")["properties"]["desired"]["models"]["detector"]["version"] == 2
