"""Every policy against every route of the service API; and tokens of all kinds that must open nothing."""

import re

import pytest
from tests.hub.iothub.service import Service

from farshore.hub.api.service.entrance import DEFAULT, RIGHTS
from farshore.hub.app import ENDPOINTS
from farshore.hub.policies import POLICIES
from farshore.mqtt import sas

ROUTES = [one for one in ENDPOINTS if one.who == "service"]


def test_every_route_declares_the_right_that_it_needs():
    assert {(one.method, one.path) for one in ROUTES} == set(RIGHTS)


def test_what_does_not_stand_in_the_table_no_service_may():
    assert [name for name, rights in POLICIES.items() if DEFAULT in rights] == ["iothubowner", "device"]
    assert DEFAULT not in RIGHTS.values()


def test_reading_the_registry_changes_nothing():
    for (method, path), right in RIGHTS.items():
        assert right != "RegistryRead" or method == "GET" or path == "/configurations/testQueries"


def address_of(one):
    return re.sub(r"{(\w+)}", "absent", one.path)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_against_every_route(operator, policy):
    service = Service(operator.client, operator.client.app.hub, policy)
    for one in ROUTES:
        answer = service.ask(one.method, address_of(one), json={}, status=tuple(range(200, 500)))
        refused = answer.status_code == 401
        assert refused == (RIGHTS[one.method, one.path] not in POLICIES[policy]), (one.method, one.path, answer.text)
        if refused:
            assert "IotHubUnauthorizedAccess" in answer.json()["Message"]


def tokens(hub):
    key, now = hub.policies.one("iothubowner").primary, int(hub.clock())
    good = sas.sign("localhost", key, now + 60, "iothubowner")
    device = hub.identities.ensure("d").identity
    return [
        None, "", "Bearer x", good[:-1], good + "&se=99999999999", good.replace("iothubowner", "service"), good.replace("iothubowner", "root"),
        sas.sign("localhost", key, now - 1, "iothubowner"), sas.sign("elsewhere.example", key, now + 60, "iothubowner"),
        sas.sign("localhost/devices/d", device.primary, now + 60), sas.sign("localhost", device.primary, now + 60, "iothubowner"),
        sas.sign("localhost", key, now + 60), "SharedAccessSignature sr=localhost&sig=&se=99999999999&skn=iothubowner",
    ]  # fmt: skip


def test_tokens_that_open_nothing(operator):
    operator.enrolled("d")
    hub = operator.client.app.hub
    for token in [*tokens(hub), operator.headers["Authorization"]]:
        for one in ROUTES:
            headers = {} if token is None else {"Authorization": token}
            answer = operator.client.request(one.method, address_of(one), headers=headers, json={})
            assert answer.status_code == 401, (token, one.method, one.path, answer.text)


def test_policies_open_no_other_door(operator):
    hub = operator.client.app.hub
    header = {
        "Authorization": sas.sign(
            "localhost", hub.policies.one("iothubowner").primary, int(hub.clock()) + 60, "iothubowner"
        )
    }
    for path in ("/v1/devices", "/v1/policies", "/v1/models", "/v1/audit"):
        assert operator.client.get(path, headers=header).status_code == 401
