"""Files as memory."""

import pytest

from farshore.core.errors import Unavailable
from farshore.store.views import PIECE, pieces, view


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
def test_all_bytes_in_order(tmp_path, size):
    data = bytes(i % 251 for i in range(size))
    (tmp_path / "file").write_bytes(data)
    found = view(tmp_path / "file")
    assert found == data
    assert b"".join(pieces(found)) == data
    assert all(len(piece) <= PIECE for piece in pieces(found))


def test_a_view_outlives_the_name(tmp_path):
    (tmp_path / "file").write_bytes(b"bytes")
    found = view(tmp_path / "file")
    (tmp_path / "file").unlink()
    assert found == b"bytes"


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(Unavailable, match="missing"):
        view(tmp_path / "missing")
