"""A wire between a device and its hub that a test can cut at any byte, and count."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Self


class Proxy:
    """Forwards TCP connections to ``port`` on this machine while inside the ``with``.

    Its own buffers are small, so that what it counts is what the device got.

    Attributes:
        cuts: bytes toward the device after which the coming connections are cut, one each; None lets one pass whole.
        rate: bytes a second toward the device on each connection; None for no limit.
        down: bytes moved toward the device so far.
        made: connections so far.

    """

    def __init__(self, port: int, *, rate: float | None = None) -> None:
        self.cuts: list[int | None] = []
        self.rate = rate
        self.down = 0
        self.made = 0
        self._target = port
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._threads[0].join()  # from here on nobody comes any more
        self.cut()
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    def cut(self) -> None:
        """Cut every connection now."""
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _spawn(self, what, *arguments) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                device, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.made += 1
            device.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            try:
                hub = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                device.close()
                continue
            hub.settimeout(None)
            device.settimeout(None)
            self._open |= {device, hub}
            ends = threading.Barrier(2)
            self._spawn(self._pump, device, hub, None, False, ends)
            self._spawn(self._pump, hub, device, self.cuts.pop(0) if self.cuts else None, True, ends)

    def _pump(self, source, sink, cut, downward, ends) -> None:
        moved = 0
        try:
            while data := source.recv(4096):
                if cut is not None:
                    data = data[: cut - moved]
                if downward and self.rate is not None:
                    time.sleep(len(data) / self.rate)
                sink.sendall(data)
                moved += len(data)
                self.down += len(data) if downward else 0
                if cut is not None and moved >= cut:
                    break
        except OSError:
            pass
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(threading.BrokenBarrierError):
            ends.wait(5)
        self._open.discard(source)
        source.close()
