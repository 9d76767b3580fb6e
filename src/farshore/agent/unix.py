"""HTTP over a unix socket, for urllib3."""

from __future__ import annotations

import socket
from pathlib import Path

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)  # the pool sets it before each request
            self.sock.connect(str(self._path))
        except BaseException:
            self.sock.close()
            raise


class UnixPool(HTTPConnectionPool):
    """Connections to the server that listens on a socket in the file system.

    Args:
        path: the socket; at most about 100 bytes long, as the operating system demands.
        timeout: seconds to wait for each read.

    """

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout, maxsize=1)
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        self.num_connections += 1
        return _UnixConnection(self._path)
