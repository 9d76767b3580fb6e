"""``farshore iothub workload``: IoT Edge's workload API for modules of one device, on the machine where they run."""

from __future__ import annotations

import os
import socketserver
import stat
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import msgspec

from farshore.cli.connection import with_hub
from farshore.core.errors import FarshoreError, Invalid, Unavailable
from farshore.mqtt import workload as api
from farshore.tls import peer

if TYPE_CHECKING:
    from farshore.client import Hub

SECONDS = 10.0
"""A client has this long for its request."""


@click.command()
@click.argument("name", metavar="DEVICE")
@click.option("--module", "modules", multiple=True, required=True, help="Module to sign for; repeatable.")
@click.option("--gateway", default="", help="Where modules connect.  [default: the hub's first name]")
@click.option(
    "--listen", required=True, metavar="ADDRESS", help="unix:///run/farshore/workload.sock, or http://127.0.0.1:PORT."
)
@with_hub
def workload(hub: Hub, name: str, modules: tuple[str, ...], gateway: str, listen: str) -> None:
    """Sign tokens for modules that start with create_from_edge_environment; no key sits in their environment.

    It prints, for each module, the variables to start it with, and serves until it is stopped. Whoever reaches the address may
    speak as these modules: a socket is its owner's alone; a port is everybody's on this machine.

    \b
    farshore iothub workload turbine-7 --module camera --listen unix:///run/farshore/workload.sock
    """
    known = {module: hub.connection(name, module) for module in modules}
    trusted = next(iter(known.values()))["ca"]

    def key(module: str, generation: str) -> str | None:
        """Asked anew each time: a module that was made anew has another key."""
        if module not in known:
            return None
        try:
            found = hub.connection(name, module)
        except FarshoreError as error:
            click.echo(f"{module}: {error.message}", err=True)
            return None
        parts = dict(part.split("=", 1) for part in found["connection_string"].split(";"))
        return parts.get("SharedAccessKey") if found["generation"] == generation else None

    with _server(listen, lambda method, target, body: api.answer(method, target, body, key, trusted)) as server:
        address = listen if listen.startswith("unix:") else f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        for module, found in known.items():
            click.echo(f"# {name}/{module}")
            for variable, value in environment(found, gateway or found["host"], address).items():
                click.echo(f"export {variable}='{value}'")
        click.echo(f"serving at {address}", err=True)
        server.serve_forever()


def environment(found: dict[str, Any], gateway: str, address: str) -> dict[str, str]:
    """The variables that a module needs to start by the workload API."""
    return {
        "IOTEDGE_IOTHUBHOSTNAME": found["host"],
        "IOTEDGE_GATEWAYHOSTNAME": gateway,
        "IOTEDGE_DEVICEID": found["device"],
        "IOTEDGE_MODULEID": found["module"],
        "IOTEDGE_MODULEGENERATIONID": found["generation"],
        "IOTEDGE_WORKLOADURI": address,
        "IOTEDGE_APIVERSION": api.VERSION,
        "IOTEDGE_AUTHSCHEME": "sasToken",
    }


class _Handler(BaseHTTPRequestHandler):
    """One request of a module's."""

    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    answer: Any

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > api.MAX_BODY:
            self.close_connection = True
            self._reply(413, {"message": f"at most {api.MAX_BODY} bytes are taken"})
            return
        self._reply(*type(self).answer(self.command, self.path, self.rfile.read(int(length))))

    do_GET = do_POST = _serve  # noqa: N815 - named by the library

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        data = msgspec.json.encode(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "local"

    def log_message(self, *_: Any) -> None:
        """Silence: what matters is said by the hub."""


def _server(listen: str, answer: Any) -> socketserver.TCPServer:
    handler = type("Handler", (_Handler,), {"answer": staticmethod(answer)})
    place = urlsplit(listen)
    try:
        if place.scheme == "unix" and place.path:
            return _unix(Path(place.path), handler)
        if place.scheme == "http" and peer.is_loopback(place.hostname or "") and place.port is not None:
            return _Tcp((place.hostname or "", place.port), handler)
    except (OSError, ValueError) as error:
        raise Unavailable(f"cannot listen on {listen}: {error}") from error
    raise Invalid(f"--listen {listen[:80]!r}: use unix:///PATH or http://127.0.0.1:PORT")


def _unix(path: Path, handler: type[_Handler]) -> socketserver.TCPServer:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()  # of one that was killed
    before = os.umask(0o177)
    try:
        return _Unix(str(path), handler)
    finally:
        os.umask(before)


class _Tcp(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = allow_reuse_address = True


class _Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
