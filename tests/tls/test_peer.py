import ssl

import pytest

from farshore.core.errors import Invalid, Unavailable
from farshore.hub import authority
from farshore.tls import peer


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_loopback(host):
    assert peer.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "10.0.0.1", "localhost.example", "127.0.0.1.example", "::", "::2", "hub"]
)
def test_not_loopback(host):
    assert not peer.is_loopback(host)


@pytest.mark.parametrize(
    "url",
    [
        "https://hub.example",
        "https://10.0.0.1:8400/base",
        "http://localhost:8400",
        "http://[::1]:1",
        "http://127.0.0.1",
    ],
)
def test_addresses_that_keep_secrets(url):
    peer.check_address(url)


@pytest.mark.parametrize("url", ["http://hub.example", "http://10.0.0.1:8400", "http://localhost.example"])
def test_plain_http_beyond_this_machine_has_to_be_asked_for(url):
    with pytest.raises(Invalid, match="--insecure-http"):
        peer.check_address(url)
    peer.check_address(url, insecure=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hub.example",
        "ftp://hub",
        "file:///etc/passwd",
        "http://",
        "https://user:secret@hub",
        "https://hub:99999",
        "http://[::1",
    ],
)
def test_what_is_no_address_of_a_hub(url):
    with pytest.raises(Invalid, match="bad hub URL"):
        peer.check_address(url, insecure=True)


def test_contexts_check_names_and_speak_tls_1_3_alone(tmp_path):
    made = peer.context()
    assert made.minimum_version == ssl.TLSVersion.TLSv1_3
    assert made.check_hostname and made.verify_mode == ssl.CERT_REQUIRED
    (tmp_path / "bad.pem").write_text("no certificate")
    for path in (tmp_path / "bad.pem", tmp_path / "absent.pem"):
        with pytest.raises(Invalid, match=path.name):
            peer.context(path)


def test_first_contact_without_a_hub():
    with pytest.raises(Unavailable, match="no hub answers"):
        peer.fetch_authority("https://127.0.0.1:9", "p" * 43)


def handshake(made, client):
    """Client and server over memory; whoever is not content raises."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.certificate, made.key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(back, there, server_hostname="hub.example")
    other = server.wrap_bio(there, back, server_side=True)
    done = set()
    for _ in range(20):
        for side in (one, other):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert done == {one, other}


@pytest.mark.parametrize("year", [1971, 2007, 2070])
def test_a_pinned_hub_is_reached_with_a_clock_that_is_wrong_by_decades(tmp_path, year):
    """The certificate is of another decade than the clock; only a pinned authority is believed like this."""
    made = authority.settle(tmp_path, ["hub.example"], (year - 1970) * 365.25 * 86400)
    (tmp_path / "authority.pem").write_bytes(made.pem)
    handshake(made, peer.context(tmp_path / "authority.pem", pinned=True))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
        handshake(made, peer.context(tmp_path / "authority.pem"))


def test_a_pinned_authority_is_no_leave_for_others_nor_for_other_names(tmp_path):
    made, other = (authority.settle(tmp_path / name, ["hub.example"], 1.79e9) for name in ("one", "other"))
    elsewhere = authority.settle(tmp_path / "one", ["elsewhere.example"], 1.79e9)
    (tmp_path / "authority.pem").write_bytes(made.pem)
    pinned = peer.context(tmp_path / "authority.pem", pinned=True)
    for false in (other, elsewhere):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(false, pinned)
