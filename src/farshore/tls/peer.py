"""Calling a hub: where TLS is needed, with whom to believe, and the first contact with a hub that is its own authority."""

from __future__ import annotations

import http.client
import ipaddress
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from farshore.core.errors import Invalid, Unavailable
from farshore.tls import pins

AUTHORITY = "/ca.pem"
SECONDS = 60.0
NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, which Python does not name."""


def is_loopback(host: str) -> bool:
    """Whether what is sent to ``host`` stays on this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_address(url: str, *, insecure: bool = False) -> None:
    """Pass if secrets may be sent to ``url``.

    Args:
        url: of a hub.
        insecure: plain HTTP may leave this machine.

    Raises:
        Invalid: no HTTP address, or plain HTTP to another machine.

    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        raise Invalid(f"bad hub URL {url[:80]!r}: http://HOST:PORT or https://HOST is needed")
    if parts.scheme == "http" and not insecure and not is_loopback(host):
        raise Invalid(
            f"{url[:80]}: plain HTTP would send secrets over the network; use https, or say --insecure-http if nobody"
            " else is on it"
        )


def context(
    ca: Path | None = None, *, pinned: bool = False, certificate: Path | None = None,
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:  # fmt: skip
    """A context that checks certificate and name.

    Args:
        ca: PEM file with the only authorities to believe; None for the system's.
        pinned: ``ca`` was believed by its pin, as the hub's own. Then a certificate's dates are not looked at: a device whose clock
            is wrong by decades must still reach its hub, and who could sign an old certificate could sign a new one.

        certificate: PEM file with our own chain and its key, for a hub that admits only who has one; None for none.
        oldest: version of TLS; clouds' own services still need 1.2.

    Raises:
        Invalid: nothing can be read from one of them.

    """
    try:
        made = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"{ca}: no certificate authority can be read from it ({error})") from error
    made.minimum_version = oldest
    if pinned:
        made.verify_flags |= NO_CHECK_TIME
    _present(made, certificate)
    return made


def _present(made: ssl.SSLContext, certificate: Path | None) -> None:
    """Let the other side see our certificate, if it asks for one."""
    if certificate is not None:
        try:
            made.load_cert_chain(certificate)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(f"{certificate}: no certificate with its key can be read from it ({error})") from error


def fetch_authority(url: str, pin: str, certificate: Path | None = None) -> bytes:
    """The certificate of the authority of the hub at ``url``: taken from whoever answers, believed by its pin alone.

    Args:
        url: of the hub.
        pin: of its authority.
        certificate: as for :func:`context`.

    Returns:
        PEM.

    Raises:
        Denied: the pin is another's.
        Unavailable: no hub answers.

    """
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = (
        ssl.CERT_NONE
    )  # what comes is checked against the pin, and nothing else is said on this connection
    unchecked.minimum_version = ssl.TLSVersion.TLSv1_3
    _present(unchecked, certificate)
    parts = urlsplit(url)
    link = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=SECONDS, context=unchecked)
    try:
        link.request("GET", parts.path.rstrip("/") + AUTHORITY)
        response = link.getresponse()
        data = response.read(pins.MAX_PEM + 1)
    except (http.client.HTTPException, OSError) as error:
        raise Unavailable(f"{url}: no hub answers ({' '.join(str(error).split())[:200]})") from error
    finally:
        link.close()
    if response.status != 200:
        raise Unavailable(f"{url} has no authority of its own (status {response.status}): is it the hub of that token?")
    return pins.check(data, pin)
