"""A thin link for demonstrations: a TCP relay that is slow, counts bytes, and can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_PIECE = 8 * 1024


class ThinLink:
    """Relays connections to ``port`` on this machine at a limited rate.

    Args:
        port: where to.
        rate: bytes a second towards the device; all its connections share it.

    Attributes:
        port: where devices connect.
        down: bytes that went to the device so far; ``up`` from it.
        cuts: connections that were cut while they were open.

    """

    def __init__(self, port: int, rate: float) -> None:
        self._target, self.rate = port, rate
        self.down = self.up = self.cuts = 0
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop every open connection; new ones are served again."""
        with self._lock:
            hit = list(self._open)
            self.cuts += bool(hit)
        for connection in hit:
            _drop(connection)

    def close(self) -> None:
        _drop(self._listener)  # wakes the thread that waits there; closing alone does not
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                device, _ = self._listener.accept()
            except OSError:
                return
            # Small buffers: what lies in them when the device dies was paid for and is lost.
            device.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
            threading.Thread(target=self._serve, args=(device,), daemon=True).start()

    def _serve(self, device: socket.socket) -> None:
        try:
            hub = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            device.close()
            return
        hub.settimeout(None)
        for end in (device, hub):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the relay adds no delay of its own
        with self._lock:
            self._open |= {device, hub}
        upwards = threading.Thread(target=self._pump, args=(device, hub, False), daemon=True)
        upwards.start()
        self._pump(hub, device, True)
        upwards.join()
        with self._lock:
            self._open -= {device, hub}
        device.close()
        hub.close()

    def _pump(self, source: socket.socket, sink: socket.socket, downwards: bool) -> None:
        try:
            while piece := source.recv(_PIECE):
                if downwards:
                    self._wait_for(len(piece))
                with self._lock:
                    if downwards:
                        self.down += len(piece)
                    else:
                        self.up += len(piece)
                sink.sendall(piece)
        except OSError:
            pass
        _drop(source)
        _drop(sink)

    def _wait_for(self, count: int) -> None:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + count / self.rate
        time.sleep(max(0.0, self._free_at - now))


def _drop(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
