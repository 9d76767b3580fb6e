"""The text format, as a scraper reads it."""

from __future__ import annotations

from farshore.serve.metrics import BUCKETS, Histogram, Text


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
