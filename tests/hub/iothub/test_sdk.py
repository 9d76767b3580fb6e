"""Unmodified azure-iot-device, released and next, against the hub."""

import contextlib
import datetime as dt
import threading
import time
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.hub.iothub.conftest import Running
from tests.hub.iothub.sdk import PORT, Sdk, loopback, needs_port_443

from farshore.cli import workload
from farshore.core.errors import FarshoreError
from farshore.hub.identities import Wanted
from farshore.hub.iothub.door import certificate
from farshore.hub.records import messages
from farshore.mqtt.workload import answer

KINDS = ["device", "device-next"]


class Site:
    """A hub at an address of its own, and SDK clients."""

    def __init__(self, folder, stack, **settings):
        self.folder, self.stack, self.address = folder, stack, loopback()
        self.running = Running(folder / "hub", host=self.address, **{"iothub_port": PORT, **settings})
        stack.callback(self._stop)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate(self.running.hub)[2])

    def _stop(self):
        self.running.stop()

    def string(self, device, module="", key=None):
        key = key or self.running.identity(device, module)
        named = f";ModuleId={module}" if module else ""
        return f"HostName={self.address};DeviceId={device}{named};SharedAccessKey={key}"

    def sdk(self, kind, device=None, module="", key=None, **options):
        sdk = self.bare(kind)
        if device:
            string = self.string(device, module, key)
            sdk.ask("create", connection_string=string, ca=str(self.ca), module=bool(module), **options)
        return sdk

    def bare(self, kind, **environment):
        sdk = Sdk(kind, **environment)
        self.stack.callback(sdk.close)
        return sdk

    def received(self):
        with self.running.hub.database.reading() as tx:
            return messages.after(tx, 0, 1000)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def site(tmp_path, kind):
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack)


def eventually(look, seconds=30):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it never held"
        time.sleep(0.05)
    return found


def test_twin_get_report_and_desired(site, kind):
    sdk = site.sdk(kind, "d1")
    sdk.ask("connect")
    assert sdk.ask("get_twin") == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    sdk.ask("report", change={"a": {"b": 1}, "c": "å"})
    assert sdk.ask("get_twin")["reported"] == {"a": {"b": 1}, "c": "å", "$version": 2}
    assert site.running.hub.fleet.twin("d1").reported.values == {"a": {"b": 1}, "c": "å"}
    sdk.ask("listen")
    site.running.patch("d1", {"mode": "night", "gone": 1})
    sdk.until(2)
    site.running.patch("d1", {"mode": "night", "gone": None})
    assert sdk.until(3) == {"mode": "night", "gone": None, "$version": 3}
    refused = sdk.try_("report", change={"bad.key": 1})
    assert (refused["error"], "400" in refused["cause"]) == ("ClientError", True)


def test_methods_messages_outputs_and_inputs(site, kind):
    site.running.identity("d1")
    sdk = site.sdk(kind, "d1", "m")
    sdk.ask("connect")
    sdk.ask("methods", status=201)
    eventually(lambda: called(site, "d1", "m", {"x": [1, None]}))
    sdk.ask("send", data="hello", temperature="21 °C", mid="m1")
    sdk.ask("send", data="frame", output="frames")
    found = [(one.module, one.output, one.message and one.message[:3], one.body) for one in site.received()]
    assert found == [("m", "", "m1:", b"hello"), ("m", "frames", None, b"frame")]
    assert site.received()[0].properties["temperature"] == "21 °C"
    sdk.ask("messages")
    send(site, "d1", b"to input", module="m", input="in")
    assert sdk.next("message")["input"] == "in"
    eventually(lambda: not pending(site, "d1", "m"))


def called(site, device, module, payload):
    try:
        found = site.running.do(site.running.hub.connected.invoke(device, module, "echo", payload, 10))
    except FarshoreError:
        return None
    assert (found.status, found.payload) == (201, {"echo": payload})
    return True


def send(site, device, body, module="", **more):
    hub = site.running.hub
    now = hub.clock()
    made = {"input": "", "properties": {"k": "v w"}, **more}
    row = messages.Waiting(0, device, module, made["input"], 0, False, now, now + 600, made["properties"], body)
    with hub.database.writing() as tx:
        messages.send(tx, row)
    site.running.loop.call_soon_threadsafe(hub.connected.deliver, device, module)


def pending(site, device, module=""):
    with site.running.hub.database.reading() as tx:
        return messages.pending(tx, device, module, site.running.hub.clock())


