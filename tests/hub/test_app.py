"""The hub as a process: started, stopped, killed at any instant, and back."""

import contextlib
import datetime as dt
import hashlib
import ipaddress
import os
import random
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from farshore.core import digest as digests
from farshore.core import manifest as manifests

TOML = "[input]\nmean = 0\nstd = 255\n"


def test_a_device_gets_what_a_deployment_says(operator, pushed):
    version = pushed()
    device = operator.enrolled("turbine-7", tags={"site": "oslo"})
    assert device.sync()["desired"] == {"$version": 1}
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "tags.site = 'oslo'", "model": "detector@1"})
    desired = device.sync(seen=1)["desired"]
    assert desired == {"$version": 2, "models": {"detector": {"version": 1, "digest": version["digest"]}}}
    assert device.manifest(version["digest"])


def test_stops_cleanly_and_answers_those_that_wait(process):
    operator = process.operator()
    device = operator.enrolled("waiter")
    device.sync()
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(device.sync(seen=1, wait=60)))
    waiting.start()
    time.sleep(0.5)
    assert process.end(signal.SIGTERM) == 0
    waiting.join(10)
    assert "desired" not in answers[0]
    assert not (process.data / "hub.sqlite3-wal").exists()
    process.start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_stop_it(process, number):
    assert process.end(number) == 0
    process.start()


