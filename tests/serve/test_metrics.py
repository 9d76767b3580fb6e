"""The text format, as a scraper reads it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from farshore.serve.metrics import BUCKETS, Histogram, Text

from .conftest import Client, Device, picture, serve

parser = pytest.importorskip("prometheus_client.parser")


def test_families_and_labels():
    text = Text()
    text.family("a_total", "counter", "Things.", [((("kind", 'say "hi"\\\n'),), 3), ((), 0.25)])
    assert text.encode().decode() == (
        '# HELP a_total Things.\n# TYPE a_total counter\na_total{kind="say \\"hi\\"\\\\\\n"} 3\na_total 0.250000\n'
    )


def test_histograms_add_up():
    histogram = Histogram()
    for seconds in (0.001, 0.005, 0.02, 0.021, 99.0):
        histogram.add(seconds)
    text = Text()
    text.histogram("t", "Time.", [((("m", "x"),), histogram)])
    lines = dict(line.rsplit(" ", 1) for line in text.encode().decode().splitlines() if line[0] != "#")
    assert lines['t_bucket{m="x",le="0.005"}'] == "2"
    assert lines['t_bucket{m="x",le="0.02"}'] == "3"
    assert lines['t_bucket{m="x",le="0.03"}'] == "4"
    assert lines['t_bucket{m="x",le="10.0"}'] == "4"
    assert lines['t_bucket{m="x",le="+Inf"}'] == lines['t_count{m="x"}'] == "5"
    assert float(lines['t_sum{m="x"}']) == 99.047
    assert len(lines) == len(BUCKETS) + 3


def test_a_scraper_reads_every_family(device: Device) -> None:
    """Prometheus' own parser, over the page of a server that answered, refused and switched."""
    device.colours(1, activate=True)
    second = device.colours(2)

    def samples(page: bytes) -> Iterator[tuple[str, str, dict[str, str], float]]:
        for family in parser.text_string_to_metric_families(page.decode()):
            assert family.documentation.endswith("."), family.name
            for sample in family.samples:
                yield family.type, sample.name, sample.labels, sample.value

    async def main(client: Client) -> None:
        await client.ready()
        for sent in (picture((1, 2, 3)), b"no picture", b""):
            await client.score(sent)
        assert (await client.order("switch", "colours", second))[0] == 200
        await client.score(picture((1, 2, 3)))
        _, _, page = await client.get("/metrics")
        found = list(samples(page))
        values = {(name, *sorted(labels.items())): value for _, name, labels, value in found}
        model = ("model", "colours")
        assert values["farshore_requests_total", model, ("status", "200")] == 2
        assert values["farshore_requests_total", model, ("status", "400")] == 1
        assert values["farshore_rejected_total", ("code", "invalid"), ("door", "http")] == 1
        assert values["farshore_switches_total", model] == 1
        assert values["farshore_waiting", model] == 0
        assert values["farshore_buffered_bytes",] == 0
        assert values["farshore_front_memory_bytes",] > 5e6
        assert values["farshore_worker_memory_bytes", model, ("version", "2")] > 5e6
        assert values["farshore_version_leads", ("digest", second), model, ("version", "2")] == 1
        assert values["farshore_request_seconds_count", model] == 3
        assert values["farshore_request_seconds_bucket", ("le", "+Inf"), model] == 3
        stages = {
            labels["stage"] for _, name, labels, value in found if name == "farshore_stage_seconds_count" and value
        }
        assert stages == {"wait", "decode", "infer", "read"}
        assert {kind for kind, *_ in found} == {"counter", "gauge", "histogram"}
        edges = [values["farshore_request_seconds_bucket", ("le", str(edge)), model] for edge in BUCKETS]
        assert edges == sorted(edges)

    serve(device, main)
