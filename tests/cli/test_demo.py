"""The demonstration itself: it exits 0 only if all that it shows is true."""

from PIL import Image

from farshore.cli import demo


def test_the_whole_main_job(farshore, tmp_path):
    text = farshore.ok("demo", "--out", tmp_path / "out", "--keep", tmp_path / "world")
    assert "✗" not in text
    for words in (
        "requests failed",
        "killed the agent",
        "killed the hub",
        "refused version 3",
        "version 2 runs on",
        "(bases: 2)",
    ):
        assert words in text
    drawn = sorted((tmp_path / "out").glob("*.jpg"))
    assert len(drawn) >= 8
    with Image.open(drawn[0]) as picture:
        assert picture.size == (640, 480)


def test_a_row_that_is_not_true_is_marked_and_fails():
    rows = [("one", [("requests failed", "3", "0", False)]), ("two", [("requests failed", "0", "0", True)])]
    assert demo._table(rows) == [["requests failed", "3  ✗", "0", "0"]]


def test_a_folder_in_use_for_something_else_is_left_alone(farshore, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    for command in (["demo", "--keep"], ["up", "--data"]):
        status, _, err = farshore(*command, tmp_path / "mine")
        assert status == 4
        assert len(err.splitlines()) == 1
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
