import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.mqtt import routes
from farshore.mqtt.routes import Route

INTO = 'INTO BrokeredEndpoint("/modules/filter/inputs/in")'


@pytest.mark.parametrize(
    ("source", "module", "output", "takes"),
    [
        ("/messages/modules/cam/outputs/frames", "cam", "frames", True),
        ("/messages/modules/CAM/outputs/Frames", "cam", "frames", True),
        ("/messages/modules/cam/outputs/frames", "cam", "other", False),
        ("/messages/modules/cam/outputs/frames", "cam2", "frames", False),
        ("/messages/modules/cam/outputs/*", "cam", "x", True),
        ("/messages/modules/cam/outputs/*", "cam", "", False),
        ("/messages/modules/cam/*", "cam", "x", True),
        ("/messages/modules/cam/*", "cam", "", True),
        ("/messages/modules/*/outputs/frames", "any", "frames", True),
        ("/messages/modules/*/outputs/frames", "any", "x", False),
        ("/messages/modules/*", "any", "", True),
        ("/messages/*", "any", "x", True),
        ("/messages", "any", "", True),
        ("/messages/modules/cam", "cam", "x", False),
    ],
)
def test_sources(source, module, output, takes):
    route = routes.parse(f"FROM {source} {INTO}")
    assert (route.module, route.input) == ("filter", "in")
    assert route.takes(module, output) is takes


def test_upstream_and_case():
    assert routes.parse("from /messages/* into $Upstream") == Route(("*",))


@pytest.mark.parametrize(
    "text", ["", "FROM x INTO $upstream", "FROM /messages/* WHERE a = 1 INTO $upstream", "FROM /messages/* INTO y"]
)
def test_what_is_no_route(text):
    with pytest.raises(Invalid):
        routes.parse(text)


def test_a_section_is_read_as_far_as_it_can_be():
    found, wrong = routes.read(
        {"routes": {"a": "FROM /messages/* INTO $upstream", "b": {"route": f"FROM /messages {INTO}"}, "c": 1, "d": "x"}}
    )
    assert len(found) == 2 and [line[:2] for line in wrong] == ["c:", "d:"]
    assert routes.read({}) == routes.read({"routes": []}) == ([], [])


@given(st.text(max_size=80))
def test_any_text_is_a_route_or_refused(text):
    for one in (text, f"FROM /messages/{text} {INTO}", f"FROM /messages {text} INTO $upstream"):
        try:
            routes.parse(one).takes("m", "o")
        except Invalid:
            continue
