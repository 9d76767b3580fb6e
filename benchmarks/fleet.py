"""What a large fleet costs the hub: rollouts over a thousand to a million device rows, and idle syncs.

Rows are written beforehand, past the hub; everything measured is the hub's own code on its own database. Idle syncs are asked of
the hub in this process and over HTTP, beside the bare database (the same look-up, by ``sqlite3`` alone) and the empty web server (the
same process's ``/healthz``), in turns.
"""

from __future__ import annotations

import argparse
import http.client
import pathlib
import sqlite3
import tempfile
import threading
import time
from dataclasses import dataclass

from sqlalchemy import event, insert

from farshore.cli.output import print_table
from farshore.cli.world import World, assets, free_port
from farshore.core import wire
from farshore.hub import auth, ingest
from farshore.hub.hub import Hub
from farshore.hub.ingest import Push, PushedFile
from farshore.hub.records.tables import devices, twins
from farshore.hub.rollout import Gate, Wave
from farshore.hub.settings import Settings

SIZES = (1_000, 100_000, 1_000_000)
BATCH = 10_000
SECONDS = 2.0
CLIENTS = 4
WAVES = (Wave(percent=1), Wave(percent=10), Wave(percent=100))
NEVER = 4e9
QUIET = 500
"""Number from which on devices were never told anything: their syncs are idle."""


def credential(number: int) -> str:
    return f"credential-of-device-{number:024d}"


def fill(hub: Hub, have: int, want: int) -> None:
    """Add device rows until there are ``want``."""
    section = {"desired": {}, "desired_metadata": {}, "desired_version": 1}
    section |= {"reported": {}, "reported_metadata": {}, "reported_version": 1, "manual": {}, "version": 1}
    for begin in range(have, want, BATCH):
        numbers = range(begin, min(begin + BATCH, want))
        with hub.database.writing() as tx:
            tx.execute(insert(devices), [
                {"id": f"d{n:07d}", "credential": auth.hashed(credential(n)), "created": 0.0, "key": None,
                 "state": "accepted", "reason": "", "turn": 0, "expires": NEVER} for n in numbers
            ])  # fmt: skip
            tx.execute(
                insert(twins), [{"device": f"d{n:07d}", "tags": {"site": f"s{n % 50}"}, **section} for n in numbers]
            )


@dataclass(eq=False)
class Counted:
    """Rows written while it is listened to."""

    rows: int = 0

    def __call__(self, _connection, cursor, statement, *_) -> None:
        if statement.split(None, 1)[0] in {"INSERT", "UPDATE", "DELETE"}:
            self.rows += max(cursor.rowcount, 0)


def timed(hub: Hub, call) -> tuple[float, int]:
    """Milliseconds and rows that ``call`` takes."""
    counted = Counted()
    event.listen(hub.database.engine, "after_cursor_execute", counted)
    begun = time.perf_counter()
    call()
    took = time.perf_counter() - begun
    event.remove(hub.database.engine, "after_cursor_execute", counted)
    return took * 1000, counted.rows


def rollouts(hub: Hub, size: int) -> list[object]:
    name = f"r{size}"
    start = timed(hub, lambda: hub.rollouts.start(name, "fleet", "*", "detector@2", WAVES, Gate(soak=0), 0))
    status = timed(hub, lambda: hub.rollouts.one(name))
    for number in range(200):
        hub.fleet.sync(credential(number), wire.SyncRequest())
    again = timed(hub, lambda: hub.rollouts.one(name))
    tick = timed(hub, hub.rollouts.tick)
    advance = timed(hub, lambda: hub.rollouts.advance(name))
    back = timed(hub, lambda: hub.rollouts.roll_back(name, "the end of the measurement"))
    cells = [f"{took:.1f} ms, {rows} rows" for took, rows in (start, advance, back)]
    return [f"{size:,}", *cells, f"{max(status[0], again[0]):.1f} ms", f"{tick[0]:.1f} ms"]


