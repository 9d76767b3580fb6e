"""A hub that is its own authority: what it makes, when it makes it anew, and that devices believe this hub and no other."""

import datetime as dt
import ipaddress
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.hub.conftest import Process
from tests.sim.devices import enrol_body

from farshore.agent import identity
from farshore.agent.settings import Settings as AgentSettings
from farshore.cli.world import wait_for
from farshore.client import Hub as Client
from farshore.core import invitation
from farshore.core.errors import Denied, Invalid, Unavailable
from farshore.core.wire import SyncRequest
from farshore.hub import authority
from farshore.hub.settings import Settings
from farshore.tls import peer, pins

NOW, DAY = 1_790_000_000.0, 86400
NAMES = ["hub.example", "10.0.0.7", "::1", "høstbøye.example"]


def certificate(made):
    return x509.load_pem_x509_certificate(made.certificate.read_bytes())


def test_what_it_makes(tmp_path):
    made = authority.settle(tmp_path / "tls", NAMES, NOW)
    ca, own = x509.load_pem_x509_certificate(made.pem), certificate(made)
    own.verify_directly_issued_by(ca)
    for one in (ca, own):
        assert isinstance(one.public_key().curve, ec.SECP256R1)
    said = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert said.get_values_for_type(x509.DNSName) == ["hub.example", "xn--hstbye-byad.example"]
    assert said.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.7"), ipaddress.ip_address("::1")]
    assert own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert own.not_valid_after_utc - own.not_valid_before_utc == dt.timedelta(days=91)
    for path in (tmp_path / "tls").glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


def test_it_stays_until_it_is_due_or_the_names_change(tmp_path):
    first = authority.settle(tmp_path, NAMES, NOW)
    held = first.certificate.read_bytes()
    assert authority.settle(tmp_path, NAMES, first.renew - 2) == first
    assert first.certificate.read_bytes() == held
    later = authority.settle(tmp_path, NAMES, first.renew + 1)
    assert later.certificate.read_bytes() != held
    assert later.renew == pytest.approx(first.renew + 60 * DAY, abs=2)
    assert later.pin == first.pin  # what devices believe does not change with it
    assert authority.settle(tmp_path, [*NAMES, "more.example"], first.renew + 1).pin == first.pin
    assert "more.example" in str(certificate(first).extensions)


def test_a_certificate_of_another_authority_or_key_is_made_anew(tmp_path):
    one, _ = (authority.settle(tmp_path / name, NAMES, NOW) for name in ("one", "other"))
    for name in ("hub.pem", "hub.key"):
        (tmp_path / "one" / name).write_bytes((tmp_path / "other" / name).read_bytes())
        again = authority.settle(tmp_path / "one", NAMES, NOW)
        certificate(again).verify_directly_issued_by(x509.load_pem_x509_certificate(one.pem))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(again.certificate, again.key)  # fails where they do not belong together


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "hub.key", "hub.pem"])
def test_a_damaged_file_says_so(tmp_path, name):
    authority.settle(tmp_path, NAMES, NOW)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(Invalid, match=name):
        authority.settle(tmp_path, NAMES, NOW)


def test_what_is_no_name(tmp_path):
    with pytest.raises(Invalid, match="no host name"):
        authority.settle(tmp_path, ["." * 3], NOW)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    hub = Process(folder / "hub", verify=False, FARSHORE_HUB_HOST="0.0.0.0", FARSHORE_HUB_NAMES="127.0.0.1")
    yield hub
    hub.end()


@pytest.fixture
def token(started):
    return started.operator().ask("POST", "/v1/enrolments", json={}).json()["token"]


def test_a_device_enrols_by_the_pin_and_then_checks_certificates(started, token, tmp_path):
    assert invitation.parse(token).ca
    settings = AgentSettings.load(tmp_path, {"hub": started.url}, {})
    who = identity.enrol(settings, token, "pinned")
    pem = (settings.folder / "hub-ca.pem").read_bytes()
    assert pem == (started.data / "tls" / "ca.pem").read_bytes()
    link = identity.open_link(settings, who)
    assert link.sync(SyncRequest()).desired == {"$version": 1}
    link.close()


def test_a_hub_in_between_is_not_believed(started, token, tmp_path, start_process):
    false = start_process(tmp_path / "false", verify=False, FARSHORE_HUB_HOST="0.0.0.0", FARSHORE_HUB_NAMES="127.0.0.1")
    settings = AgentSettings.load(tmp_path / "device", {"hub": false.url}, {})
    with pytest.raises(Denied, match="in between"):
        identity.enrol(settings, token, "d")
    settings = AgentSettings.load(tmp_path / "device", {"hub": started.url}, {})
    who = identity.enrol(settings, token, "d")  # the token was not shown to the false one
    there = AgentSettings.load(tmp_path / "device", {"hub": false.url}, {})
    link = identity.open_link(there, who)
    with pytest.raises(Unavailable, match="certificate"):
        link.sync(SyncRequest())
    link.close()


