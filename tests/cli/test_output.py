"""Tables, facts and progress."""

import pytest

from farshore.cli.output import megabytes, print_facts, print_table, progress


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5e9, "5.0 GB")],
)
def test_sizes_are_decimal_as_links_are_sold(size, text):
    assert megabytes(size) == text


def test_tables_keep_unicode_and_never_markup(capsys):
    print_table(["模型", ">size"], [("風力 [bold]", 3), (None, 12)])
    out = capsys.readouterr().out
    assert "風力 [bold]" in out
    assert [line.rstrip().endswith(("3", "12")) for line in out.splitlines()[2:]] == [True, True]


def test_an_empty_table_says_what_that_means(capsys):
    print_table(["a"], [], empty="no models yet")
    assert capsys.readouterr().out == "no models yet\n"


def test_facts_without_value_are_left_out(capsys):
    print_facts([("name", "x"), ("empty", ""), ("longer name", 0), ("none", None), ("bell", "\x07\x1b[2J")])
    assert capsys.readouterr().out == "name         x\nlonger name  0\nbell         ··[2J\n"


def test_progress_is_silent_when_piped(capsys):
    with progress("sending", 100) as advance:
        advance(40)
        advance(60)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")
