"""Publishing to a container and answering for it, against Blob Storage (Azurite) and an IoT Hub in memory."""

from __future__ import annotations

import time
import uuid

import pytest
import urllib3
from msgspec import Raw
from msgspec.structs import replace
from tests.azurite import Azurite
from tests.sim.azure import MODULE, AzureWorld
from tests.sim.hub import SimHub
from tests.sim.iothub import SimIotHub
from tests.sim.releases import noise, release

from farshore.client.dispatches import pointer
from farshore.core import digest as digests
from farshore.core import dispatch as dispatches
from farshore.core import documents
from farshore.core.dispatch import DISPATCH, MAX_DISPATCH, Ask
from farshore.core.errors import Denied, NotFound, Unavailable
from farshore.core.wire import Route
from farshore.trust.chain import Chain

ABSENT = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    with Azurite(tmp_path_factory.mktemp("azurite")) as found:
        yield found


@pytest.fixture
def world(azurite, tmp_path, monkeypatch):
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    hub, iothub = SimHub(), SimIotHub()
    for device in ("d", "e"):
        hub.add_device(device, f"credential-credential-{device}")
        iothub.put_module(device, MODULE)
    return AzureWorld(
        hub, iothub, azurite.container(f"c{uuid.uuid4().hex}"), tmp_path
    )  # nobody answers by himself here


def largest(version):
    return max(version.blobs.items(), key=lambda item: len(item[1]))


def asked(world, *want, device="d"):
    return world.answerer.answer(device, Ask("question-1", want))


def get(route):
    found = urllib3.request("GET", route.url)
    assert found.status == 200
    return found.data


def test_a_dispatch_leads_to_everything_that_is_signed(world):
    version = world.hub.publish(release())
    world.hub.desire("d", version)
    made = world.publish("d")
    answer = asked(world, DISPATCH)
    found = dispatches.decode(get(answer.routes[DISPATCH][0]))
    assert documents.encode(found) == documents.encode(made)
    pieces = {
        one.digest: get(asked(world, one.digest).routes[one.digest][-1])
        for one in (*made.roots, *made.metadata.values())
    }
    chain = Chain.begin(pieces[made.roots[0].digest])
    chain = chain.with_timestamp(pieces[made.metadata["timestamp"].digest])
    chain = chain.with_snapshot(pieces[made.metadata["snapshot"].digest])
    chain = chain.with_targets(pieces[made.metadata["targets"].digest])
    assert chain.with_role("model/detector", pieces[made.metadata["model/detector"].digest]).roles
    digest, data = largest(version)
    assert get(asked(world, digest).routes[digest][-1]) == data
    assert get(asked(world, version.digest).routes[version.digest][-1]) == version.payload


def test_what_was_not_published_for_a_device_is_not_given(world):
    mine, other = world.hub.publish(release()), world.hub.publish(release("secret"))
    world.hub.desire("d", mine)
    world.hub.desire("e", other)
    world.publish("d")
    world.publish("e")
    digest = largest(other)[0]
    assert asked(world, digest).faults[digest].code == Denied.code
    assert asked(world, other.digest).faults[other.digest].code == Denied.code
    assert asked(world, ABSENT).faults[ABSENT].code == NotFound.code
    assert not asked(world, digest, other.digest, ABSENT).routes
    assert asked(world, digest, device="e").routes
    assert asked(world, DISPATCH, device="stranger").faults[DISPATCH].code == NotFound.code
    assert asked(world, DISPATCH, device="../e").faults[DISPATCH].code == "invalid"


def test_patches_come_first_and_need_what_they_need(world):
    old, new = world.hub.publish(release()), world.hub.publish(release(version=2))
    target, base, patch = largest(new)[0], largest(old)[0], noise(5000, "patch")
    world.hub.objects[digests.of(patch)] = patch
    world.hub.patches[target] = [Route("", digests.of(patch), len(patch), "patch", (base,))]
    world.hub.desire("d", new)
    world.publish("d")
    first, last = asked(world, target).routes[target]
    assert (first.kind, first.bases, get(first)) == ("patch", (base,), patch)
    assert last.kind == "whole"


def test_what_is_there_is_not_sent_again(world):
    version = world.hub.publish(release())
    world.hub.desire("d", version)
    first = world.publish("d")
    sent = world.publisher.sent
    assert sent > version.size
    second = world.publish("d")
    assert second.number > first.number
    assert world.publisher.sent == sent
    world.hub.repo.new_snapshot()
    world.publish("d")
    assert 0 < world.publisher.sent - sent < 4000  # snapshot and timestamp


