"""Which deployment wins on a device, and what the device is told in the end. Pure.

For every model the matching deployment with the highest priority wins; among equals the newest. An operator's own
``models`` entry in the twin wins over all deployments, and holds the device there; an entry that says only ``retry`` is
added to what the deployments say, so that trying again holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from farshore.core import twin
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

    """

    id: str
    selector: Selector
    model: str
    version: int
    digest: str
    priority: int
    serial: int


def winners(rules: Iterable[Rule], device: str, tags: Mapping[str, Any]) -> dict[str, Rule]:
    """The rule that holds for each model on a device.

    Args:
        rules: all of them, in any order.
        device: its id.
        tags: its tags.

    """
    best: dict[str, Rule] = {}
    for rule in rules:
        held = best.get(rule.model)
        better = held is None or (rule.priority, rule.serial) > (held.priority, held.serial)
        if better and rule.selector.matches(device, tags):
            best[rule.model] = rule
    return best


def effective(manual: Mapping[str, Any], won: Mapping[str, Rule]) -> dict[str, Any]:
    """The values of a device's desired section.

    Args:
        manual: desired as operators wrote it.
        won: from :func:`winners`.

    """
    models: dict[str, Any] = {
        twin.key_of(rule.model): {"version": rule.version, "digest": rule.digest} for rule in won.values()
    }
    for key, entry in manual.get("models", {}).items():
        if not retries(entry):
            models[key] = entry
        elif key in models:
            models[key] = {**models[key], **entry}
    rest = {key: value for key, value in manual.items() if key != "models"}
    return {**rest, "models": models} if models else rest


def pins(manual: Mapping[str, Any]) -> dict[str, Any]:
    """``manual`` as it stands without entries that say only ``retry``: what operators hold against all deployments."""
    models = {key: entry for key, entry in manual.get("models", {}).items() if not retries(entry)}
    return {**manual, "models": models}


def retries(entry: Any) -> bool:
    """Whether a model's entry only asks to try again, whatever the deployments want there."""
    return isinstance(entry, dict) and entry.keys() <= {"retry"}