def per_second(call, clients: int = 1) -> float:
    """Calls a second in a short window; ``call(number)``."""
    counts, end = [0] * clients, time.perf_counter() + SECONDS

    def work(mine: int) -> None:
        number = mine
        while time.perf_counter() < end:
            call(mine, number)
            counts[mine] += 1
            number += clients

    threads = [threading.Thread(target=work, args=(mine,)) for mine in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


def cpu_of(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


class Asker:
    """Idle syncs and empty requests over kept connections."""

    def __init__(self, port: int, size: int) -> None:
        self.links = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(CLIENTS)]
        self.size = size

    def sync(self, mine: int, number: int) -> None:
        head = {
            "Authorization": f"Bearer {credential(QUIET + number * 7919 % (self.size - QUIET))}",
            "Content-Type": "application/json",
        }
        self._ask(mine, "POST", f"{wire.API}/sync", b'{"seen":1}', head)

    def empty(self, mine: int, _number: int) -> None:
        self._ask(mine, "GET", "/healthz", None, {})

    def _ask(self, mine: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        self.links[mine].request(method, path, body, headers)
        answer = self.links[mine].getresponse()
        text = answer.read()
        assert answer.status == 200, text


def syncs(folder: pathlib.Path, size: int) -> list[list[object]]:
    """Idle syncs a second, and what each takes of the processor, in turns with what they stand on."""
    found: dict[str, list[tuple[float, float]]] = {}

    def note(what: str, rate: float, cpu: float) -> None:
        found.setdefault(what, []).append((rate, cpu / rate / SECONDS * 1e6))

    hub = Hub(Settings(data=folder / "hub", builders=0))
    bare = sqlite3.connect(folder / "hub" / "hub.sqlite3", check_same_thread=False)
    look = "SELECT * FROM twins JOIN devices ON devices.id = twins.device WHERE devices.credential = ?"

    def own(call) -> tuple[float, float]:
        begun = time.process_time()
        rate = per_second(call)
        return rate, time.process_time() - begun

    for _ in range(2):
        note("bare database: the same look-up", *own(
            lambda _, n: bare.execute(look, (auth.hashed(credential(QUIET + n * 7919 % (size - QUIET))),)).fetchone()
        ))  # fmt: skip
        note("the hub, in process", *own(
            lambda _, n: hub.fleet.sync(credential(QUIET + n * 7919 % (size - QUIET)), wire.SyncRequest(seen=1))
        ))  # fmt: skip
    bare.close()
    hub.close()
    with World(folder, rate=1e9, port=free_port()) as world:
        world.start_hub()
        asker, pid = Asker(world.port, size), world.hub_process.pid
        for _ in range(2):
            for what, call in (("empty web server, HTTP", asker.empty), ("the hub, HTTP", asker.sync)):
                begun = cpu_of(pid)
                rate = per_second(call, CLIENTS)
                note(what, rate, cpu_of(pid) - begun)
    best = {what: max(rows) for what, rows in found.items()}
    return [[what, f"{rate:,.0f}", f"{cpu:.0f} µs"] for what, (rate, cpu) in best.items()]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--most", type=int, default=SIZES[-1], help="rows of the largest fleet")
    most = options.parse_args().most
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        hub = Hub(Settings(data=folder / "hub", builders=0))
        for version in ("v1", "v2"):
            files = []
            for path in sorted((assets() / version).rglob("*.*")):
                digest = hub.registry.add_bytes(path.read_bytes())
                files.append(PushedFile(path.name, digest))
            ingest.push(hub.registry, "detector", Push(tuple(files)), hub.provenance, limit=1 << 30)
        hub.deployments.put("fleet", "*", "detector@1", 0)
        rows, have = [], 0
        for size in (one for one in SIZES if one <= most):
            begun = time.perf_counter()
            fill(hub, have, size)
            have = size
            rows.append([*rollouts(hub, size), f"{time.perf_counter() - begun:.0f} s"])
        hub.deployments.remove("fleet")
        hub.close()
        print("\nOne rollout over so many devices: time, and rows written\n")
        print_table(
            [
                ">devices",
                ">start",
                ">next wave",
                ">roll back",
                ">status",
                ">tick",
                ">whole run",
            ],
            rows,
        )
        print(
            f"\nIdle syncs over {have:,} devices; best of two windows of {SECONDS:.0f} s; {CLIENTS} clients over HTTP\n"
        )
        print_table(["what", ">a second", ">processor each"], syncs(folder, have))


if __name__ == "__main__":
    main()