def test_its_files_are_its_owners_alone(tmp_path, start_process):
    (tmp_path / "hub").mkdir(mode=0o755)
    start_process(tmp_path / "hub")
    for path in (tmp_path / "hub").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_second_hub_on_the_same_folder_is_refused(process, tmp_path):
    code = (
        "import pathlib, sys; from farshore.hub.app import run; from farshore.hub.settings import Settings\n"
        "try: run(Settings(data=pathlib.Path(sys.argv[1]), port=int(sys.argv[2])))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )

    def start(folder, port):
        return subprocess.run(
            [sys.executable, "-c", code, str(folder), str(port)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert "Conflict another hub uses" in start(process.data, free)
    assert "Unavailable cannot listen on 127.0.0.1" in start(tmp_path / "other", process.port)


def certificate(folder):
    """A certificate for 127.0.0.1 and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "hub.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "hub.key").write_bytes(key.private_bytes(*plain))
    return folder / "hub.pem", folder / "hub.key"


def test_over_tls(tmp_path, start_process):
    chain, key = certificate(tmp_path)
    paths = {"FARSHORE_HUB_CERTIFICATE": str(chain), "FARSHORE_HUB_CERTIFICATE_KEY": str(key)}
    running = start_process(tmp_path / "hub", verify=ssl.create_default_context(cafile=str(chain)), **paths)
    assert running.operator().get("/v1/hub")["url"] == running.url
    assert running.url.startswith("https://")
    assert running.end(signal.SIGTERM) == 0


def test_a_waiting_device_hears_of_a_change_at_once(process):
    operator = process.operator()
    device = operator.enrolled("listener")
    device.sync()
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(device.sync(seen=1, wait=60)))
    waiting.start()
    time.sleep(0.3)
    operator.ask("PATCH", "/v1/devices/listener/twin", json={"properties": {"desired": {"rate": 5}}})
    waiting.join(30)
    assert answers[0]["desired"] == {"$version": 2, "rate": 5}


def test_a_waiting_device_hears_of_a_deployment(process, make_onnx):
    operator = process.operator()
    operator.push("heard", {"net.onnx": make_onnx(7)}, overrides=TOML)
    devices = [operator.enrolled(f"ear-{number}", tags={"ear": number}) for number in range(3)]
    for device in devices:
        device.sync()
    answers = {}

    def wait(device):
        with httpx.Client(base_url=process.url, timeout=60) as client:
            device.client = client
            answers[device.name] = device.sync(seen=1, wait=3)

    waiting = [threading.Thread(target=wait, args=(device,)) for device in devices]
    for thread in waiting:
        thread.start()
    time.sleep(0.5)
    operator.ask("PUT", "/v1/deployments/heard", json={"selector": "tags.ear IN [0, 2]", "model": "heard"})
    for thread in waiting:
        thread.join(30)
    assert [("desired" in answers[device.name]) for device in devices] == [True, False, True]
    operator.ask("DELETE", "/v1/deployments/heard")


def test_those_that_wait_never_keep_out_those_they_wait_for(process):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (hard if hard == resource.RLIM_INFINITY else max(soft, min(hard, 4096)), hard)
    )
    operator = process.operator()
    device = operator.enrolled("many")
    device.sync()
    body = b'{"seen":1,"wait":60}'
    head = f"POST /device/v1/sync HTTP/1.1\r\nHost: x\r\nAuthorization: {device.headers['Authorization']}\r\n"
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(process.connect()) for _ in range(1200)]  # more than any server's queue by default
        for link in links:
            link.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        operator.ask("PATCH", "/v1/devices/many/twin", json={"properties": {"desired": {"rate": 5}}})
        assert all(b" 200 " in link.recv(4096) for link in links)


def test_killed_in_mid_upload(process):
    operator = process.operator()
    data = os.urandom(4 << 20)
    digest = digests.of(data)
    head = (
        f"PUT /v1/blobs/{digest} HTTP/1.1\r\nHost: x\r\nAuthorization: {operator.headers['Authorization']}\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    with process.connect() as link:
        link.sendall(head.encode() + data[: 3 << 20])
        wait_until(lambda: any(path.stat().st_size >= 1 << 20 for path in (process.data / "spool").iterdir()))
        process.end()
    process.start()
    operator = process.operator()
    operator.ask("HEAD", f"/v1/blobs/{digest}", status=404)
    assert list((process.data / "spool").iterdir()) == []
    operator.upload(data)
    operator.ask("HEAD", f"/v1/blobs/{digest}")


def test_killed_in_mid_transfer_the_rest_is_fetched_with_the_same_ticket(process, make_onnx):
    operator = process.operator()
    other = os.urandom(8 << 20)
    made = operator.push(
        "big", {"net.onnx": make_onnx(3), "labels.txt": b"a\nb\nc\n", "extra.bin": other}, overrides=TOML
    )
    operator.ask("PUT", "/v1/deployments/big", json={"selector": "tags.big", "model": "big"})
    device = operator.enrolled("loader", tags={"big": True})
    assert device.sync()["desired"]["models"]["big"]["digest"] == made["digest"]
    [route] = device.ticket(digests.of(other))["routes"]
    got = bytearray()
    with contextlib.suppress(httpx.TransportError), httpx.stream("GET", process.url + route["url"]) as answer:
        for piece in answer.iter_raw(65536):
            got += piece
            if len(got) == len(piece):
                process.end()
    assert 0 < len(got) < len(other)
    process.start()
    rest = httpx.get(
        process.url + route["url"], headers={"Range": f"bytes={len(got)}-", "If-Range": f'"{route["digest"]}"'}
    )
    assert rest.status_code == 206
    assert hashlib.sha256(got + rest.content).hexdigest() == route["digest"][7:]
    process.operator().ask("DELETE", "/v1/deployments/big")


def wait_until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def pushes_under_fire(process, make_onnx, name, kills, seed):
    """Push without pause while the hub is killed at random instants; what was acknowledged must be there, whole."""
    chance, acknowledged = random.Random(seed), {}
    stop = threading.Event()

    def push():
        number = 0
        while not stop.is_set():
            number += 1
            try:
                with httpx.Client(base_url=process.url, timeout=30) as client:
                    operator = type(process.operator())(client, (process.data / "admin.token").read_text().strip())
                    made = operator.push(name, {"net.onnx": make_onnx(seed * 1000 + number)}, overrides=TOML)
                    acknowledged[made["version"]] = made["digest"]
            except (httpx.TransportError, AssertionError):
                time.sleep(0.05)  # the hub is away for a moment

    pushing = threading.Thread(target=push)
    pushing.start()
    try:
        for _ in range(kills):
            before = len(acknowledged)
            wait_until(lambda before=before: len(acknowledged) > before)
            time.sleep(chance.uniform(0, 0.3))
            process.end()
            process.start()
    finally:
        stop.set()
        pushing.join()
    operator = process.operator()
    listed = operator.get(f"/v1/models/{name}/versions", params={"limit": 1000})["items"]
    numbers = [one["version"] for one in reversed(listed)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {one["version"]: one["digest"] for one in listed}.items() >= acknowledged.items()
    for one in listed:
        payload = operator.ask("GET", f"/v1/models/{name}/versions/{one['version']}/manifest").content
        assert digests.of(payload) == one["digest"]
        manifest = manifests.decode(payload)
        for file in manifest.files().values():
            data = operator.ask("GET", f"/v1/models/{name}/versions/{one['version']}/files/{file.path}").content
            assert digests.of(data) == file.digest


def test_killed_among_pushes(process, make_onnx):
    pushes_under_fire(process, make_onnx, "fire", kills=4, seed=1)


@pytest.mark.deep
@pytest.mark.timeout(1200)
def test_killed_among_pushes_many_times(process, make_onnx):
    pushes_under_fire(process, make_onnx, "bonfire", kills=60, seed=2)


def test_killed_among_reports_what_was_answered_stays(process):
    operator = process.operator()
    device = operator.enrolled("reporter")
    answered = 0

    def report():
        nonlocal answered
        with contextlib.suppress(httpx.TransportError):
            for number in range(1, 10_000):
                device.sync(reported={"n": number})
                answered = number

    reporting = threading.Thread(target=report)
    reporting.start()
    wait_until(lambda: answered > 20)
    process.end()
    reporting.join()
    process.start()
    found = process.operator().get("/v1/devices/reporter/twin")["properties"]["reported"]["n"]
    assert found in {answered, answered + 1}
