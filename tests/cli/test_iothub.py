"""``farshore iothub``, against a hub with its device door open."""

import json
import socket
import threading
import urllib.request

import pytest
from tests.cli.conftest import Shell
from tests.hub.iothub.conftest import Mqtt, free_port

from farshore.cli import workload
from farshore.cli.world import READY, Process, answers, wait_for
from farshore.mqtt.packets import Publish


class Door:
    """What :class:`Mqtt` needs to know of a hub that is another process."""

    def __init__(self, port, ca):
        import ssl
        import time
        from types import SimpleNamespace

        self.settings = SimpleNamespace(iothub_port=port)
        self.hub = SimpleNamespace(clock=time.time)
        self.context, self.clients = ssl.create_default_context(cadata=ca), []


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder, port, mqtt = tmp_path_factory.mktemp("iothub"), free_port(), free_port()
    arguments = ["hub", "--data", str(folder / "data"), "--port", str(port), "--iothub-port", str(mqtt)]
    running = Process(arguments, folder / "log")
    running.start()
    try:
        wait_for(lambda: answers(port, "/healthz"), READY, "the hub", running)
        yield f"http://127.0.0.1:{port}", folder / "data" / "admin.token", mqtt
    finally:
        running.stop()


@pytest.fixture
def farshore(process, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Shell(process[0], process[1].read_text().strip(), monkeypatch, capsys)


@pytest.fixture
def device(farshore, process, tmp_path, request):
    """A device's name, and a function that connects as it or one of its modules."""
    name = f"d-{abs(hash(request.node.name)) % 10**8}"
    farshore.ok("iothub", "connection-string", name, "--create")
    doors = []

    def client(module=""):
        given = ["--module", module] if module else []
        string = farshore.ok("iothub", "connection-string", name, *given).strip()
        key = string.partition("SharedAccessKey=")[2]
        door = Door(process[2], (tmp_path / "farshore-ca.pem").read_text())
        doors.append(door)
        return Mqtt(door, f"{name}/{module}" if module else name, key)

    yield name, client
    for door in doors:
        for one in door.clients:
            one.close()


def test_a_connection_string_for_a_script(farshore, device, tmp_path, process):
    name, _ = device
    code, out, err = farshore("iothub", "connection-string", name)
    assert code == 0 and out.startswith("HostName=127.0.0.1;DeviceId=" + name) and out.count("\n") == 1
    assert str(tmp_path / "farshore-ca.pem") in err and str(process[2]) in err
    found = json.loads(farshore.ok("iothub", "connection-string", name, "--ca-file", "x.pem", "--json"))
    assert (tmp_path / "x.pem").read_text() == found["ca"]
    code, _, err = farshore("iothub", "connection-string", "nobody")
    assert (code, "nobody" in err) == (3, True)


def test_call(farshore, device):
    name, connect = device
    client = connect()
    client.subscribe("$iothub/methods/POST/#")

    def serve():
        asked = client.expect(Publish, "$iothub/methods/POST/greet/")
        assert json.loads(asked.payload) == {"who": "you"}
        client.say(f"$iothub/methods/res/201/?$rid={asked.topic.partition('$rid=')[2]}", b'{"said": "hello"}')

    thread = threading.Thread(target=serve)
    thread.start()
    out = farshore.ok("iothub", "call", name, "greet", '{"who": "you"}')
    thread.join()
    assert out.startswith("status 201\n") and '"said": "hello"' in out
    assert farshore("iothub", "call", name, "greet", "{")[0] == 2
    assert farshore("iothub", "call", name, "greet", "--module", "absent")[0] == 3


def test_messages_both_ways(farshore, device, tmp_path):
    name, connect = device
    client = connect()
    client.say(f"devices/{name}/messages/events/a=b", b'{"t": 21.5}')
    assert '{"t": 21.5}' in farshore.ok("iothub", "messages", name)
    [found] = json.loads(farshore.ok("iothub", "messages", name, "--json"))
    assert found["json"] == {"t": 21.5} and found["properties"] == {"a": "b"}
    assert name in farshore.ok("iothub", "messages")
    assert farshore.ok("iothub", "waiting", name) == "nothing waits\n"
    assert "waits for" in farshore.ok("iothub", "send", name, "stop", "--property", "urgency=high")
    (tmp_path / "picture").write_bytes(b"\xff\xd8")
    farshore.ok("iothub", "send", name, "--file", "picture")
    out = farshore.ok("iothub", "waiting", name)
    assert "stop" in out and "urgency=high" in out and "2 bytes" in out
    client.subscribe(f"devices/{name}/messages/devicebound/#")
    assert client.expect(Publish).payload == b"stop"
    assert farshore("iothub", "send", name)[0] == 2


def test_provisioning(farshore):
    out = farshore.ok("iothub", "provisioning", "--registration", "turbine-8")
    assert "farshore" in out and "its key" in out
    assert json.loads(farshore.ok("iothub", "provisioning", "--json"))["key"]


def test_the_workload_api_for_a_module(farshore, device, process, tmp_path):
    name, _ = device
    address = f"unix://{tmp_path}/w.sock"
    from farshore.client import Hub

    hub = Hub(process[0], process[1].read_text().strip())
    found = hub.connection(name, "camera")
    command = ["iothub", "workload", name, "--module", "camera", "--listen", address]
    running = Process([*command, "--hub", process[0], "--token", f"@{process[1]}"], tmp_path / "log")
    running.start()
    try:
        wait_for((tmp_path / "w.sock").exists, READY, "the socket", running)
        assert (tmp_path / "w.sock").stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(tmp_path / "w.sock"))
            body = b'{"keyId":"primary","algo":"HMACSHA256","data":"eA=="}'
            path = f"/modules/camera/genid/{found['generation']}/sign?api-version=2018-06-28"
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            link.sendall(head.encode() + body)
            answer = b""
            while data := link.recv(4096):
                answer += data
        assert b" 200 " in answer.splitlines()[0] and b'"digest":' in answer
    finally:
        running.stop()
    log = (tmp_path / "log").read_text()
    for variable, value in workload.environment(found, found["host"], address).items():
        assert f"export {variable}='{value}'" in log


@pytest.mark.parametrize("listen", ["http://0.0.0.0:1", "ftp://x", "unix:", "http://127.0.0.1"])
def test_the_workload_api_leaves_no_machine(farshore, device, listen):
    code, _, err = farshore("iothub", "workload", device[0], "--module", "m", "--listen", listen)
    assert code == 2 and "--listen" in err


def test_bodies_of_the_workload_api_are_bounded(tmp_path):
    server = workload._server("http://127.0.0.1:0", lambda *_: (200, {}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/trust-bundle"
        with pytest.raises(urllib.error.HTTPError, match="413") as refused:
            urllib.request.urlopen(urllib.request.Request(address, b"", {"Content-Length": "99999999"}), timeout=10)
        refused.value.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
