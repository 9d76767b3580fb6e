"""What agent and inference server say to each other is checked on both sides."""

import pytest

from farshore.core import control, documents
from farshore.core import digest as digests
from farshore.core.errors import Invalid

D = digests.of(b"v")


def test_status_round_trips_and_leaves_out_what_is_not_there():
    status = control.Status(("litert",), {"m": control.ModelStatus(serving=control.Serving(D, 2, requests=5))})
    data = documents.canonical(status)
    assert documents.decode(data, control.Status, what="status") == status
    assert b"candidate" not in data
    assert b"errors" not in data


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (control.Target, b'{"digest": "sha256:1"}'),
        (control.Probe, b'{"ok": 1}'),
        (control.Probe, b'{"ok": true, "load_seconds": -1}'),
        (control.Switch, b"{}"),
        (control.Status, b'{"runtimes": [], "models": {"m": {"serving": {"version": 1}}}}'),
    ],
)
def test_what_does_not_fit_is_invalid(kind, data):
    with pytest.raises(Invalid):
        documents.decode(data, kind, what="message")


def test_a_socket_that_no_system_call_could_name_is_refused_with_what_to_do():
    control.check_socket(b"/" + b"a" * (control.MAX_SOCKET - 1))
    with pytest.raises(Invalid, match="shorter root folder"):
        control.check_socket(b"/" + b"a" * control.MAX_SOCKET)
