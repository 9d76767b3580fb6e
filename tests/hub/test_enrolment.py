import pytest


def make(operator, status=201, **body):
    return operator.ask("POST", "/v1/enrolments", json=body, status=status).json()


def test_what_a_token_tells(operator, settings):
    made = make(operator, device="turbine-7", tags={"site": "oslo"}, seconds=60)
    assert len(made["token"]) >= 43
    assert (made["device"], made["tags"], made["hub"]) == ("turbine-7", {"site": "oslo"}, settings.url)
    assert made["expires"] == "2026-09-21T14:14:20.0000000Z"
    [listed] = operator.get("/v1/enrolments")
    assert "token" not in listed and "used" not in listed


def test_a_day_unless_told(operator):
    assert make(operator)["expires"] == "2026-09-22T14:13:20.0000000Z"


def test_who_used_it(operator):
    operator.enrolled("d")
    [listed] = operator.get("/v1/enrolments")
    assert listed["used_by"] == "d"
    assert listed["used"] == "2026-09-21T14:13:20.0000000Z"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"device": "Bad Name"}, 400),
        ({"tags": {"a b": 1}}, 400),
        ({"tags": {"a": None}}, 400),
        ({"tags": {f"k{number}": "x" * 4000 for number in range(3)}}, 413),
        ({"seconds": 0}, 400),
        ({"seconds": 10**9}, 400),
        ({"secconds": 5}, 400),
    ],
)
def test_bad_wishes(operator, body, status):
    make(operator, status=status, **body)
    assert operator.get("/v1/enrolments") == []


def test_the_command_to_run_as_a_qr_code(operator):
    made = operator.ask("POST", "/v1/enrolments", json={"device": "d", "qr": True}).json()
    assert made["command"].endswith(f"--enrol {made['token']} --device d")
    side = len(made["qr"])
    assert side >= 21
    assert all(len(row) == side and set(row) <= {"0", "1"} for row in made["qr"])
    assert made["qr"][0].startswith("11111110")  # a corner that scanners look for
    assert "qr" not in operator.ask("POST", "/v1/enrolments", json={}).json()
    assert all("command" not in one for one in operator.get("/v1/enrolments"))