def test_what_still_holds_is_left_as_it_is(world):
    now = world.hub.repo.now
    for device in ("d", "e"):
        world.hub.desire(device)
    first = world.publisher.publish(["d", "e"], now)
    assert world.publisher.news == {"d", "e"}
    again = world.publisher.publish(["d", "e"], now + 3600)
    assert world.publisher.news == set()
    assert [one.number for one in again] == [one.number for one in first]
    world.hub.desire("d", world.hub.publish(release()))
    world.hub.desire("e")
    now = world.hub.repo.now
    changed = world.publisher.publish(["d", "e"], now)
    assert {one.number for one in changed} != {first[0].number}
    world.hub.desire("d")
    mine, other = world.publisher.publish(["d", "e"], now)
    assert world.publisher.news == {"d"}
    assert mine.number > other.number
    world.publisher.publish(["d", "e"], now, together=True)
    assert world.publisher.news == set()
    world.hub.desire("e", *world.hub.releases.values())
    mine, other = world.publisher.publish(["d", "e"], now, together=True)
    assert world.publisher.news == {"d", "e"}
    assert mine.number == other.number
    world.publisher.publish(["d", "e"], now + 86400)
    assert world.publisher.news == {"d", "e"}  # orders of a day ago are signed again


def test_a_container_that_is_not_there(world):
    world.hub.desire("d")
    world.publisher.store = type(world.store).open("az://absent")
    with pytest.raises(Unavailable, match="no such container"):
        world.publisher.publish(["d"], time.time())


def test_questions_are_answered_once_and_three_times_tried(world):
    calls = []
    module = world.iothub.modules["d", MODULE]
    ask = {"farshore": {"ask": {"id": "question-1", "want": [DISPATCH]}}}
    world.hub.desire("d")
    world.publish("d")
    module.reported = replace(module.reported, values=ask)
    for _ in range(6):
        world.answerer.round()  # not connected
    module.called = lambda name, payload: calls.append((name, payload)) or True
    assert world.answerer.round() == 0
    module.reported = replace(
        module.reported, values={"farshore": {"ask": {**ask["farshore"]["ask"], "id": "question-2"}}}
    )
    assert world.answerer.round() == 1
    assert world.answerer.round() == 0
    ((name, payload),) = calls
    assert name == dispatches.METHOD
    assert payload["id"] == "question-2"


@pytest.mark.parametrize(
    "ask",
    [
        None,
        7,
        [],
        {},
        {"id": "x"},
        {"id": "question-1", "want": ["../../etc"]},
        {"id": "question-1", "want": [DISPATCH] * 99},
    ],
)
def test_what_is_no_question_is_passed_over(world, ask):
    module = world.iothub.modules["d", MODULE]
    module.called = lambda *_: pytest.fail("it was answered")
    module.reported = replace(module.reported, values={"farshore": {"ask": ask}})
    assert world.answerer.round() == 0


def test_a_twin_names_a_dispatch_and_opens_nothing(world):
    version = world.hub.publish(release("with.dots"))
    world.hub.desire("d", version)
    made = world.publish("d")
    section = pointer(made)["farshore"]
    assert section == {"dispatch": made.number, "models": {"with%2Edots": {"version": 1, "digest": version.digest}}}
    assert "sig=" not in repr(world.iothub.twin("d", MODULE))


def test_a_dispatch_that_was_tampered_with_gives_nothing_away(world, tmp_path):
    version, other = world.hub.publish(release()), world.hub.publish(release("secret"))
    world.hub.desire("d", version)
    made = world.publish("d")
    world.store.write(dispatches.name_of("d"), b"{")
    assert asked(world, DISPATCH).faults[DISPATCH].code == "invalid"
    world.store.write(dispatches.name_of("d"), b" " * (MAX_DISPATCH + 1))
    assert asked(world, DISPATCH).faults[DISPATCH].code == "too_large"
    world.store.write(dispatches.name_of("d"), documents.encode(replace(made, order=Raw(b"{}"))))
    assert asked(world, version.digest).routes  # devices refuse it: the order is no order
    assert asked(world, other.digest).faults


def test_numbers_grow_whatever_the_clock_says(world):
    world.hub.desire("d")
    (first,) = world.publisher.publish(["d"], time.time())
    (second,) = world.publisher.publish(["d"], 0)
    assert second.number == first.number + 1