def test_cloud_to_device_waits_and_comes(site, kind):
    key = site.running.identity("d1")
    send(site, "d1", b"while away")
    sdk = site.sdk(kind, "d1", key=key)
    sdk.ask("connect")
    sdk.ask("messages")
    first = sdk.next("message")
    assert (first["data"], first["properties"]) == ("while away", {"k": "v w"})
    send(site, "d1", b"now")
    assert sdk.next("message")["data"] == "now"
    eventually(lambda: not pending(site, "d1"))


def restart(site, meanwhile=lambda: None):
    """Stop the hub and start it again on the same data; ``meanwhile`` changes what no client hears of."""
    site.running.stop()
    from farshore.hub.app import create_app

    settings = site.running.settings
    app = create_app(settings)
    site.running.hub = app.hub
    meanwhile()
    app.hub.close()
    site.running.start()


def test_the_hub_restarts_in_mid_session(site, kind):
    sdk = site.sdk(kind, "d1", connection_retry_interval=1)
    sdk.ask("connect")
    sdk.ask("listen")
    sdk.ask("methods")
    site.running.patch("d1", {"n": 1})
    sdk.until(2)
    restart(site)
    sdk.next("connected", value=True)
    site.running.patch("d1", {"n": 2})
    assert sdk.until(3)["n"] == 2  # it does not subscribe again: the hub remembered
    site.running.do(site.running.hub.connected.invoke("d1", "", "m", None, 10))


def test_a_change_while_it_was_offline_is_not_lost(site, kind):
    sdk = site.sdk(kind, "d1", connection_retry_interval=1)
    sdk.ask("connect")
    sdk.ask("listen")
    site.running.patch("d1", {"n": 1})
    sdk.until(2)
    change = {"properties": {"desired": {"n": 2}}}
    restart(site, lambda: site.running.hub.fleet.change_twin("d1", change, None, replace=False))
    assert sdk.until(3)["n"] == 2


def test_refused_with_3_it_comes_again(site, kind):
    sdk = site.sdk(kind, "d1", connection_retry_interval=1)
    sdk.ask("connect")
    site.running.loop.call_soon_threadsafe(site.running.hub.bells.close)  # full, or starting: code 3
    site.running.loop.call_soon_threadsafe(site.running.hub.connected.end, "d1", "", "a cut")
    sdk.next("connected", value=False)
    time.sleep(3)
    assert not site.running.hub.connected.connected("d1")
    site.running.loop.call_soon_threadsafe(site.running.hub.bells.open)
    sdk.next("connected", value=True)


def test_refused_with_5_it_gives_up(site, kind):
    sdk = site.sdk(kind, "d1", connection_retry_interval=1)
    sdk.ask("connect")
    site.running.hub.standings.revoke("d1", "stolen")
    site.running.ring("d1")
    sdk.next("connected", value=False)
    while "Unauthorized" not in sdk.next("exception")["value"]:
        pass
    site.running.hub.standings.approve("d1")
    time.sleep(3)
    assert not site.running.hub.connected.connected("d1")


def test_a_token_of_125_seconds_is_renewed(site, kind):
    sdk = site.sdk(kind, "d1", sastoken_ttl=125)
    sdk.ask("connect")
    sdk.ask("listen")
    sdk.next("connected", value=True)
    sdk.next("connected", value=False, seconds=30)  # the SDK renews 120 seconds before the end
    sdk.next("connected", value=True, seconds=30)
    site.running.patch("d1", {"n": 1})
    assert sdk.until(2)["n"] == 1


def test_a_drop_before_the_acknowledgement_loses_and_doubles_nothing(site, kind, monkeypatch):
    from farshore.hub.iothub.connection import Connection

    cut, keep = [], Connection._keep

    async def kept_and_cut(self, together):
        await keep_only(self, together) if not cut else await keep(self, together)

    async def keep_only(self, together):
        cut.append(True)
        await self._room.mail.keep([message for _, message in together])
        self.end("a cut between disk and acknowledgement")

    sdk = site.sdk(kind, "d1", connection_retry_interval=1)
    sdk.ask("connect")
    monkeypatch.setattr(Connection, "_keep", kept_and_cut)
    sdk.ask("send", data="once", mid="only")  # returns when it was acknowledged, in the second connection
    assert cut
    assert [one.body for one in site.received()] == [b"once"]


def test_the_newcomer_takes_over(site, kind):
    key = site.running.identity("d1")
    first = site.sdk(kind, "d1", key=key, connection_retry=False)
    first.ask("connect")
    second = site.sdk(kind, "d1", key=key, connection_retry=False)
    second.ask("connect")
    first.next("connected", value=False)
    second.ask("report", change={"who": "second"})
    assert len(site.running.hub.connected) == 1


