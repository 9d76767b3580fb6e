"""The true cause, in each case in which a device is not where one expects it."""

import pytest

from farshore.core.wire import Fault, ReportedModel, Running, Target
from farshore.hub.deployment import Choice, Rule
from farshore.hub.rollout import Gate, Rollout, Tally, Wave
from farshore.hub.selector import parse
from farshore.hub.why import Case, chain

OLD, NEW = f"sha256:{1:064x}", f"sha256:{2:064x}"
WAVES = (Wave(percent=10), Wave(percent=100))


def rolling(state="running", reason="", **gate):
    return Rollout("r", WAVES, Gate(**gate), state, 0, 0.0, None, reason)


def case(rolling=None, target=None, current=(1, OLD), given=True, **more):
    rule = Rule("prod", parse("*"), "m", 2, NEW, 0, 1, rolling, (1, OLD), ("02:00-04:00",))
    choice = Choice(rule, 2, NEW) if given else Choice(rule, 1, OLD)
    said = ReportedModel(current=Running(*current) if current else None, target=target)
    values = {
        "device": "d", "model": "m", "rule": rule, "choice": choice, "manual": None, "told": 2 if given else 1, "said": said,
        "seen": 5.0, "interval": 60.0, "standing": "accepted", "tallies": [Tally(), Tally()],
    }  # fmt: skip
    return Case(**{**values, **more})


def back(reason, state="rolled back"):
    """A device that runs the version that its deployment names again."""
    rule = Rule("prod", parse("*"), "m", 1, OLD, 0, 1, None, None)
    return case(rule=rule, choice=Choice(rule, 1, OLD), told=1, last=rolling(state, reason), brought=2)


def doing(state, fault=None, **more):
    return Target(NEW, state, 2, fault=Fault("unavailable", fault) if fault else None, **more)


@pytest.mark.parametrize(
    ("asked", "codes", "said"),
    [
        (case(current=(2, NEW)), ["running"], "d runs m@2"),
        (case(rule=None, choice=None, told=None), ["no-deployment"], "no deployment of m selects d"),
        (case(manual={"version": 1, "digest": OLD}, told=1), ["held"], "an operator holds m@1"),
        (case(manual={"retry": 3}), ["not-told"], "should run m@2 and runs m@1"),
        (case(rolling(), given=False), ["told", "not-in-wave", "gate"], "0 of 0 devices have confirmed or failed; 1 must"),
        (case(rolling(), given=False, tallies=[Tally(admitted=1, confirmed=1), Tally()]),
         ["told", "not-in-wave", "gate"], "must stay so for 5 min"),
        (case(rolling("paused", "for lunch"), given=False), ["told", "paused"], "for lunch"),
        (case(rolling("aborted", "it smoked"), given=False), ["told", "aborted"], "it smoked"),
        (case(rolling(), given=False, seen=7200.0), ["told", "not-in-wave", "gate", "offline"], "not heard of for 2 h"),
        (case(seen=7200.0), ["not-told", "offline"], "not heard of for 2 h"),
        (case(seen=None, current=None), ["not-told", "never-seen"], "never heard of"),
        (case(standing="quarantined: its key is in use at two places"), ["not-told", "standing"], "two places"),
        (case(target=doing("waiting", "the download window is closed")), ["told", "waiting"], "window is closed"),
        (case(target=doing("waiting", "the download window is closed", cause="window")), ["told", "window"], "window is closed"),
        (case(target=doing("waiting", "cap reached: 5 MB a day on link iridium", cause="cap")), ["told", "cap"], "5 MB a day"),
        (case(rolling("paused", "over budget: d needs 3 MB more, and 8 of 10 are taken"), given=False),
         ["told", "over-budget"], "8 of 10 are taken"),
        (case(rolling(), given=False, counting=True), ["told", "counting"], "patches are being built"),
        (case(rolling(), target=doing("ready", cause="switch")), ["told", "switch"], "farshore rollout advance r"),
        (case(target=doing("ready", cause="activation")), ["told", "activation"], "in its window 02:00-04:00"),
        (case(target=doing("downloading", done=43, size=100)), ["told", "downloading"], "(43 %)"),
        (case(target=doing("failed", "too little disk: 5 bytes to fetch")), ["told", "failed"], "too little disk"),
        (case(target=doing("failed", "its worker crashed 3 times")), ["told", "failed"], "crashed 3 times"),
        (case(target=doing("trial")), ["told", "trial"], "on trial"),
        (case(rolling(), target=doing("shadow")), ["told", "shadow"], "lets it answer unseen, to compare"),
        (case(rolling(), target=doing("failed", "in its shadow 0.5 of 40 answers were those of the version before")), ["told", "failed"],
         "it gave it up: in its shadow 0.5 of 40 answers"),
        (case(rolling(agreement=0.9), given=False, tallies=[Tally(admitted=1, confirmed=1), Tally()]), ["told", "not-in-wave", "gate"],
         "0 answers were compared with the previous version's; 20 must be"),
        (case(rolling("paused", "wave 1: 0.3 of findings are of other classes"), given=False), ["told", "paused"], "0.3 of findings"),
        (back("wave 1: 0.5 of answers agree with the previous version's (40 answers); at least 0.9 is asked"), ["running", "rolled-back"],
         "rollout r to m@2 was rolled back: wave 1: 0.5 of answers agree"),
        (case(rule=None, choice=None, told=None, current=None, last=rolling("rolled back", "x"), brought=2), ["no-deployment", "rolled-back"],
         "rollout r to m@2 was rolled back: x"),
        (back("x", state="done"), ["running"], "d runs m@1"),
        (case(target=doing("downloading", "no route to host"), seen=9000.0), ["told", "downloading", "offline"], "2.5 h"),
    ],
)  # fmt: skip
def test_the_first_cause_stands_last(asked, codes, said):
    found = chain(asked)
    assert [one.code for one in found] == codes
    assert said in found[-1].text
