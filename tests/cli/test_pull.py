"""A pull that fails."""

from farshore.client.hub import Hub
from farshore.core.errors import Unavailable


def test_it_leaves_no_empty_folder(farshore, classifier, tmp_path, monkeypatch):
    farshore.ok("model", "push", "not-pulled", classifier(weight=2.0))

    def fails(*_):
        raise Unavailable("the connection ended")

    monkeypatch.setattr(Hub, "pull", fails)
    status, _, err = farshore("model", "pull", "not-pulled", "-o", tmp_path / "out")
    assert status and "the connection ended" in err
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("kept")
    farshore("model", "pull", "not-pulled", "-o", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kept"]