def test_provisioning(site, kind):
    from farshore.hub.iothub import provisioning

    key = provisioning.device_key(site.running.hub, "reg-1")
    sdk = site.sdk(kind)
    given = {"host": site.address, "scope": provisioning.SCOPE, "registration": "reg-1", "key": key, "ca": str(site.ca)}
    assert sdk.ask("provision", **given) == {"status": "assigned", "hub": site.address, "device": "reg-1"}
    device = site.sdk(kind, "reg-1", key=key)
    device.ask("connect")
    refused = sdk.try_("provision", **{**given, "registration": "reg-2"})
    assert "error" in refused


def test_a_certificate_by_our_authority_is_enough(tmp_path, kind):
    folder, strangers = tmp_path / "certificates", tmp_path / "strangers"
    folder.mkdir()
    strangers.mkdir()
    authority = make_authority(folder)
    with contextlib.ExitStack() as stack:
        site = Site(tmp_path, stack, iothub_client_ca=str(folder / "ca.pem"))
        site.running.hub.identities.put("d1", "", Wanted(kind="certificateAuthority"), None)
        make_certificate(folder, "d1", *authority)
        make_certificate(folder, "d2", *authority)
        make_certificate(folder, "stranger", *make_authority(strangers), name="d1")
        given = {"host": site.address, "device": "d1", "ca": str(site.ca)}
        sdk = site.bare(kind)
        sdk.ask("create", certificate=str(folder / "d1.pem"), key=str(folder / "d1.key"), **given)
        sdk.ask("connect")
        sdk.ask("report", change={"by": "certificate"})
        for other in ("d2", "stranger"):
            refused = site.bare(kind)
            refused.ask("create", certificate=str(folder / f"{other}.pem"), key=str(folder / f"{other}.key"), **given)
            assert "error" in refused.try_("connect")
        assert site.running.hub.fleet.twin("d1").reported.values == {"by": "certificate"}


def test_an_edge_module_starts_by_a_connection_string(site, kind):
    key = site.running.identity("d1") and site.running.identity("d1", "m")
    string = f"HostName=localhost;GatewayHostName={site.address};DeviceId=d1;ModuleId=m;SharedAccessKey={key}"
    sdk = site.bare(kind, EdgeHubConnectionString=string, EdgeModuleCACertificateFile=str(site.ca))
    sdk.ask("create", edge=True)
    sdk.ask("connect")
    sdk.ask("send", data="x", output="out")
    assert [(one.module, one.output) for one in site.received()] == [("m", "out")]


@contextlib.contextmanager
def module_environment(site, scheme):
    """What module ``m`` of ``d1`` needs to start by the workload API, and who asked that API for signatures."""
    key = site.running.identity("d1") and site.running.identity("d1", "m")
    generation = site.running.hub.identities.one("d1", "m").identity.generation
    listen = "http://127.0.0.1:0" if scheme == "http" else f"unix://{site.folder}/w.sock"
    asked = []

    def keys(module, wanted):
        asked.append(module)
        return key if (module, wanted) == ("m", generation) else None

    server = workload._server(listen, partial(answer, keys=keys, trusted=site.ca.read_text()))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = listen if scheme == "unix" else f"http://127.0.0.1:{server.server_address[1]}"
        found = {"host": site.address, "device": "d1", "module": "m", "generation": generation}
        yield workload.environment(found, site.address, address), asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("scheme", ["http", "unix"])
def test_an_edge_module_starts_by_the_workload_api(site, kind, scheme):
    with module_environment(site, scheme) as (environment, asked):
        sdk = site.bare(kind, **environment)
        sdk.ask("create", edge=True)
        sdk.ask("connect")
        sdk.ask("report", change={"key": "none here"})
    assert asked == ["m"]


def test_websockets(tmp_path, kind):
    with contextlib.ExitStack() as stack:
        needs_port_443()
        site = Site(tmp_path, stack, iothub_websocket_port=443)
        sdk = site.sdk(kind, "d1", websockets=True)
        sdk.ask("connect")
        sdk.ask("report", change={"over": "websockets"})
        sdk.ask("send", data="x" * 100_000)
        sdk.ask("listen")
        site.running.patch("d1", {"a": 1})
        assert sdk.until(2)["a"] == 1
        assert len(site.received()[0].body) == 100_000


def make_authority(folder):
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = signed(name, key.public_key(), name, key, ca=True)
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made, key


def make_certificate(folder, file, authority, authority_key, name=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or file)])
    made = signed(subject, key.public_key(), authority.subject, authority_key, ca=False)
    pem = serialization.Encoding.PEM
    (folder / f"{file}.pem").write_bytes(made.public_bytes(pem))
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{file}.key").write_bytes(plain)


def signed(subject, public, issuer, key, *, ca):
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
