import pytest


def put(operator, key="prod", status=(200, 201), **body):
    return operator.ask(
        "PUT", f"/v1/deployments/{key}", json={"selector": "*", "model": "detector", **body}, status=status
    )


def test_a_ref_is_resolved_and_recorded(operator, pushed):
    pushed(alias="champion")
    made = put(operator, model="detector@champion")
    assert made.status_code == 201
    assert (made.json()["ref"], made.json()["model"], made.json()["version"]) == ("detector@champion", "detector", 1)
    pushed(seed=2, alias="champion")
    assert operator.get("/v1/deployments/prod")["version"] == 1
    again = put(operator, model="detector@champion", priority=3)
    assert again.status_code == 200
    assert (again.json()["version"], again.json()["priority"]) == (2, 3)
    assert again.json()["created"] == made.json()["created"]
    assert [one["id"] for one in operator.get("/v1/deployments")] == ["prod"]


def test_a_random_name(operator, pushed):
    pushed()
    made = operator.ask("POST", "/v1/deployments", json={"selector": "*", "model": "detector"}).json()
    assert operator.get(f"/v1/deployments/{made['id']}")["version"] == 1


def test_who_has_it(operator, pushed):
    version = pushed()
    put(operator)
    one, two = operator.enrolled("one"), operator.enrolled("two")
    one.sync()
    two.sync(reported={"models": {"detector": {"current": {"version": 1, "digest": version["digest"]}}}})
    assert operator.get("/v1/deployments/prod")["devices"] == {"desired": 2, "current": 1}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"selector": "tags.site ="}, 400, "column 12"),
        ({"selector": ""}, 400, "selector"),
        ({"model": "detector@9"}, 404, "no version '9'"),
        ({"model": "absent"}, 404, "no model 'absent'"),
        ({"model": "Bad Name"}, 400, "bad name"),
        ({"priority": -1}, 400, "priority"),
    ],
)
def test_bad_wishes(operator, pushed, body, status, said):
    pushed()
    assert said in put(operator, status=status, **body).json()["error"]["message"]
    assert operator.get("/v1/deployments") == []


def test_gone(operator, pushed):
    pushed()
    put(operator)
    operator.ask("DELETE", "/v1/deployments/prod")
    operator.ask("DELETE", "/v1/deployments/prod", status=404)
    operator.ask("GET", "/v1/deployments/prod", status=404)


def test_a_deployment_costs_the_same_for_any_fleet(operator, pushed, hub):
    from sqlalchemy import event

    pushed()
    counts = []
    for devices in (1, 40):
        for number in range(devices):
            operator.enrolled(f"d{devices}-{number}")
        sent = []
        note = lambda _c, _cur, sql, *_, sent=sent: sent.append(sql)  # noqa: E731
        event.listen(hub.database.engine, "before_cursor_execute", note)
        hub.deployments.put(f"p{devices}", "*", "detector", 0)
        event.remove(hub.database.engine, "before_cursor_execute", note)
        counts.append(len(sent))
    assert counts[0] == counts[1]
