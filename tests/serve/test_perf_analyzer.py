"""Triton's load generator, where it is installed."""

from __future__ import annotations

import asyncio
import re
import shutil

import pytest

from .conftest import Client, Device, serve

PERF_ANALYZER = shutil.which("perf_analyzer")


@pytest.mark.deep
@pytest.mark.skipif(PERF_ANALYZER is None, reason="perf_analyzer is not installed")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_measures_without_an_error(device: Device, protocol: str) -> None:
    device.colours(1, activate=True)

    async def main(client: Client) -> None:
        await client.ready()
        port = client.server.port if protocol == "http" else client.server.grpc_port
        process = await asyncio.create_subprocess_exec(
            PERF_ANALYZER, "-m", "colours", "-u", f"127.0.0.1:{port}", "-i", protocol, "--concurrency-range", "2",
            "--measurement-interval", "1000", "--stability-percentage", "95",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told = (await process.communicate())[0].decode()
        assert process.returncode == 0, told
        server = told.partition("Server:")[2]
        assert int(re.search(r"Inference count: (\d+)", server)[1]) > 100
        assert "Successful request count" in server

    serve(device, main, grpc_port=0)
