"""What a sync costs: bytes (bodies, and all of HTTP on the wire), hub time, and the agent's memory.

One hub process, one enrolled device; each kind of sync is asked many times over one kept connection, through a relay that
counts bytes. The bare web server (the same process's /healthz) stands beside it.
"""

from __future__ import annotations

import http.client
import json
import pathlib
import secrets
import statistics
import tempfile
import time

from farshore.cli.output import print_table
from farshore.cli.thin_link import ThinLink
from farshore.cli.world import World, assets, wait_for
from farshore.core import digest as digests
from farshore.core import documents, invitation, possession, wire
from farshore.core.trust import SigningKey
from farshore.serve.memory import held

ROUNDS = 200


class Device:
    """A device that only syncs, over one kept connection."""

    def __init__(self, link, token, name):
        self.link = link
        self.connection = http.client.HTTPConnection("127.0.0.1", link.port)
        self.credential = "c" * 43
        self.seen = 0
        key, secret = SigningKey(secrets.token_bytes(32)), invitation.parse(token).secret
        asked = wire.EnrolRequest(name, str(key.public), possession.hashed(self.credential), token=secret)
        self.ask("/enrol", possession.sign(key, asked))

    def ask(self, path, body, method="POST"):
        """``(body up, body down, wire up, wire down, seconds, answer)``."""
        data = documents.canonical(body) if body is not None else None
        up, down, begun = self.link.up, self.link.down, time.perf_counter()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.credential}"}
        self.connection.request(method, path if path.startswith("/healthz") else wire.API + path, data, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        seconds = time.perf_counter() - begun
        assert answer.status < 300, text
        while self.link.down - down < len(text):  # the relay counts after it has sent
            time.sleep(0.0005)
        return len(data or b""), len(text), self.link.up - up, self.link.down - down, seconds, text


def report(number):
    return {"models": {"detector": documents.builtins(wire.ReportedModel(
        current=wire.Running(1, digests.of(b"1"), "onnx-fp32"),
        target=wire.Target(digests.of(b"2"), "downloading", 2, done=number, size=1_000_000), fetched=number))}}  # fmt: skip


def main():
    with tempfile.TemporaryDirectory() as folder, World(pathlib.Path(folder), rate=1e9) as world:
        world.start_hub()
        token = world.hub.create_enrolment("bench", {"site": "oslo"})["token"]
        link = ThinLink(world.port, 1e9)
        device = Device(link, token, "bench")
        device.seen = json.loads(device.ask("/sync", wire.SyncRequest())[5])["desired"]["$version"]
        rows = []

        def measure(what, ask):
            asked = [ask(number) for number in range(ROUNDS)]
            middle = [statistics.median(column) for column in list(zip(*asked, strict=True))[:5]]
            rows.append((what, *(f"{value:.0f}" for value in middle[:4]), f"{middle[4] * 1000:.2f}"))

        measure("bare web server", lambda _: device.ask("/healthz", None, "GET"))
        measure("idle sync", lambda _: device.ask("/sync", wire.SyncRequest(seen=device.seen)))
        device.ask("/sync", wire.SyncRequest(seen=device.seen, reported=report(0)))
        step = {"models": {"detector": {"fetched": 0, "target": {"done": 0}}}}

        def progress(number):
            step["models"]["detector"] = {"fetched": number, "target": {"done": number}}
            return device.ask("/sync", wire.SyncRequest(seen=device.seen, reported=step))

        measure("sync, progress reported", progress)
        measure(
            "sync, whole model reported",
            lambda n: device.ask("/sync", wire.SyncRequest(seen=device.seen, reported=report(n))),
        )

        versions = [world.hub.push("detector", [assets() / name]) for name in ("v1", "v2")]

        def changed(number):
            want = {key: versions[number % 2][key] for key in ("version", "digest")}
            world.hub.patch_twin("bench", {"properties": {"desired": {"models": {"detector": want}}}})
            found = device.ask("/sync", wire.SyncRequest(seen=device.seen))
            device.seen = json.loads(found[5])["desired"]["$version"]
            return found

        measure("sync, desired changed", changed)
        print(f"\nOne sync, median of {ROUNDS}; bytes of HTTP/1.1 over one kept connection, no TLS\n")
        print_table(["what", ">body up", ">body down", ">wire up", ">wire down", ">ms"], rows)

        edge = world.add_device("edge", {})
        wait_for(lambda: world.hub.device("edge").get("seen") is not None, 30, "the agent syncs")
        time.sleep(1)
        print(f"\nidle agent: {held(edge.agent.pid) / 1e6:.1f} MB (proportional set size)")


if __name__ == "__main__":
    main()
