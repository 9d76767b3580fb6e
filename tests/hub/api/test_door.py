"""What every request passes; with raw bytes where clients are too polite."""

import gzip
import json
import re
import time

import pytest

ROUTES = [
    ("GET", "/v1/models"),
    ("POST", "/v1/models/m/versions"),
    ("PUT", "/v1/blobs/sha256:" + "0" * 64),
    ("GET", "/v1/devices"),
    ("PATCH", "/v1/devices/d/twin"),
    ("DELETE", "/v1/deployments/d"),
    ("POST", "/v1/enrolments"),
    ("POST", "/v1/tokens"),
    ("GET", "/v1/changes"),
    ("POST", "/device/v1/sync"),
    ("POST", "/device/v1/tickets"),
    ("GET", "/device/v1/manifests/sha256:" + "0" * 64),
]


def shape(answer) -> dict:
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert "\n" not in body["error"]["message"]
    return body["error"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("header", [None, "Bearer wrong-but-long-enough-to-be-read", "Basic eDp5", "Bearer"])
def test_nobody_passes_without_a_credential(client, method, path, header):
    headers = {"Authorization": header} if header else {}
    answer = client.request(method, path, headers=headers, json={} if method != "GET" else None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert shape(answer)["code"] == "unauthenticated"


def test_a_devices_credential_is_no_operators_token_nor_the_reverse(operator):
    device = operator.enrolled("d")
    assert operator.client.get("/v1/models", headers=device.headers).status_code == 401
    assert operator.client.post("/device/v1/sync", json={}, headers=operator.headers).status_code == 401


def test_unknown_addresses_and_methods(operator):
    assert shape(operator.ask("GET", "/v1/nothing", status=404))["code"] == "not_found"
    assert shape(operator.ask("GET", "/v1/models/", status=404))["code"] == "not_found"
    answer = operator.ask("DELETE", "/v1/models", status=405)
    assert shape(answer)["code"] == "invalid"
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"token": 1}', b'{"token": "\xff"}', b"[" * 100_000, b'{"a":1e999}']
)
def test_bodies_that_are_not_what_they_must_be(client, body):
    assert shape(client.post("/device/v1/enrol", content=body))["code"] in {"invalid", "too_large"}


@pytest.mark.parametrize(
    ("path", "size"), [("/device/v1/enrol", 5 << 10), ("/device/v1/sync", 257 << 10), ("/device/v1/tickets", 65 << 10)]
)
def test_bodies_that_are_too_large(client, operator, path, size):
    headers = operator.enrolled("d").headers
    answer = client.post(path, content=b" " * size, headers=headers)
    assert (answer.status_code, shape(answer)["code"]) == (413, "too_large")


def test_a_twin_nested_too_deep_is_invalid(operator):
    operator.enrolled("d")
    deep = '{"properties":{"desired":' + '{"a":' * 900 + "1" + "}" * 900 + "}}"
    assert shape(operator.ask("PATCH", "/v1/devices/d/twin", content=deep, status=400))["code"] == "invalid"


def test_unknown_members_of_operators_bodies_are_named(operator):
    answer = operator.ask("PUT", "/v1/deployments/d", json={"selector": "*", "model": "m", "prioritty": 1}, status=400)
    assert "prioritty" in shape(answer)["message"]


@pytest.mark.parametrize(
    ("name", "value"), [("limit", "0"), ("limit", "-1"), ("limit", "x"), ("limit", "9999"), ("limit", "١")]
)
def test_numbers_in_queries(operator, name, value):
    assert name in shape(operator.ask("GET", "/v1/devices", params={name: value}, status=400))["message"]


def test_answers_are_compressed_when_it_is_worth_it(operator, pushed):
    pushed()
    plain = operator.ask("GET", "/v1/models/detector/versions/1", headers={"Accept-Encoding": "identity"})
    packed = operator.ask("GET", "/v1/models/detector/versions/1", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    assert packed.json() == plain.json()
    assert gzip.compress(plain.content, 6, mtime=0)
    small = operator.ask("GET", "/healthz", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers


def test_a_fault_of_the_hub_itself_has_the_same_shape_and_tells_nothing(operator, hub, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(hub.fleet, "changes", fail)
    answer = operator.ask("GET", "/v1/changes", status=500)
    assert shape(answer)["code"] == "internal"
    assert "secret" not in answer.text
    assert "a secret" in caplog.text


# -- raw bytes, against the real server -------------------------------------------------------------------------------

SYNC = b"POST /device/v1/sync HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        SYNC + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        SYNC + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        SYNC + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
        SYNC + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
        SYNC + b"Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\n{}",
        SYNC + b"Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n{}",
        SYNC + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        SYNC + b"Content-Length: +2\r\n\r\n{}",
        SYNC + b"Content-Length: 2, 2\r\n\r\n{}",
        SYNC + b"Content-Length: 0x2\r\n\r\n{}",
        SYNC + b"Content-Length: -2\r\n\r\n{}",
        SYNC + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        SYNC + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 2\r\n\r\n{}",
        SYNC + b"X: " + b"a" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        SYNC + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"Content-Length: 2\r\n\r\n{}",
        SYNC + b" folded: x\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /v1/models/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100,
        b"NOT HTTP AT ALL\r\n\r\n",
    ],
)
def test_requests_that_two_parsers_could_read_differently_are_refused(process, request_bytes):
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n"
    answer = process.raw(request_bytes + smuggled)
    status = answer[9:12]
    assert status[:1] in {b"4", b""}, answer[:200]
    if b"transfer-encoding" in request_bytes.lower() or b"content-length: 2\r\ncontent-length" in request_bytes.lower():
        assert b'"ok"' not in answer, answer


def test_pipelined_requests_are_answered_in_order(process):
    one, two = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = process.raw(one + two + one)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]


def test_a_body_cut_short_is_no_request(process):
    answer = process.raw(b"POST /device/v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{}")
    assert b" 200 " not in answer


def test_the_raw_path_decides(process):
    for path in (b"/v1/models/..%2f..%2fhealthz", b"/v1/%2e%2e/healthz", b"/%68ealthz", b"//healthz", b"/healthz/"):
        answer = process.raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " not in answer.split(b"\r\n")[0], path


def test_slow_uploads_hold_up_nobody(process):
    with process.connect() as slow:
        slow.sendall(b"POST /device/v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n")
        time.sleep(0.1)
        answer = process.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert json.loads(answer.split(b"\r\n\r\n")[1]) == {"ok": True}
