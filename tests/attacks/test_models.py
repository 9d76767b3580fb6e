"""Crafted models: thousands through workers, and some past a whole server that goes on answering."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.attacks.model_mutants import Bench, mutated
from tests.serve.conftest import Client

from farshore.serve.app import Server
from farshore.serve.settings import Settings

HERE = Path(__file__).parent
KINDS = ("onnx", "tflite")
ENDS = ("refused", "passed its probe", "failed its probe", "died", "hung", "read by the hub", "ended")


def run(kind, count, folder):
    command = [
        sys.executable,
        "-c",
        "from tests.attacks import model_mutants; model_mutants.main()",
        kind,
        str(count),
        "1",
        str(folder),
    ]
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{kind}: {count} crafted models: {found}")
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [40, pytest.param(20_000, marks=[pytest.mark.deep, pytest.mark.timeout(7200)])])
def test_no_crafted_model_harms_more_than_its_worker(kind, count, tmp_path):
    found = run(kind, count, tmp_path)
    assert sum(found.values()) == 2 * count, "each was seen by the hub and by a worker"
    assert all(outcome.startswith(ENDS) for outcome in found)
    assert found["refused: invalid"] and found["failed its probe"], "the sample both fails to load and runs"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [3, pytest.param(150, marks=[pytest.mark.deep, pytest.mark.timeout(3600)])])
def test_a_server_goes_on_answering_while_crafted_models_are_probed(kind, count, tmp_path):
    """The honest version answers every request, whatever arrives beside it."""
    bench, chance = Bench(kind, tmp_path), random.Random(kind)
    honest = bench.install(bench.data, 1)
    bench.slots.activate("detector", honest)

    async def main():
        settings = Settings(root=tmp_path, port=0, threads=1, load_seconds=30.0, worker_memory=3 << 29)
        async with Server(settings) as server:
            client, answered, stop = Client(server), 0, asyncio.Event()
            await client.ready()

            async def ask():
                nonlocal answered
                while not stop.is_set():
                    status, _, body = await client.score(bench.picture)
                    assert (status, body["version"]) == (200, 1)
                    answered += 1
                    await asyncio.sleep(0.02)

            asking = asyncio.create_task(ask())
            for number in range(count):
                digest = bench.install(mutated(bench.data, chance, bench.hot), number + 2)
                _, result = await client.order("probe", "detector", digest)
                assert isinstance(result, dict) and ("ok" in result or "error" in result)
                await client.order("drop", "detector", digest)
                bench.slots.remove("detector", digest)
            stop.set()
            await asking
            client.close()
            return answered

    assert asyncio.run(main()) > 2 * count
