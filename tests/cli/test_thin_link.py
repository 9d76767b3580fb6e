"""The thin link counts, slows and cuts."""

import socket
import threading
import time

import pytest

from farshore.cli.thin_link import ThinLink


@pytest.fixture
def echo():
    """A server that sends back what it gets, in capitals."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data.upper())

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits there; closing alone does not
    listener.close()


def exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def test_bytes_pass_and_are_counted(echo):
    link = ThinLink(echo, 1e9)
    with socket.create_connection(("127.0.0.1", link.port)) as connection:
        connection.sendall(b"x" * 100_000)
        assert exactly(connection, 100_000) == b"X" * 100_000
    link.close()
    assert (link.up, link.down) == (100_000, 100_000)


def test_the_rate_holds_over_all_connections(echo):
    link, sent = ThinLink(echo, 100_000), 15_000
    begun = time.monotonic()
    threads = [threading.Thread(target=fetch, args=(link.port, sent)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    link.close()
    assert took > 2 * sent / 100_000 * 0.7  # the last piece need not be waited for; slower is always possible


def fetch(port, count):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"x" * count)
        assert len(exactly(connection, count)) == count


def test_a_cut_ends_what_is_open_and_nothing_else(echo):
    link = ThinLink(echo, 1e9)
    with socket.create_connection(("127.0.0.1", link.port)) as connection:
        connection.sendall(b"a")
        assert exactly(connection, 1) == b"A"
        link.cut()
        assert exactly(connection, 1) == b""
    assert link.cuts == 1
    fetch(link.port, 10)
    link.close()


def test_nobody_on_the_far_side_is_a_closed_connection():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    link = ThinLink(port, 1e9)
    with socket.create_connection(("127.0.0.1", link.port)) as connection:
        assert connection.recv(1) == b""
    link.close()
