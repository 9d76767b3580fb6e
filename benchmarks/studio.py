"""Studio over a large registry and fleet: what each list takes to answer, the overview's first paint and what it transfers.

Rows are written beforehand, past the hub; what is measured is a hub in a process of its own, asked over HTTP as the browser asks, and
Chromium with an empty cache. Beside the pages stand the API's own answers and the empty web server (``/healthz``), in the same run.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import tempfile
import time

import httpx
from sqlalchemy import insert
from tests.e2e.studio.browser import CHROMIUM, chromium, visit

from benchmarks import fleet
from farshore.cli.output import megabytes, print_table
from farshore.cli.world import World, assets, free_port
from farshore.hub import ingest
from farshore.hub.hub import Hub
from farshore.hub.ingest import Push, PushedFile
from farshore.hub.records.tables import aliases, devices, holdings, ledger, models, twins, versions
from farshore.hub.rollout import Gate, Wave
from farshore.hub.settings import Settings

DEVICES, VERSIONS, MODELS = 10_000, 1_000, 40
ROUNDS = 9
LISTS = {
    "models": "/studio/models",
    "versions of a model": "/studio/models/detector",
    "devices": "/studio/devices",
    "devices by selector": "/studio/devices?where=tags.site+%3D+'s7'+AND+NOT+tags.ring+%3D+3",
    "devices, nobody matches": "/studio/devices?where=tags.nope+%3D+1",
    "devices by version": "/studio/devices?model=detector&version=1",
    "devices by state": "/studio/devices?state=quarantined",
    "rollouts": "/studio/rollouts",
    "enrolments": "/studio/enrol",
    "ledger": "/studio/ledger",
    "telemetry": "/studio/telemetry",
    "operators": "/studio/settings/operators",
    "audit log": "/studio/settings/audit",
}
OTHERS = {
    "overview": "/studio",
    "a device": "/studio/devices/d0000007",
    "a rollout": "/studio/rollouts/r1",
    "API: devices": "/v1/devices?limit=50",
    "API: summary": "/v1/summary",
    "empty web server": "/healthz",
}


def fill(folder: pathlib.Path, count: int, many: int) -> None:
    """A registry and a fleet of this size; devices run versions 1 and 2 of one model, and moved them in the last thirty days."""
    hub = Hub(Settings(data=folder / "hub", builders=0))
    try:
        for version in ("v1", "v2"):
            files = tuple(
                PushedFile(path.name, hub.registry.add_bytes(path.read_bytes()))
                for path in sorted((assets() / version).rglob("*.*"))
            )
            ingest.push(hub.registry, "detector", Push(files), hub.provenance, limit=1 << 30)
        copy(hub, many)
        hub.deployments.put("fleet", "*", "detector@1", 0)
        fleet.fill(hub, 0, count)
        live(hub, count)
        hub.rollouts.start("r1", "fleet", "*", "detector@2", (Wave(percent=10), Wave(percent=100)), Gate(), 0)
    finally:
        hub.close()


def copy(hub: Hub, many: int) -> None:
    """Versions like the first one, with digests of their own, over some models."""
    with hub.database.writing() as tx:
        [row] = tx.execute(versions.select().where(versions.c.number == 1)).mappings()
        more = MODELS - 1
        tx.execute(insert(models), [
            {"name": f"model-{n:02}", "last": 100, "title": "", "description": "", "tags": {"n": n}, "created": 0.0}
            for n in range(more)
        ])  # fmt: skip
        ids = list(tx.execute(models.select().where(models.c.name != "detector")).mappings())
        made, number = [], {one["id"]: 0 for one in ids}
        mine = {key: value for key, value in row.items() if key != "id"}
        first = row["model_id"]
        last = many // 2  # half of all versions are of one model
        for n in range(many - 2):
            owner = first if n < last else ids[n % more]["id"]
            number[owner] = number.get(owner, 2) + 1
            text = f"sha256:{n:064x}"
            made.append({**mine, "model_id": owner, "number": number[owner], "digest": text, "content": text})
        tx.execute(insert(versions), made)
        tx.execute(models.update().where(models.c.id == first).values(last=number.get(first, 2)))
        tx.execute(insert(aliases), [
            {"model_id": first, "name": "champion", "version_id": row["id"], "moved": 0.0}
        ])  # fmt: skip


def live(hub: Hub, count: int) -> None:
    """Devices were heard of, run something, and moved bytes for it."""
    now = time.time()
    with hub.database.writing() as tx:
        real = versions.c.digest.not_like("sha256:000000%")  # not those that were copied
        digests = {one["number"]: one["digest"] for one in tx.execute(versions.select().where(real)).mappings()}
        tx.execute(devices.update().values(seen=now))
        tx.execute(
            devices.update()
            .where(devices.c.id < "d0000020")
            .values(state="quarantined", reason="its key is in use twice")
        )
        held, moved = [], []
        for n in range(count):
            name, version = f"d{n:07d}", 1 + n % 2
            held += [
                {"device": name, "module": "", "model": "detector", "role": role, "digest": digests[version]}
                for role in ("current", "desired")
            ]
            day = time.strftime("%Y-%m-%d", time.gmtime(now - n % 30 * 86400))
            moved.append({"day": day, "device": name, "model": "detector", "version": version, "rollout": "", "link": "lte",
                          "bytes": 200_000 + n, "money": 0.1, "currency": "EUR"})  # fmt: skip
        tx.execute(insert(holdings), held)
        tx.execute(insert(ledger), moved)
        reported = {"models": {"detector": {"current": {"version": 1, "digest": digests[1], "variant": "onnx-fp32"}}}}
        tx.execute(twins.update().values(reported=reported))


def answers(url: str, token: str) -> list[list[object]]:
    """Median and worst of some rounds, in turns, and bytes as they travel."""
    found: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        for _ in range(ROUNDS):
            for name, path in {**LISTS, **OTHERS}.items():
                begun = time.perf_counter()
                answer = client.get(path)
                found.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
                assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
                sizes[name] = answer.num_bytes_downloaded
    return [
        [name, f"{statistics.median(times):.0f} ms", f"{max(times):.0f} ms", megabytes(sizes[name])]
        for name, times in found.items()
    ]


def paint(url: str, token: str) -> list[list[object]]:
    """First paint and transfer of the overview, with nothing in the cache."""
    rows = []
    with chromium() as browser:
        for width in ("desktop", "phone"):
            times, moved = [], 0
            for _ in range(5):
                with visit(browser, url, token, width=width) as page:
                    link = page.context.new_cdp_session(page)
                    link.send("Network.enable")
                    link.send("Network.clearBrowserCache")
                    link.send("Network.setCacheDisabled", {"cacheDisabled": True})
                    sums = []
                    link.on("Network.loadingFinished", lambda event, sums=sums: sums.append(event["encodedDataLength"]))
                    page.goto("/studio", wait_until="load")
                    page.wait_for_timeout(300)
                    entries = "performance.getEntriesByName('first-contentful-paint').map(one => one.startTime)[0]"
                    times.append(page.evaluate(entries))
                    moved = round(sum(sums))
            rows.append(
                [f"overview, {width}", f"{statistics.median(times):.0f} ms", f"{max(times):.0f} ms", megabytes(moved)]
            )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--devices", type=int, default=DEVICES)
    options.add_argument("--versions", type=int, default=VERSIONS)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        fill(folder, asked.devices, asked.versions)
        with World(folder, rate=1e9, port=free_port()) as world:
            world.start_hub()
            token = (folder / "hub" / "admin.token").read_text().strip()
            print(f"\n{asked.devices:,} devices, {asked.versions:,} versions; {ROUNDS} rounds\n")
            print_table(["page", ">median", ">worst", ">bytes"], answers(world.url, token))
            if CHROMIUM is None:
                print("\nChromium is not installed: no first paint")
                return
            print("\nFirst contentful paint with an empty cache, and all that was transferred\n")
            print_table(["page", ">median", ">worst", ">bytes"], paint(world.url, token))


if __name__ == "__main__":
    main()
