"""Settings that devices are given: of their link, and by layers, of which the one with the highest priority has the last word. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from farshore.hub.selector import Selector

TAG = "link"
"""The tag by which a device names its link."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings for the devices that a selector matches.

    Attributes:
        id: its name; among equals of priority the later one by name holds.
        selector: which devices.
        priority: higher wins, setting by setting.
        settings: in the words of :class:`farshore.core.wire.DesiredSettings`.

    """

    id: str
    selector: Selector
    priority: int
    settings: Mapping[str, Any]


def link_of(tags: Mapping[str, Any]) -> str:
    """The link that a device names; "" if none."""
    named = tags.get(TAG)
    return named if isinstance(named, str) else ""


def settled(
    links: Mapping[str, Mapping[str, Any]],
    layers: Iterable[Layer],
    device: str,
    tags: Mapping[str, Any],
    reported: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings that hold for a device, save what operators wrote into its twin by hand.

    Args:
        links: what each asks of devices, by name.
        layers: all of them, in any order.
        device: its id.
        tags: its tags.
        reported: its reported section.

    """
    found = dict(links.get(link_of(tags), {}))
    for layer in sorted(layers, key=lambda one: (one.priority, one.id)):
        if layer.selector.matches(device, tags, reported):
            found |= layer.settings
    return found
