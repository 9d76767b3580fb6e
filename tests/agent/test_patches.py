"""Real patches through the agent, over a simulated hub."""

import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sim.releases import noise, release
from tests.sim.world import World

from farshore import delta
from farshore.agent import patches
from farshore.core import digest as digests
from farshore.core.errors import Corrupt, Invalid, TooLarge
from farshore.core.wire import Route
from farshore.store.blobs import CHUNK

OLD = noise(200_000, "old")
NEW = OLD[:90_000] + noise(2_000, "new") + OLD[90_000:]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "old").write_bytes(OLD)
    (tmp_path / "patch").write_bytes(b"".join(delta.encode(NEW, [OLD])))
    return tmp_path


def test_what_is_held_and_a_patch_make_what_is_wanted(files):
    (files / "stranger").write_bytes(b"x")
    for bases in (["old"], ["stranger", "old"]):
        assert b"".join(patches.apply(files / "patch", [files / base for base in bases])) == NEW


def test_other_bases_and_damage_are_refused(files):
    (files / "stranger").write_bytes(OLD[:-1] + b"x")
    with pytest.raises(Invalid, match="not held"):
        list(patches.apply(files / "patch", [files / "stranger"]))
    data = bytearray((files / "patch").read_bytes())
    data[-1] ^= 1
    (files / "patch").write_bytes(data)
    with pytest.raises(Corrupt):
        list(patches.apply(files / "patch", [files / "old"]))


def test_memory_is_limited_before_any_is_taken(files, monkeypatch):
    monkeypatch.setattr(patches, "MEMORY", 63)
    with pytest.raises(TooLarge):
        list(patches.apply(files / "patch", [files / "old"]))


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "device", apply=patches.apply)
    world.first, world.second = (world.hub.publish(one) for one in (release(version=1), related(release(version=1))))
    world.hub.desire("turbine-7", world.first)
    world.settle()
    assert world.current() == world.first.digest
    world.link.moved = 0
    return world


def related(first):
    """The next version: the same weights with a few bytes between them."""
    weights = first.blobs[model_of(first)]
    return release(version=2, weights=weights[:100_000] + noise(700, "fresh") + weights[100_000:])


def model_of(one):
    return digests.parse(one.manifest.content.variants[0].model.digest)


def offer(world, patch):
    """Let the hub hold ``patch`` from the first version's weights to the second's."""
    world.hub.objects[digests.of(patch)] = patch
    route = Route("", digests.of(patch), len(patch), "patch", (model_of(world.first),))
    world.hub.patches[model_of(world.second)] = [route]
    world.hub.desire("turbine-7", world.second)


def true_patch(world):
    first, second = model_of(world.first), model_of(world.second)
    return b"".join(delta.encode(world.second.blobs[second], [world.first.blobs[first]]))


def test_only_the_patch_is_moved(world):
    patch = true_patch(world)
    assert len(patch) < 2000
    offer(world, patch)
    world.settle()
    assert world.current() == world.second.digest
    assert world.link.moved == len(patch)
    assert world.blobs.path(model_of(world.second)).read_bytes() == world.second.blobs[model_of(world.second)]
    assert digests.of(patch) not in world.blobs.digests()


def broken(patch, how):
    chance = random.Random(how)
    data = bytearray(patch)
    if how == "cut":
        return bytes(data[:-20])
    if how == "no patch":
        return noise(len(data), "none")
    for _ in range(8):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("how", ["cut", "no patch", *"abcdefgh"])
def test_a_wrong_patch_costs_its_bytes_and_no_more(world, how):
    patch = broken(true_patch(world), how)
    offer(world, patch)
    world.settle()
    assert world.current() == world.second.digest
    assert world.link.moved == len(patch) + len(world.second.blobs[model_of(world.second)])


def test_a_patch_to_another_file_is_no_way_to_this_one(world):
    held = world.first.blobs[model_of(world.first)]
    patch = b"".join(
        delta.encode(held + b"!" * 700, [held])
    )  # whole and right, of the size wanted, and not what is wanted
    offer(world, patch)
    world.settle()
    assert world.current() == world.second.digest
    assert world.blobs.path(model_of(world.second)).read_bytes() == world.second.blobs[model_of(world.second)]


def test_a_base_gone_bad_on_disk_leaves_the_whole(world):
    base = world.blobs.path(model_of(world.first))
    base.chmod(0o644)
    data = bytearray(base.read_bytes())
    data[1000] ^= 1
    base.write_bytes(data)
    offer(world, true_patch(world))
    world.settle()
    assert world.current() == world.second.digest
    assert world.blobs.path(model_of(world.second)).read_bytes() == world.second.blobs[model_of(world.second)]


def test_cuts_cost_at_most_a_buffer_each(world):
    patch = true_patch(world)
    world.link.cuts = [100, 0, 500, 1000]
    offer(world, patch)
    world.settle()
    assert world.current() == world.second.digest
    assert world.link.moved <= len(patch) + 4 * CHUNK


def test_on_a_tight_disk_the_whole_is_fetched_once(tmp_path):
    """Room for the second version and not for its patch beside it."""
    first = release(version=1)
    second = related(first)
    world = World(tmp_path / "device", apply=patches.apply, quota=first.size + 300_700 + 500)
    world.hub.publish(first)
    world.hub.publish(second)
    world.first, world.second = first, second
    world.hub.desire("turbine-7", first)
    world.settle()
    world.link.moved = 0
    patch = true_patch(world)
    assert len(patch) > 500
    offer(world, patch)
    world.settle()
    assert world.current() == second.digest
    assert world.link.moved == len(second.blobs[model_of(second)])


