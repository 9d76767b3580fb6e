"""Which deployment wins on a device, and what the device is told in the end. Pure.

For every model the matching deployment with the highest priority wins; among equals the newest. An operator's own
``models`` entry in the twin wins over all deployments, and holds the device there; an entry that says only ``retry`` is
added to what the deployments say, so that trying again holds nothing.

A deployment whose version is being rolled out gives it to devices that have it already and to those that an open wave takes
in; the others get the version before it, or, where there was none, what the next deployment says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farshore.core import twin
from farshore.hub.rollout import NOTHING, Rollout, wave_of
from farshore.hub.selector import Selector


@dataclass(frozen=True, slots=True)
class Rule:
    """A deployment, ready to be asked.

    Attributes:
        id: its name.
        selector: which devices.
        model: name of the model.
        version: its number, for people.
        digest: of the version's manifest.
        priority: higher wins.
        serial: grows with every deployment made; breaks ties.
        rollout: by which the version reaches devices; None when it holds for all.
        before: number and digest of the version that the others keep; None if there was none.
        activate: times of day in which devices may switch to the version; none for always.

    """

    id: str
    selector: Selector
    model: str
    version: int
    digest: str
    priority: int
    serial: int
    rollout: Rollout | None = None
    before: tuple[int, str] | None = None
    activate: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a rule gives a device.

    Attributes:
        rule: which.
        version: number.
        digest: of the manifest.
        wave: of the rollout that takes the device in with this; None otherwise.
        trial: what the version's trial must show; None for nothing but to live.
        hold: the device has it beside and does not switch to it yet.

    """

    rule: Rule
    version: int
    digest: str
    wave: int | None = None
    trial: Mapping[str, Any] | None = None
    hold: bool = False

    @property
    def entry(self) -> dict[str, Any]:
        """What a device's desired section says of the model."""
        told: dict[str, Any] = {"version": self.version, "digest": self.digest}
        told |= {"trial": self.trial} if self.trial else {}
        told |= {"hold": True} if self.hold else {}
        windows = self.rule.activate if self.digest == self.rule.digest else ()
        return told | ({"activate": list(windows)} if windows else {})


def _nobody(_rollout: str) -> Sequence[int]:
    raise AssertionError("rules without rollouts ask for no tally")


def _anything(_rule: Rule) -> bool:
    return True


def winners(
    rules: Iterable[Rule],
    device: str,
    tags: Mapping[str, Any],
    told: Mapping[str, Mapping[str, Any]] | None = None,
    admitted: Callable[[str], Sequence[int]] = _nobody,
    reported: Mapping[str, Any] = NOTHING,
    affords: Callable[[Rule], bool] = _anything,
) -> dict[str, Choice]:
    """What holds for each model on a device.

    Args:
        rules: all of them, in any order.
        device: its id.
        tags: its tags.
        told: what its desired section says so far, by model.
        admitted: devices that a rollout has taken in, by wave; asked for by the rollout's id, only where it matters.
        reported: its reported section.
        affords: whether a rollout's budget lets it take the device in; asked only where all else does.

    """
    best: dict[str, Choice] = {}
    for rule in sorted(rules, key=lambda one: (one.priority, one.serial), reverse=True):
        if rule.model not in best and rule.selector.matches(device, tags, reported):
            choice = _choose(rule, device, tags, (told or {}).get(rule.model), admitted, reported, affords)
            if choice is not None:
                best[rule.model] = choice
    return best


def _choose(
    rule: Rule,
    device: str,
    tags: Mapping[str, Any],
    told: Mapping[str, Any] | None,
    admitted: Callable[[str], Sequence[int]],
    reported: Mapping[str, Any],
    affords: Callable[[Rule], bool],
) -> Choice | None:
    rolling, held = rule.rollout, rule.rollout is not None and rule.rollout.held
    if told is not None and told.get("digest") == rule.digest:  # and what its trial must show stays as it was told
        return Choice(rule, rule.version, rule.digest, trial=told.get("trial"), hold=held)
    if rolling is None:
        return Choice(rule, rule.version, rule.digest)
    wave = wave_of(rolling, device, tags, admitted, reported)
    if wave is not None and (not held or _runs_before(rule, reported)) and affords(rule):
        return Choice(rule, rule.version, rule.digest, wave, rolling.gate.conditions(), hold=held)
    return None if rule.before is None else Choice(rule, *rule.before)


def _runs_before(rule: Rule, reported: Mapping[str, Any]) -> bool:
    """Whether a device runs the version that a new one is to be held beside: who runs nothing yet gets that first."""
    if rule.before is None:
        return True
    said: Any = reported.get("models", {})
    for key in (twin.key_of(rule.model), "current"):
        said = said.get(key) if isinstance(said, Mapping) else None
    return isinstance(said, Mapping) and said.get("digest") == rule.before[1]


def effective(
    manual: Mapping[str, Any], won: Mapping[str, Choice], settings: Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """The values of a device's desired section.

    Args:
        manual: desired as operators wrote it.
        won: from :func:`winners`.
        settings: from :func:`.layering.settled`; what operators wrote by hand wins over each of them.

    """
    models: dict[str, Any] = {twin.key_of(model): one.entry for model, one in won.items()}
    for key, entry in manual.get("models", {}).items():
        if not retries(entry):
            models[key] = entry
        elif key in models:
            models[key] = {**models[key], **entry}
    rest = {key: value for key, value in manual.items() if key != "models"}
    if settings:
        rest["settings"] = {**settings, **manual.get("settings", {})}
    return {**rest, "models": models} if models else rest


def pins(manual: Mapping[str, Any]) -> dict[str, Any]:
    """``manual`` as it stands without entries that say only ``retry``: what operators hold against all deployments."""
    models = {key: entry for key, entry in manual.get("models", {}).items() if not retries(entry)}
    return {**manual, "models": models}


def retries(entry: Any) -> bool:
    """Whether a model's entry only asks to try again, whatever the deployments want there."""
    return isinstance(entry, dict) and entry.keys() <= {"retry"}
