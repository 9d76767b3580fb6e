"""The shadow before the trial: when it begins, goes on and ends; and over a whole agent, with cuts."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from tests.agent.test_plan import NOW, V1, V2, V3, have, local, trial
from tests.sim.releases import release
from tests.sim.world import DEVICE

from farshore.agent import shadowing
from farshore.agent.plan import Activate, Hold, Probe, next_step, verdicts
from farshore.agent.report import reported
from farshore.agent.shadowing import MAX_BEGUN, Cast, EndShadow
from farshore.agent.state import Attempt, Shadow
from farshore.core import twin, wire
from farshore.core.control import ModelStatus, Serving, Status
from farshore.core.sketch import CLASSES, Sketch
from farshore.core.wire import Conditions, DesiredModel, Fault
from farshore.core.wire import Shadow as Asked

ASKED = Conditions(errors=0.1, agreement=0.9, compared=20, shadow=Asked(0.25, answers=100, seconds=600))
FAULT = Fault("unavailable", "x")
CAST, PASSED = Cast("m", V2, 0.25), EndShadow("m", V2, wanted=True)
BEGUN, OVER = Shadow(), Shadow(over=True)


def want(digest=V2, asked=ASKED, **more):
    return {"m": DesiredModel(version=2, digest=digest, trial=asked, **more)}


def seen(digest=V2, share=0.25, **counts):
    """What the server says while version 1 answers and a candidate runs as shadow."""
    shown = None if digest is None else Serving(digest, 2, **{"share": share, "seconds": 60.0, **counts})
    return Status(("onnxruntime",), {"m": ModelStatus(Serving(V1, 1, requests=1000), shown)})


def tried(**note):
    return have(V1, V2, current=V1, digest=V2, probed=True, **note)


def failed(text):
    return EndShadow("m", V2, wanted=False, fault=Fault("unavailable", text))


def disagreed(share, count):
    return failed(
        f"in its shadow {share} of {count} answers were those of the version before; at least 0.9 of them must be"
    )


@pytest.mark.parametrize(
    ("state", "server", "step"),
    [
        pytest.param(tried(), seen(None), CAST, id="a version that is tried out is cast"),
        pytest.param(tried(), seen(V2, 0.0), CAST, id="also when it stands warm"),
        pytest.param(have(V1, V2, current=V1, digest=V2), seen(None), Probe("m", V2), id="not before its probe"),
        pytest.param(tried(shadow=BEGUN), seen(None), CAST, id="again after the server forgot it"),
        pytest.param(tried(shadow=BEGUN), seen(ready=False, crashes=1), CAST, id="again after it died"),
        pytest.param(tried(shadow=BEGUN), seen(compared=99, agreed=99), None, id="watched until enough is compared"),
        pytest.param(tried(shadow=BEGUN), seen(compared=100, agreed=90), PASSED, id="enough compared, and well"),
        pytest.param(tried(shadow=BEGUN), seen(compared=5, agreed=0, seconds=600.0), PASSED, id="time is over, too little known"),
        pytest.param(tried(shadow=BEGUN), seen(compared=100, agreed=89), disagreed("0.89", 100), id="enough, and worse"),
        pytest.param(tried(shadow=BEGUN), seen(compared=21, agreed=10), disagreed("0.476", 21), id="worse beyond repair"),
        pytest.param(tried(shadow=BEGUN), seen(compared=21, agreed=11), None, id="worse, and may still make up for it"),
        pytest.param(tried(shadow=BEGUN), seen(compared=30, agreed=26, seconds=600.0), disagreed("0.867", 30), id="late and worse"),
        pytest.param(tried(shadow=BEGUN), seen(compared=19, agreed=0), None, id="too few to say"),
        pytest.param(
            tried(shadow=BEGUN), seen(requests=40, errors=5),
            failed("5 of 40 requests failed in its shadow; at most 0.1 of them may"), id="errors",
        ),
        pytest.param(tried(shadow=BEGUN), seen(requests=60, errors=5), None, id="few errors"),
        pytest.param(tried(shadow=BEGUN), seen(crashes=3), failed("its worker crashed 3 times in its shadow"), id="crash loop"),
        pytest.param(
            tried(shadow=Shadow(boots=2)), seen(None), failed("the machine restarted 2 times in its shadow"), id="takes the machine down"
        ),
        pytest.param(tried(shadow=Shadow(begun=MAX_BEGUN)), seen(None), CAST, id="the last time"),
        pytest.param(
            tried(shadow=Shadow(begun=MAX_BEGUN + 1)), seen(None),
            failed(f"its shadow was begun {MAX_BEGUN + 1} times and never came to its end"), id="never comes to its end",
        ),
        pytest.param(tried(shadow=OVER), seen(V2, 0.0), Activate("m", V2, V1), id="over: the trial"),
        pytest.param(tried(shadow=OVER), seen(), PASSED, id="over, and the server does not know yet"),
        pytest.param(tried(failed=FAULT), seen(), EndShadow("m", V2, wanted=False), id="given up, and the server does not know yet"),
        pytest.param(tried(), seen(V3), EndShadow("m", V3, wanted=False), id="another one is in the shadow"),
        pytest.param(tried(), "away", None, id="nobody to ask"),
        pytest.param(tried(), "none", Activate("m", V2, V1), id="nobody to compare"),
        pytest.param(
            have(V1, V2, current=V1, previous=V2, digest=V2, probed=True), seen(None), Activate("m", V2, V1), id="going back asks nothing"
        ),
        pytest.param(have(V2, digest=V2, probed=True), seen(None), Activate("m", V2, None), id="the first version"),
        pytest.param(
            tried(attempt=Attempt("shadow", NOW, fault=FAULT, strikes=1)), seen(None), None, id="a failed attempt is paced"
        ),
        pytest.param(
            have(V1, V2, V3, current=V1, digest=V2, probed=True, trial=trial(V1, V3)), seen(None), None, id="not while another is on trial"
        ),
    ],
)  # fmt: skip
def test_what_comes_next(state, server, step):
    assert next_step(want(), local(state, server=server), NOW) == step


def test_without_being_asked_there_is_none():
    for asked in (None, Conditions(agreement=0.9)):
        snapshot = local(tried(), server=seen(None))
        assert next_step(want(asked=asked), snapshot, NOW) == Activate("m", V2, V1)


def test_one_that_desired_turned_away_from_is_let_go():
    state = have(V1, V2, current=V1, digest=V1)
    snapshot = local(state, server=seen())
    assert next_step(want(V1), snapshot, NOW) == EndShadow("m", V2, wanted=False)
    assert shadowing.stray("m", want(V1)["m"], local(state, server=seen(V2, 0.0))) is None


def test_while_it_is_watched_the_device_says_so():
    held = verdicts(want(), local(tried(shadow=BEGUN), server=seen(compared=3, agreed=3)), NOW)["m"]
    assert isinstance(held, Hold) and (held.state, held.fault) == ("shadow", None)
    assert held.until is not None and held.until > NOW


LONG = {"shadow": {"share": 0.5, "answers": 500, "seconds": 600}}
ORDER = {"errors": 0.1, "agreement": 0.9, "shadow": {"share": 0.5, "answers": 40, "seconds": 600}}


def moved_on(world, *, spoil=(), order=ORDER):
    """The world with version 1 running and version 2 desired, which does what the sets named by ``spoil`` mean."""
    one = world.hub.publish(release(version=1, size=1000))
    world.hub.desire(DEVICE, one)
    world.settle()
    two = world.hub.publish(release(version=2, size=1000))
    for name in spoil:
        getattr(world.server, name).add(two.digest)
    world.hub.desire(DEVICE, two, trial=order)
    return one, two


def shadow_calls(world):
    return [what for what, _, _ in world.server.calls if what != "probe"]


def test_a_good_version_is_compared_and_then_takes_over(world):
    _, two = moved_on(world)
    world.settle()
    assert world.serving() == two.digest
    assert shadow_calls(world)[1:] == ["shadow", "shadow", "switch"]
    told = world.reported()
    assert "target" not in told
    assert told["trial"]["compared"] == told["trial"]["agreed"] >= 40
    assert told["trial"]["sketch"]["classes"][0][0] == "ship"
    assert told["trial"]["requests"] > 0 and "unseen" not in told["trial"]
    assert world.journal().shadow.over


def test_the_hub_hears_what_was_compared_before_the_trial_is_over(world):
    moved_on(world)
    world.run(20)
    told = world.reported()
    assert told["target"]["state"] == "trial"
    assert told["trial"]["compared"] >= 40 and told["trial"]["unseen"] is True


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("worse", "answers were those of the version before; at least 0.9"),
        ("failing", "requests failed in its shadow"),
        ("crashing", "times in its shadow"),
    ],
)
def test_a_bad_version_is_given_up_before_anybody_was_answered_by_it(world, spoil, words):
    one, two = moved_on(world, spoil=[spoil])
    world.settle()
    assert world.serving() == world.current() == one.digest
    assert "switch" not in shadow_calls(world)[1:]
    told = world.reported()
    assert (told["target"]["state"], told["target"]["digest"]) == ("failed", two.digest)
    assert words in told["target"]["fault"]["message"]
    assert told["trial"]["digest"] == two.digest and told["trial"]["unseen"] is True
    assert world.server.candidates == {} and world.server.shadows == {}
    calls = len(world.server.calls)
    world.run(4000)
    assert len(world.server.calls) == calls, "it is not tried again"


def test_it_is_given_up_without_a_hub(world):
    one, two = moved_on(world, spoil=["worse"])
    while world.journal().shadow is None:
        world.agent.turn()
    world.link.up = False
    world.run(300)
    assert world.journal().failed is not None
    assert world.serving() == one.digest != two.digest


def test_an_operator_may_have_it_tried_again(world):
    _, two = moved_on(world, spoil=["worse"])
    world.settle()
    world.server.worse.clear()
    world.hub.desire(DEVICE, two, trial=ORDER, retry=1)
    world.settle()
    assert world.serving() == two.digest
    assert world.reported()["trial"]["compared"] == world.reported()["trial"]["agreed"]


def test_where_there_is_no_room_for_two_it_goes_on_without(world):
    _, two = moved_on(world, spoil=["shy"])
    world.settle()
    assert world.serving() == two.digest
    assert world.journal().shadow.over
    assert "compared" not in world.reported()["trial"]


def test_a_machine_that_goes_down_with_it_gives_it_up(world):
    one, _ = moved_on(world, order={"shadow": {"share": 0.5, "answers": 100_000, "seconds": 100_000}})
    for _ in range(2):
        world.run(30)
        assert world.journal().failed is None
        world.reboot()
    world.settle()
    assert "restarted 2 times in its shadow" in world.journal().failed.message
    assert world.serving() == one.digest


def test_after_a_restart_of_the_agent_or_the_server_it_goes_on(world):
    _, two = moved_on(world, order=LONG)
    world.run(8)
    world.start_agent()
    world.run(2)
    world.server.restart()
    world.settle()
    assert world.serving() == two.digest
    assert world.journal().shadow.begun == 2


def test_a_change_of_mind_lets_it_go(world):
    one, _ = moved_on(world, order=LONG)
    world.run(8)
    assert world.server.shadows
    world.hub.desire(DEVICE, one)
    world.settle()
    assert world.server.shadows == {} and world.server.candidates == {}
    assert world.journal().shadow is None
    assert "target" not in world.reported()


def test_notes_of_an_agent_that_knew_no_shadow_are_read(world):
    note = msgspec.json.decode(msgspec.json.encode(world.journal()))
    assert "shadow" not in note
    assert replace(local(tried()), server="away").model("m").note.shadow is None


def test_many_models_that_were_compared_still_fit_into_a_report():
    sketch = Sketch(
        tuple((f"class of things {number}", 10_000, 10_000) for number in range(CLASSES)), (9999,) * 10, (9999,) * 10
    )
    shown = wire.Trial(V2, 5, 1, compared=50, agreed=40, sketch=sketch)
    state = have(V1, V2, current=V2, previous=V1, digest=V2, probed=True, shown=shown)
    snapshot = replace(local(state), models={f"model-{number:02d}": state for number in range(30)})
    section = reported({}, snapshot, {}, None)
    told = [one for one in section["models"].values() if "sketch" in one["trial"]]
    assert len(told) == 12
    assert all(one["trial"]["compared"] == 50 for one in section["models"].values())
    twin.check_size(section, twin.MAX_REPORTED)
