import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.mqtt import sas, workload

KEY = base64.b64encode(bytes(range(32))).decode()


def keys(module, generation):
    return KEY if (module, generation) == ("$m", "7") else None


def sign(body, target="/modules/%24m/genid/7/sign?api-version=2019-01-30", method="POST"):
    return workload.answer(method, target, body, keys, "PEM")


def test_it_signs_what_a_token_needs():
    text = "hub.example%2Fdevices%2Fd%2Fmodules%2F%24m\n2000"
    status, found = sign(
        json.dumps(
            {"keyId": "primary", "algo": "HMACSHA256", "data": base64.b64encode(text.encode()).decode()}
        ).encode()
    )
    assert status == 200
    token = sas.sign("hub.example/devices/d/modules/$m", KEY, 2000)
    assert base64.b64decode(found["digest"]) == sas.parse(token).signature


def test_the_trust_bundle():
    assert workload.answer("GET", "/trust-bundle?api-version=x", b"", keys, "PEM") == (200, {"certificate": "PEM"})


@pytest.mark.parametrize(
    ("target", "method", "body", "status"),
    [
        ("/trust-bundle", "POST", b"", 405), ("/", "GET", b"", 404), ("/modules/m/genid/7/sign", "POST", b"{}", 404),
        ("/modules/$m/genid/8/sign", "POST", b"{}", 404), ("/modules/$m/genid/7/sign", "GET", b"", 405),
        ("/modules/$m/genid/7/sign", "POST", b"", 400), ("/modules/$m/genid/7/sign", "POST", b'{"algo":"HMACSHA256","data":"%"}', 400),
        ("/modules/$m/genid/7/sign", "POST", b'{"algo":"RSA","data":"YQ=="}', 400), ("/modules/$m/genid/7/sign", "POST", b"x" * 70000, 400),
    ],
)  # fmt: skip
def test_what_it_refuses(target, method, body, status):
    found, said = sign(body, target, method)
    assert (found, list(said)) == (status, ["message"])


@given(st.text(max_size=60), st.binary(max_size=60))
def test_any_request_is_answered(target, body):
    assert sign(body, target)[0] in {200, 400, 404, 405}