def killed_while_applying(world, tmp_path, times):
    """A device whose agent is killed each time it has decoded a part of the patch; what is left of it, and how often it tried."""
    tried = 0

    def deadly(patch, bases):
        nonlocal tried
        tried += 1
        for number, piece in enumerate(patches.apply(patch, bases)):
            yield piece
            if number == 0 and tried <= times:
                left.append(world.fork(tmp_path / f"killed-{tried}"))
                raise KeyboardInterrupt  # this agent is of no more interest: its twin was killed

    for _ in range(times + 1):
        left, world._apply = [], deadly
        world.start_agent()
        try:
            world.settle()
        except KeyboardInterrupt:
            [world] = left
    return world, tried


@pytest.mark.parametrize(("times", "patched"), [(0, True), (2, True), (3, False)])
def test_a_patch_that_takes_the_agent_down_is_given_up(world, tmp_path, times, patched):
    patch, second = true_patch(world), model_of(world.second)
    offer(world, patch)
    world, tried = killed_while_applying(world, tmp_path, times)
    assert world.current() == world.second.digest
    assert world.blobs.path(second).read_bytes() == world.second.blobs[second]
    assert tried == times + patched
    assert (world.link.moved > 0) != patched or times == 0  # each fork has a link of its own: only the last one's bytes
    assert world.journal().applying == ({} if patched else {digests.of(patch): 3})


def test_an_order_to_stop_does_not_speak_against_a_patch(world):
    offer(world, true_patch(world))

    def stopped(patch, bases):
        yield from list(patches.apply(patch, bases))[:1]
        raise KeyboardInterrupt

    world._apply = stopped
    for _ in range(5):
        world.start_agent()
        with pytest.raises(KeyboardInterrupt):
            world.settle()
    assert world.journal().applying == {}
    world._apply = patches.apply
    world.start_agent()
    world.link.moved = 0
    world.settle()
    assert world.current() == world.second.digest
    assert world.link.moved == 0  # the patch was here already


def test_the_hub_hears_of_a_wrong_patch(world):
    """And may know another one by then, which is taken."""
    wrong, right = broken(true_patch(world), "a"), true_patch(world)
    offer(world, wrong)
    world.link.moved = 0
    asked = []
    tickets = world.hub.tickets

    def mended(credential, request):
        asked.append(request.wrong)
        if request.wrong:
            world.hub.objects[digests.of(right)] = right
            world.hub.patches[model_of(world.second)] = [
                Route("", digests.of(right), len(right), "patch", (model_of(world.first),))
            ]
        return tickets(credential, request)

    world.hub.tickets = mended
    world.settle()
    assert world.current() == world.second.digest
    assert (digests.of(wrong),) in asked
    assert world.link.moved == len(wrong) + len(right)


def target_size(one):
    return sum(len(data) for data in one.blobs.values())


def test_a_patch_that_comes_in_pieces_is_progress(tmp_path):
    """Each cut that left something begins the count anew: no wait that doubles."""
    world = World(tmp_path / "device", apply=patches.apply)
    first = release(version=1)
    second = release(version=2, weights=first.blobs[model_of(first)] + noise(10 * CHUNK, "more"))
    world.hub.publish(first)
    world.hub.publish(second)
    world.first, world.second = first, second
    world.hub.desire("turbine-7", first)
    world.settle()
    offer(world, true_patch(world))
    world.link.cuts = [CHUNK + 5000] * 8
    counts, told = set(), [0]
    for _ in range(2000):
        world.agent.turn()
        target = world.reported().get("target")
        told += [] if target is None else [target.get("done", 0)]
        attempt = world.journal().attempt
        counts.add(0 if attempt is None or attempt.step != "download" else attempt.count)
        if world.current() == second.digest:
            break
    assert world.current() == second.digest
    assert not world.link.cuts
    assert counts == {0, 1}
    assert told[:-1] == sorted(told[:-1])  # the operator sees it come, and a cut takes nothing back
    assert len({done for done in told if 0 < done < target_size(second)}) >= 3


def test_memory_goes_back_to_the_system_when_a_patch_is_applied(tmp_path):
    """The C library would keep what the largest block took. Measured in a process of its own, beside the same without giving back."""
    rng = random.Random(3)
    old = b"".join(struct.pack("<f", rng.gauss(0, 1)) for _ in range(1 << 18))
    new = b"".join(struct.pack("<f", x + rng.gauss(0, 0.001)) for (x,) in struct.iter_unpack("<f", old))
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "patch").write_bytes(b"".join(delta.encode(new, [old])))
    keeping, giving = (resident(tmp_path, code) for code in ("patches._give_back = lambda: None", "pass"))
    assert giving < keeping


def resident(folder, first):
    code = (
        "import sys; from pathlib import Path; from farshore.agent import patches\n"
        f"{first}\n"
        "for _ in range(2): size = sum(len(piece) for piece in patches.apply(Path('patch'), [Path('old')]))\n"
        "lines = Path('/proc/self/smaps_rollup').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in lines if line.startswith('Anonymous:')))"
    )
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("this system does not say what a process holds")
    return int(
        subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout
    )
