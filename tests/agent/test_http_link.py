"""The link over real HTTP, against the simulated hub and its worst manners."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import convert
from tests.sim.devices import enrol_body
from tests.sim.http_face import HttpFace, json_answer
from tests.sim.hub import SimHub
from tests.sim.proxy import Proxy
from tests.sim.releases import noise, release

from farshore.agent import http_link
from farshore.agent.http_link import HttpLink
from farshore.core.errors import Conflict, Denied, Invalid, NotFound, TooLarge, Unauthenticated, Unavailable
from farshore.core.wire import EnrolRequest, SyncRequest, TicketRequest

CREDENTIAL = "credential-credential"


@pytest.fixture
def face():
    hub = SimHub()
    hub.add_device("d", CREDENTIAL)
    with HttpFace(hub) as face:
        yield face


@pytest.fixture
def link(face):
    link = HttpLink(face.url, CREDENTIAL)
    yield link
    link.close()


@pytest.fixture
def version(face):
    return face.hub.publish(release())


def weights_of(version):
    return max(version.blobs, key=lambda digest: len(version.blobs[digest]))


def read_all(body):
    with_parts = iter(lambda: body.read(10_000), b"")
    try:
        return b"".join(with_parts)
    finally:
        body.close()


def test_a_whole_conversation(face, version):
    stranger = HttpLink(face.url + "/", None)
    reply = stranger.enrol(
        convert(enrol_body("e", "token-token-token-token", bearer="my-own-credential"), EnrolRequest)
    )
    assert [bytes(one) for one in reply.roots] == face.hub.repo.roots
    stranger.close()
    link = HttpLink(face.url, "my-own-credential")
    face.hub.desire("e", version)
    assert link.sync(SyncRequest(reported={"a": 1})).desired["models"]["detector"]["version"] == 1
    assert face.hub.twins["e"].reported.values == {"a": 1}
    assert link.manifest(version.digest) == version.payload
    weights = weights_of(version)
    (route,) = link.tickets(TicketRequest(weights)).routes
    body = link.fetch(route.url, 0)
    assert (body.start, body.total) == (0, 300_000)
    assert read_all(body) == version.blobs[weights]
    body = link.fetch(route.url, 299_000)
    assert (body.start, body.total) == (299_000, 300_000)
    assert read_all(body) == version.blobs[weights][299_000:]
    link.close()


def test_the_credential_goes_to_the_hub_and_nowhere_else(face, link, version):
    (route,) = link.tickets(TicketRequest(weights_of(version))).routes
    with HttpFace(face.hub) as store:
        read_all(link.fetch(store.url + route.url, 0))
        assert not any("Authorization" in headers for _, _, headers in store.seen)
    read_all(link.fetch(route.url, 0))
    assert ["Authorization" in headers for _, _, headers in face.seen] == [True, False]


def test_connections_are_kept(face, version):
    with Proxy(face.port) as proxy:
        link = HttpLink(proxy.url, CREDENTIAL)
        for _ in range(5):
            link.sync(SyncRequest())
            (route,) = link.tickets(TicketRequest(weights_of(version))).routes
            read_all(link.fetch(route.url, 0))
        assert proxy.made == 1
        link.close()


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda link: link.manifest("sha256:" + "0" * 64), NotFound),
        (lambda link: link.tickets(TicketRequest("sha256:" + "0" * 64)), NotFound),
        (lambda link: link.fetch("/objects/sha256:" + "0" * 64 + "?ticket=9", 0), Denied),
        (lambda link: link.fetch("file:///etc/passwd", 0), Invalid),
    ],
)
def test_what_the_hub_refuses_comes_by_its_name(link, ask, error):
    with pytest.raises(error):
        ask(link)


def test_an_unknown_credential(face):
    link = HttpLink(face.url, "another-credential")
    with pytest.raises(Unauthenticated):
        link.sync(SyncRequest())
    link.close()


def test_a_range_behind_the_end(link, version):
    (route,) = link.tickets(TicketRequest(weights_of(version))).routes
    with pytest.raises(Conflict):
        link.fetch(route.url, 300_000)


ANSWERS = {
    "a captive portal's page": (200, {"Content-Type": "text/html"}, b"<html>Please log in"),
    "a captive portal's redirect": (302, {"Location": "http://portal/"}, b""),
    "a broken gateway": (502, {}, b"<html>Bad gateway"),
    "json of another kind": json_answer(200, {"retry": "soon"}),
    "json of no kind": json_answer(200, [1]),
    "nothing": (200, {}, b""),
    "broken gzip": (200, {"Content-Encoding": "gzip"}, b"no gzip at all"),
    "too long": (200, {}, b" " * (http_link.MAX_REPLY + 1)),
    "a gzip bomb": json_answer(200, "0" * 50_000_000, zipped=True),
    "a status from nowhere": (418, {}, b"{}"),
    "an error code from the future": json_answer(499, {"error": {"code": "tired", "message": "come back"}}),
    "a short answer": (200, {"Content-Length": "1000"}, b"{}"),
    "odd length": (200, {"Content-Length": "many"}, b"{}"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_that_is_not_a_hubs_means_later(face, answer, monkeypatch):
    monkeypatch.setattr(http_link, "READ_SECONDS", 1.0)
    link = HttpLink(face.url, CREDENTIAL)

    def spoil(_path, _answer):
        return answer

    face.spoil = spoil
    if answer[1].get("Content-Length") == "1000":
        with Proxy(face.port) as proxy:
            proxy.cuts = [100]
            short = HttpLink(proxy.url, CREDENTIAL)
            with pytest.raises(Unavailable):
                short.sync(SyncRequest())
            short.close()
        return
    with pytest.raises(Unavailable):
        link.sync(SyncRequest())
    link.close()


def test_compressed_answers(face, link, version):
    face.hub.desire("d", version)
    face.spoil = lambda _path, answer: json_answer(200, json.loads(answer[2]), zipped=True)
    assert link.sync(SyncRequest()).desired["models"]
    assert "gzip" in face.seen[0][2]["Accept-Encoding"]


def test_a_manifest_without_end(face, link, version):
    face.spoil = lambda _path, _answer: (200, {}, bytes(3 << 20))
    with pytest.raises(TooLarge):
        link.manifest(version.digest)


RANGES = {
    "no Content-Range": (206, {}, b"x" * 10),
    "unreadable": (206, {"Content-Range": "bytes */300000"}, b"x" * 10),
    "backwards": (206, {"Content-Range": "bytes 20-10/300000"}, b"x" * 10),
    "behind its own end": (206, {"Content-Range": "bytes 10-30/20"}, b"x" * 21),
    "length and range differ": (206, {"Content-Range": "bytes 10-20/300000"}, b"x" * 10),
}


@pytest.mark.parametrize("answer", RANGES.values(), ids=RANGES.keys())
def test_a_senseless_range_is_refused(face, link, version, answer):
    (route,) = link.tickets(TicketRequest(weights_of(version))).routes
    face.spoil = lambda _path, _answer: answer
    with pytest.raises(Conflict):
        link.fetch(route.url, 10)


def test_an_object_that_was_encoded_on_its_way(face, link, version):
    (route,) = link.tickets(TicketRequest(weights_of(version))).routes
    face.spoil = lambda _path, answer: (200, {"Content-Encoding": "gzip"}, answer[2])
    with pytest.raises(Unavailable):
        link.fetch(route.url, 0)


def test_whole_answer_to_a_range(face, link, version):
    (route,) = link.tickets(TicketRequest(weights_of(version))).routes
    face.spoil = lambda _path, _answer: (200, {}, b"x" * 300_000)
    body = link.fetch(route.url, 10)
    assert (body.start, body.total) == (0, 300_000)
    body.close()


@pytest.mark.parametrize("cut", [1000, 70_000, 200_000])
def test_what_arrived_before_a_cut_is_given(face, version, cut):
    with Proxy(face.port) as proxy:
        link = HttpLink(proxy.url, CREDENTIAL)
        (route,) = link.tickets(TicketRequest(weights_of(version))).routes
        link.close()
        proxy.cuts = [cut]
        body, got = link.fetch(route.url, 0), b""
        try:
            while piece := body.read(64 * 1024):
                got += piece
        except Unavailable:
            pass
        body.close()
        link.close()
        assert cut - 500 < len(got) < cut
        assert version.blobs[weights_of(version)].startswith(got)


def test_no_hub(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    link = HttpLink(f"http://127.0.0.1:{port}", CREDENTIAL)
    with pytest.raises(Unavailable, match="refused"):
        link.sync(SyncRequest())
    link.close()


def test_a_hub_that_says_nothing(monkeypatch):
    monkeypatch.setattr(http_link, "READ_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = HttpLink(f"http://127.0.0.1:{server.getsockname()[1]}", CREDENTIAL)
        with pytest.raises(Unavailable, match="no answer in time"):
            link.sync(SyncRequest())
        link.close()


def test_a_pinned_authority_that_cannot_be_read(tmp_path):
    with pytest.raises(Invalid, match="certificate authority"):
        HttpLink("https://hub", None, tmp_path / "ca.pem")
    (tmp_path / "ca.pem").write_bytes(noise(100, "ca"))
    with pytest.raises(Invalid, match="certificate authority"):
        HttpLink("https://hub", None, tmp_path / "ca.pem")


@pytest.fixture
def certificate(tmp_path):
    """A certificate for this machine, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path, text = tmp_path / "hub.pem", serialization.Encoding.PEM
    private = key.private_bytes(text, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(text))
    path.with_suffix(".key").write_bytes(private)
    return path


def test_tls_believes_the_pinned_authority_and_no_other(certificate):
    hub = SimHub()
    hub.add_device("d", CREDENTIAL)
    with HttpFace(hub) as face:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        face._server.socket = context.wrap_socket(face._server.socket, server_side=True)
        url = f"https://127.0.0.1:{face.port}"
        pinned, unpinned = HttpLink(url, CREDENTIAL, certificate), HttpLink(url, CREDENTIAL)
        assert pinned.sync(SyncRequest()).desired is not None
        with pytest.raises(Unavailable, match="certificate"):
            unpinned.sync(SyncRequest())
        elsewhere = HttpLink(f"https://localhost:{face.port}", CREDENTIAL, certificate)
        with pytest.raises(Unavailable, match=r"certificate|refused"):
            elsewhere.sync(SyncRequest())
        for link in (pinned, unpinned, elsewhere):
            link.close()
        assert len(face.seen) == 1  # the credential was sent to nobody else
