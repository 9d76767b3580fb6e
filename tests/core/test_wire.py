"""Requests and replies of the device API."""

import pytest

from farshore.core import digest as digests
from farshore.core import documents, wire
from farshore.core.errors import Invalid

D = digests.of(b"m")
ENROL = b'"device": "d", "key": "ed25519:%s=", "bearer": "%s"' % (b"A" * 43, b"0" * 64)


def test_an_idle_sync_is_tiny():
    assert len(documents.canonical(wire.SyncRequest(seen=12, wait=60))) <= 24
    assert len(documents.canonical(wire.SyncReply(retry=30.5))) <= 16


def test_an_older_reader_ignores_newer_members():
    read = documents.decode(b'{"seen": 1, "later": {"x": 1}}', wire.SyncRequest, what="sync")
    assert read == wire.SyncRequest(seen=1)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (wire.SyncRequest, b'{"seen": -1}'),
        (wire.SyncRequest, b'{"wait": 100000}'),
        (wire.SyncRequest, b'{"reported": 1}'),
        (wire.EnrolRequest, b'{"token": "short", %s}' % ENROL),
        (wire.EnrolRequest, b'{"token": "0123456789abcdef", %s}' % ENROL.replace(b'"d"', b'"D"')),
        (wire.TicketRequest, b'{"want": "sha256:00"}'),
        (wire.TicketReply, b'{"routes": [], "expires": 1}'),
        (wire.EnrolRequest, b"{%s}" % ENROL.replace(b"A=", b"=")),
        (wire.EnrolRequest, b"{%s}" % ENROL.replace(b"00", b"0G")),
        (wire.RenewRequest, b'{"turn": -1, "challenge": "x", %s}' % ENROL),
    ],
)
def test_bad_requests_are_refused(kind, data):
    with pytest.raises(Invalid):
        documents.decode(data, kind, what="request")


def test_desired_models_come_by_name():
    desired = {"models": {"a%2Eb": {"version": 3, "digest": D}}, "other": 1, "$version": 5}
    assert wire.desired_models(desired) == {"a.b": wire.DesiredModel(3, D)}
    assert wire.desired_models({}) == {}


@pytest.mark.parametrize("models", [[], {"a": 1}, {"a": {"version": 1}}, {"a": {"version": 0, "digest": D}}])
def test_malformed_desired_models_are_invalid(models):
    with pytest.raises(Invalid, match=r"desired\.models"):
        wire.desired_models({"models": models})


def test_reports_round_trip_through_a_twin():
    report = wire.ReportedModel(
        current=wire.Running(1, D, "onnx-fp32"), target=wire.Target(D, "failed", 2, fault=wire.Fault("corrupt", "no"))
    )
    assert wire.reported_models({"models": {"m": documents.builtins(report)}}) == {"m": report}