def test_without_a_pin_its_certificate_is_not_believed(started, token, tmp_path):
    settings = AgentSettings.load(tmp_path, {"hub": started.url}, {})
    with pytest.raises(Unavailable, match="certificate"):
        identity.enrol(settings, invitation.parse(token).secret, "d")


def test_operators_name_the_authority(started, tmp_path):
    secret = started.operator().headers["Authorization"].split()[1]
    ca = tmp_path / "ca.pem"
    pin = invitation.parse(started.operator().ask("POST", "/v1/enrolments", json={}).json()["token"]).ca
    ca.write_bytes(peer.fetch_authority(started.url, pin))
    assert Client(started.url, secret, ca).deployments() == []
    with pytest.raises(Unavailable):
        Client(started.url, secret).deployments()


def test_it_speaks_tls_1_3_alone_and_not_in_the_clear(started):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", started.port)) as link, pytest.raises(ssl.SSLError):
        old.wrap_socket(link)
    assert b"HTTP/1.1 2" not in started.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")


def test_on_loopback_there_is_no_authority(operator):
    operator.ask("GET", "/ca.pem", status=404)
    token = operator.ask("POST", "/v1/enrolments", json={}).json()["token"]
    assert invitation.parse(token).ca == ""
    assert operator.client.post("/device/v1/enrol", json=enrol_body("d", token)).status_code == 200


RUN = """
import asyncio, pathlib, sys, time
from farshore.hub import app
from farshore.hub.hub import Hub
from farshore.hub.settings import Settings

ahead, app.CERTIFICATE_SECONDS = pathlib.Path(sys.argv[3]), 0.1
settings = Settings(data=pathlib.Path(sys.argv[1]), port=int(sys.argv[2]), host="0.0.0.0", names="127.0.0.1", builders=0)
hub = Hub(settings, lambda: time.time() + float(ahead.read_text()))
asyncio.run(app._serve(app.App(hub, closes=False)))
"""


def served(port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link, context.wrap_socket(link) as secured:
            return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True)).serial_number
    except OSError:
        return None


def test_a_running_hub_takes_its_next_certificate_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "ahead").write_text("0")
    arguments = [sys.executable, "-c", RUN, str(tmp_path / "hub"), str(port), str(tmp_path / "ahead")]
    with subprocess.Popen(arguments) as running:
        try:
            wait_for(lambda: served(port), 40, "the hub")
            first = served(port)
            (tmp_path / "ahead.new").write_text(str(61 * DAY))
            (tmp_path / "ahead.new").rename(tmp_path / "ahead")
            wait_for(lambda: served(port) not in {None, first}, 40, "the next certificate")
            pem = (tmp_path / "hub" / "tls" / "ca.pem").read_bytes()
            assert peer.fetch_authority(f"https://127.0.0.1:{port}", pins.pin_of(pem)) == pem  # it answers
            running.send_signal(signal.SIGTERM)
            assert running.wait(30) == 0
        finally:
            running.kill()


def signed_by(authority_key, subject, key, issuer, *, ca=False):
    """A certificate for ``key``, good for a day."""
    name = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])  # noqa: E731
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
    made = made.not_valid_after(now + dt.timedelta(days=1))
    made = made.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return made.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_hub_may_admit_only_who_has_a_certificate(tmp_path, start_process):
    ours, theirs, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    (tmp_path / "ca.pem").write_bytes(signed_by(ours, "ours", ours, "ours", ca=True))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "good.pem").write_bytes(signed_by(ours, "turbine-7", key, "ours") + private)
    (tmp_path / "false.pem").write_bytes(signed_by(theirs, "turbine-7", key, "theirs") + private)
    made = authority.settle(tmp_path / "server", ["127.0.0.1"], time.time())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {
        "FARSHORE_HUB_CERTIFICATE": str(made.certificate), "FARSHORE_HUB_CERTIFICATE_KEY": str(made.key),
        "FARSHORE_HUB_CLIENT_CA": str(tmp_path / "ca.pem"), "FARSHORE_HUB_PORT": str(port),
    }  # fmt: skip
    (tmp_path / "server.pem").write_bytes(made.pem)
    code = "import os; from farshore.hub.app import run; from farshore.hub.settings import read; import pathlib; run(read(os.environ, data=pathlib.Path(os.environ['DATA'])))"
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **settings, "DATA": str(tmp_path / "hub")}
    ) as running:
        try:
            url = f"https://127.0.0.1:{port}"

            def asked(certificate):
                token = (tmp_path / "hub" / "admin.token").read_text().strip()
                return list(Client(url, token, tmp_path / "server.pem", certificate=certificate).devices(""))

            def up():
                try:
                    return asked(tmp_path / "good.pem") == []
                except (OSError, Unavailable):
                    return False

            wait_for(up, 40, "the hub")
            for certificate in (None, tmp_path / "false.pem"):
                with pytest.raises(Unavailable):
                    asked(certificate)
            with pytest.raises(Invalid, match="no certificate with its key"):
                asked(tmp_path / "ca.pem")
        finally:
            running.kill()


def test_client_certificates_need_tls(tmp_path):
    with pytest.raises(Invalid, match="client certificates need TLS"):
        Settings(data=tmp_path, client_ca="ca.pem")
