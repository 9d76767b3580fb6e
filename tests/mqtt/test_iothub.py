import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.mqtt import iothub
from farshore.mqtt.iothub import (
    Identity,
    Login,
    MethodResult,
    Poll,
    Register,
    Registration,
    Telemetry,
    TwinGet,
    TwinReport,
)

DEVICE, MODULE, ENROLLEE = Identity("d"), Identity("d", "m"), Registration("scope", "reg")


@pytest.mark.parametrize(
    ("client", "user", "found"),
    [
        ("d", "h.example/d/?api-version=2019-10-01&DeviceClientType=py%2F2.14", Login("h.example", DEVICE, "py/2.14")),
        ("d/m", "h/d/m/?api-version=2021-04-12", Login("h", MODULE)),
        ("d", "h/d/api-version=2016-11-14", Login("h", DEVICE)),
        ("d", "h/d/?api-version=1&api-version=2&model-id=dtmi%3Aa%3B1", Login("h", DEVICE)),
        ("reg", "scope/registrations/reg/api-version=2019-03-31&ClientVersion=x", ENROLLEE),
    ],
)
def test_who_connects(client, user, found):
    assert iothub.login(client, user) == found


@pytest.mark.parametrize(
    ("client", "user"),
    [
        ("d", None), ("d", ""), ("d", "h/d/"), ("d", "h/d/?x=1"), ("d", "h/e/?api-version=1"), ("d", "h/d/m/?api-version=1"),
        ("d/m", "h/d/?api-version=1"), ("", "h//?api-version=1"), ("d", "/d/?api-version=1"), ("d/m/x", "h/d/m/x/?api-version=1"),
        ("a#", "h/a#/?api-version=1"), ("d ", "h/d /?api-version=1"), ("x" * 129, f"h/{'x' * 129}/?api-version=1"),
    ],
)  # fmt: skip
def test_who_does_not(client, user):
    with pytest.raises(Invalid):
        iothub.login(client, user)


@pytest.mark.parametrize(
    ("who", "topic", "meant"),
    [
        (DEVICE, "$iothub/twin/GET/?$rid=a1", TwinGet("a1")),
        (DEVICE, "$iothub/twin/GET/?%24rid=a1", TwinGet("a1")),
        (MODULE, "$iothub/twin/PATCH/properties/reported/?$rid=2", TwinReport("2")),
        (DEVICE, "$iothub/methods/res/200/?$rid=7", MethodResult("7", 200)),
        (DEVICE, "$iothub/methods/res/-1/?$rid=7", MethodResult("7", -1)),
        (DEVICE, "devices/d/messages/events/", Telemetry("", {})),
        (DEVICE, "devices/d/messages/events", Telemetry("", {})),
        (DEVICE, "devices/d/messages/events/a=b%20c&%24.mid=1/", Telemetry("", {"a": "b c", "$.mid": "1"})),
        (MODULE, "devices/d/modules/m/messages/events/%24.on=out&k", Telemetry("out", {"k": None})),
        (DEVICE, "devices/d/messages/events/?k=&k=2", Telemetry("", {"k": ""})),
        (ENROLLEE, "$dps/registrations/PUT/iotdps-register/?$rid=1", Register("1")),
        (ENROLLEE, "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=o%2F1", Poll("1", "o/1")),
    ],
)
def test_what_a_publish_means(who, topic, meant):
    assert iothub.operation(who, topic) == meant


@pytest.mark.parametrize(
    ("who", "topic"),
    [
        (DEVICE, "devices/e/messages/events/"), (DEVICE, "devices/d/modules/m/messages/events/"), (MODULE, "devices/d/messages/events/"),
        (DEVICE, "$iothub/twin/GET/"), (DEVICE, "$iothub/twin/GET/?$rid="), (DEVICE, "$iothub/methods/res/x/?$rid=1"),
        (DEVICE, "devices/d/messages/eventsx"), (DEVICE, "$dps/registrations/PUT/iotdps-register/?$rid=1"),
        (ENROLLEE, "$iothub/twin/GET/?$rid=1"), (DEVICE, "devices/d/messages/events/" + "&".join(f"k{n}=1" for n in range(200))),
        (DEVICE, "$iothub/methods/res/\u00b2/?$rid=1"), (DEVICE, "x"),
    ],
)  # fmt: skip
def test_what_closes_the_connection(who, topic):
    with pytest.raises(Invalid):
        iothub.operation(who, topic)


@given(
    st.text(max_size=60),
    st.sampled_from(["", "$iothub/twin/GET/?", "$iothub/methods/res/", "devices/d/messages/events/"]),
)
def test_any_topic_means_something_or_is_refused(text, before):
    for who in (DEVICE, MODULE, ENROLLEE):
        try:
            iothub.operation(who, before + text)
        except Invalid:
            continue


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.none() | st.text(max_size=20), max_size=8))
def test_bags_come_back(properties):
    text = iothub.write_bag(properties)
    assert iothub.read_bag(text) == properties
    assert not set(text) & set("+ #?/")


def test_topics_to_clients():
    assert iothub.twin_answer(200, "r1") == "$iothub/twin/res/200/?$rid=r1"
    assert iothub.twin_answer(204, "r1", 5) == "$iothub/twin/res/204/?$rid=r1&$version=5"
    assert iothub.desired_changed(4) == "$iothub/twin/PATCH/properties/desired/?$version=4"
    assert iothub.method_call("re boot", "9") == "$iothub/methods/POST/re%20boot/?$rid=9"
    assert iothub.input_message(MODULE, "in", {}) == "devices/d/modules/m/inputs/in/"
    assert iothub.devicebound("d", {"$.mid": "1"}).startswith("devices/d/messages/devicebound/%24.to=%2Fdevices%2Fd%2F")
    assert iothub.registration_answer(202, "1", 3) == "$dps/registrations/res/202/?$rid=1&retry-after=3"


def test_filters_are_an_identitys_own():
    assert "devices/d/messages/devicebound/#" in iothub.filters_of(DEVICE)
    assert {"devices/d/modules/m/#", "devices/d/modules/m/inputs/#"} < iothub.filters_of(MODULE)
    assert "devices/d/messages/devicebound/#" not in iothub.filters_of(MODULE)
    assert iothub.filters_of(ENROLLEE) == {"$dps/registrations/res/#"}


def test_a_failure_is_what_clients_parse():
    assert json.loads(iothub.failure(400004, "t", "no", "now"))["errorCode"] == 400004
