import base64
import hashlib
import hmac
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Invalid, Unauthenticated
from farshore.mqtt import sas

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()
HOSTS = ("Hub.Example", "localhost")


def made(raw, se="2000", key=KEY, order="sr sig se", **more):
    """A token put together by hand, from the published rule alone."""
    signature = hmac.new(base64.b64decode(key), f"{raw}\n{se}".encode(), hashlib.sha256).digest()
    fields = {"sr": raw, "sig": quote(base64.b64encode(signature), safe=""), "se": se, **more}
    names = [*order.split(), *more]
    return "SharedAccessSignature " + "&".join(f"{name}={fields[name]}" for name in names)


@pytest.mark.parametrize("raw", ["hub.example%2Fdevices%2Fd1", "hub.example%2fdevices%2fd1", "hub.example/devices/d1"])
@pytest.mark.parametrize("order", ["sr sig se", "se sr sig", "sig se sr"])
def test_the_resource_is_verified_as_it_was_sent(raw, order):
    token = sas.parse(made(raw, order=order))
    sas.verify(token, [OTHER, KEY], 1999.0)
    assert token.resource == "hub.example/devices/d1"
    assert sas.names(token, HOSTS, "devices/d1")


def test_what_is_signed_here_verifies_here_and_is_what_the_rule_says():
    text = sas.sign("hub.example/devices/å", KEY, 2000, "device")
    token = sas.parse(text)
    sas.verify(token, [KEY], 0)
    assert (token.policy, token.expires) == ("device", 2000)
    assert text == made(quote("hub.example/devices/å", safe=""), skn="device")


def test_expiry_and_other_keys_are_refused():
    token = sas.parse(made("hub.example"))
    with pytest.raises(Unauthenticated, match="expired"):
        sas.verify(token, [KEY], 2000.0)
    with pytest.raises(Unauthenticated, match="another key"):
        sas.verify(token, [OTHER], 0)
    with pytest.raises(Unauthenticated, match="another key"):
        sas.verify(token, [], 0)


def test_no_key_signs_nothing():
    signature = base64.b64encode(hmac.new(b"", b"hub.example\n2000", hashlib.sha256).digest()).decode()
    token = sas.parse(f"SharedAccessSignature sr=hub.example&sig={quote(signature, safe='')}&se=2000")
    with pytest.raises(Unauthenticated, match="another key"):
        sas.verify(token, ["", "%%"], 0)


@pytest.mark.parametrize(
    ("resource", "path", "exact", "above"),
    [
        ("HUB.example/Devices/d1", "devices/d1", True, True),
        ("hub.example:8883/devices/d1", "devices/d1", True, True),
        ("localhost/devices/d1", "devices/d1", True, True),
        ("hub.example/devices", "devices/d1", False, True),
        ("hub.example", "devices/d1", False, True),
        ("hub.example/devices/d", "devices/d1", False, False),
        ("hub.example/devices/d1", "devices/d1/modules/m", False, True),
        ("hub.example/devices/d1/modules/m", "devices/d1", False, False),
        ("other.example/devices/d1", "devices/d1", False, False),
        ("evil.hub.example/devices/d1", "devices/d1", False, False),
    ],
)
def test_audiences(resource, path, exact, above):
    token = sas.parse(sas.sign(resource, KEY, 2000))
    assert sas.names(token, HOSTS, path) is exact
    assert sas.covers(token, HOSTS, path) is above


@pytest.mark.parametrize(
    "text",
    ["", "Bearer x", "SharedAccessSignature", "SharedAccessSignature sr=a&se=1", "SharedAccessSignature sr=a&sig=%%&se=1",
     "SharedAccessSignature sr=a&sig=YQ==&se=-1", "SharedAccessSignature sr=a&sig=YQ==&se=1&se=2",
     "SharedAccessSignature sr=a&sig=YQ==&se=" + "9" * 5000, "SharedAccessSignature sr=&sig=YQ==&se=1"],
)  # fmt: skip
def test_what_is_no_token(text):
    with pytest.raises(Unauthenticated):
        sas.parse(text)


@pytest.mark.parametrize("key", ["", "%%", base64.b64encode(b"short").decode(), base64.b64encode(bytes(65)).decode()])
def test_what_is_no_key(key):
    with pytest.raises(Invalid):
        sas.sign("hub.example", key, 1)


def test_a_derived_key_is_the_hmac_of_the_name():
    expected = base64.b64encode(hmac.new(bytes(range(32)), b"reg-1", hashlib.sha256).digest()).decode()
    assert sas.digest(KEY, b"reg-1") == expected


@given(st.text(max_size=200))
def test_any_text_is_a_token_or_refused(text):
    for candidate in (text, f"SharedAccessSignature {text}", f"SharedAccessSignature sr={text}&sig=YQ%3D%3D&se=1"):
        try:
            token = sas.parse(candidate)
        except Unauthenticated:
            continue
        with pytest.raises(Unauthenticated):
            sas.verify(token, [KEY], 0)
        sas.names(token, HOSTS, "devices/d1")
