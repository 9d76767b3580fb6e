import base64

import pytest

from farshore.core.errors import Conflict, Denied, Invalid, NotFound, TooLarge
from farshore.hub.fleet import Stale
from farshore.hub.identities import EDGE, MAX_MODULES, Wanted, etag_of
from farshore.hub.records import devices
from farshore.hub.records.identities import NONE, SAS

KEY = base64.b64encode(b"k" * 32).decode()


def make(hub, device="d", module="", etag=None, **wanted):
    return hub.identities.put(device, module, Wanted(**wanted), etag)[0].identity


def test_a_new_identity_is_a_device_with_keys_and_a_twin(hub):
    found = make(hub)
    assert found.kind == SAS and len(set(found.keys)) == 2
    assert all(len(base64.b64decode(key)) == 32 for key in found.keys)
    assert hub.fleet.device("d")[0].state == devices.ACCEPTED
    assert hub.fleet.twin("d").desired.values == {}
    assert hub.identities.admit("d") == found


def test_keys_that_are_given_are_taken_and_bad_ones_are_not(hub):
    found = make(hub, primary=KEY, secondary="")
    assert found.primary == KEY and found.secondary not in {"", KEY}
    for bad in ("short", "====", base64.b64encode(b"x" * 8).decode()):
        with pytest.raises(Invalid):
            make(hub, "e", primary=bad)
    with pytest.raises(NotFound):
        hub.identities.one("e")


def test_changes_need_the_present_etag(hub):
    first = make(hub)
    with pytest.raises(Conflict):
        make(hub)
    second = make(hub, etag=f'"{etag_of(first)}"', primary=KEY)
    assert (second.primary, second.secondary, second.generation) == (KEY, first.secondary, first.generation)
    with pytest.raises(Stale):
        make(hub, etag=etag_of(first))
    with pytest.raises(Stale):
        hub.identities.remove("d", "", etag_of(first))
    assert make(hub, etag='"*"').version == 3
    with pytest.raises(NotFound):
        make(hub, "absent", etag="*")


def test_disabled_means_revoked_and_back(hub):
    make(hub, enabled=False, reason="lost")
    with pytest.raises(Denied, match="lost"):
        hub.identities.admit("d")
    make(hub, etag="*")  # says nothing of it
    assert hub.fleet.device("d")[0].state == devices.REVOKED
    assert make(hub, etag="*", enabled=True).status_at is not None
    hub.identities.admit("d")
    hub.standings.revoke("d", "stolen")
    with pytest.raises(Denied, match="stolen"):
        hub.identities.admit("d")


def test_a_device_of_ours_may_be_given_an_identity(hub, operator):
    operator.enrolled("ours", tags={"site": "oslo"})
    assert hub.identities.one("ours").identity.kind == NONE
    with pytest.raises(Denied):
        hub.identities.admit("ours")
    found = hub.identities.ensure("ours").identity
    assert found.kind == SAS and hub.identities.ensure("ours").identity == found
    assert hub.fleet.twin("ours").tags == {"site": "oslo"}
    hub.identities.remove("ours", "", None)
    with pytest.raises(NotFound):
        hub.fleet.twin("ours")
    with pytest.raises(NotFound):
        hub.identities.ensure("ours")


def test_modules_have_identities_and_twins_of_their_own(hub):
    make(hub)
    found = make(hub, module="camera", managed_by="us")
    assert found.managed_by == "us" and found.primary != hub.identities.one("d").identity.primary
    hub.fleet.change_twin("d", {"properties": {"desired": {"a": 1}}}, None, replace=False, module="camera")
    assert hub.fleet.twin("d", "camera").desired.values == {"a": 1}
    assert hub.fleet.twin("d").desired.values == {}
    assert hub.fleet.report("d", "camera", {"b": 2}).reported.values == {"b": 2}
    assert [one.identity.module for one in hub.identities.modules("d")] == ["camera"]
    assert [device.id for device, _ in hub.fleet.devices("", "", 9)] == ["d"]
    with pytest.raises(NotFound):
        make(hub, "absent", module="camera")
    hub.identities.remove("d", "camera", None)
    for gone in (hub.fleet.twin, hub.identities.one):
        with pytest.raises(NotFound):
            gone("d", "camera")


def test_everything_of_a_device_goes_with_it(hub):
    make(hub)
    make(hub, module="camera")
    hub.identities.remove("d", "", "*")
    make(hub)
    assert hub.identities.modules("d") == []
    with pytest.raises(NotFound):
        hub.fleet.twin("d", "camera")


def test_an_edge_device_has_the_runtimes_modules(hub):
    make(hub, edge=True)
    assert [one.identity.module for one in hub.identities.modules("d")] == sorted(EDGE)
    make(hub, etag="*", edge=True)


def test_modules_are_limited_and_ids_checked(hub):
    make(hub)
    for number in range(MAX_MODULES):
        make(hub, module=f"m{number}")
    with pytest.raises(TooLarge):
        make(hub, module="more")
    for bad in ("", "a/b", "a#", "a+", "a b", "é", "x" * 129):
        with pytest.raises(Invalid):
            make(hub, bad)
    assert make(hub, "Camera-7.North@plant=A'$").kind == SAS


def test_every_change_is_in_the_feed(hub):
    make(hub)
    make(hub, module="m")
    hub.identities.remove("d", "", None)
    kinds = [one.kind for one in hub.fleet.changes(0, 99)]
    assert kinds == ["device.created", "module.created", "device.removed"]
