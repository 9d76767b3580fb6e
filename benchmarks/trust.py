"""What trust costs on the wire: application bytes of a sync, deflated where that pays, as hub and agent send them.

A real hub's director signs for 1, 10 and 100 models with one version each, and with as many as a role lists; a device that runs one of them asks with
nothing new, and again after a version of its model was pushed. Beside it stands the same sync without what is signed.
Budgets: 512 bytes for an idle check (request and reply, all of it), 1,400 for what is signed in an update.
"""

from __future__ import annotations

import hashlib
import pathlib
import tempfile
import time
import zlib

from farshore.cli.output import print_table
from farshore.core import digest as digests
from farshore.core import documents, wire
from farshore.hub.director import LISTED
from farshore.hub.hub import Hub
from farshore.hub.settings import Settings
from farshore.trust.releases import Release

DEVICE, MODEL, NONCE = "turbine-7", "turbine-blade-detector", "Q2hhbmNlIGRlY2lkZXMgaQ"
IDLE, UPDATE = 512, 1400
ROUNDS = 300


def release(model, number):
    return Release(digests.of(hashlib.sha256(f"{model}@{number}".encode()).digest()), 1800 + number)


def publish(hub, model, numbers):
    with hub.database.writing() as tx:
        draft = hub.director.draft(tx, model, {number: release(model, number) for number in numbers})
        hub.director.publish(tx, model, hub.director.sign_role(tx, model, draft))
    hub.director.changed()


def size(value):
    """Bytes of a body as the hub sends it: deflated where that saves more than its header costs."""
    data = documents.encode(value)
    small = zlib.compress(data, 9)
    return len(small) if len(small) + 60 < len(data) else len(data)


def desired(number, seq):
    return {"$version": seq, "models": {MODEL: {"version": number, "digest": release(MODEL, number).digest}}}


def held(hub, models):
    state = hub.director.state().chain.held()
    return {role: version for role, version in state.items() if not role.startswith("model/") or role[6:] in models}


def figures(hub, versions):
    """(idle request, idle reply, signed in an update, microseconds the hub signs for)."""
    have, now = held(hub, {MODEL}), desired(versions, 7)
    ask = wire.SyncRequest(seen=7, wait=55, nonce=NONCE, have=have)
    idle = wire.SyncReply(None, 55.31, hub.director.news(DEVICE, NONCE, have, now))
    begun = time.process_time()
    for _ in range(ROUNDS):
        hub.director.news(DEVICE, NONCE, have, now)
    spent = (time.process_time() - begun) / ROUNDS * 1e6
    publish(hub, MODEL, range(max(versions + 2 - LISTED, 1), versions + 2))
    new = desired(versions + 1, 8)
    update = wire.SyncReply(new, 0.5, hub.director.news(DEVICE, NONCE, have, new))
    bare = wire.SyncReply(new, 0.5)
    plain = wire.SyncRequest(seen=7, wait=55)
    asked = len(documents.encode(ask)) - len(documents.encode(plain))
    return len(documents.encode(ask)), size(idle), size(update) - size(bare) + asked, spent


def main():
    rows = []
    for models in (1, 10, 100):
        for versions in (1, LISTED):
            with tempfile.TemporaryDirectory() as folder:
                hub = Hub(Settings(pathlib.Path(folder), builders=0))
                for number in range(models - 1):
                    publish(hub, f"model-{number:03}-of-a-fleet", range(1, versions + 1))
                publish(hub, MODEL, range(1, versions + 1))
                up, down, update, spent = figures(hub, versions)
                hub.close()
            rows.append((
                models, versions, up, down, up + down, "yes" if up + down <= IDLE else "NO", update,
                "yes" if update <= UPDATE else "NO", f"{spent:.0f}",
            ))  # fmt: skip
    print(__doc__)
    print_table(
        [">models", ">versions", ">idle up", ">idle down", ">idle", f"≤ {IDLE}", ">signed in an update", f"≤ {UPDATE}",
         ">hub µs CPU a sync"],
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
