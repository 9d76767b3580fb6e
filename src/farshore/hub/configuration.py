"""What configurations and layered deployments give to a twin. Pure.

A configuration's content is, as IoT Hub's clients send it, one of

* ``deviceContent``: for the device's own twin, ``{"properties.desired.a.b": value}``;
* ``moduleContent``: the same for the modules that its condition ``FROM devices.modules WHERE …`` meets;
* ``modulesContent``: an IoT Edge deployment, ``{module: {"properties.desired": {…}}}``; with dotted keys it is a *layered* one.

The first two are put over each other by priority, path by path. Of IoT Edge's, the standard deployment (all of ``$edgeAgent``) with the
highest priority holds, and layers above it are put over it; without one no layer holds
(https://learn.microsoft.com/azure/iot-edge/module-deployment-monitoring#layered-deployment). Among equal priorities the newest wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from farshore.core import twin
from farshore.core.errors import Invalid
from farshore.hub.query import Query
from farshore.hub.selector import Selector

ROOT = "properties.desired"
AGENT = "$edgeAgent"
MODELS = "models"
ADDRESS, SCHEME = "DownloadUrl", "farshore:"
"""Where the classic contract has an address, and what stands for one that is written when it is read (:mod:`.classic`)."""
MAX_PARTS = 200
APPLIED, TARGETED = "Applied", "Targeted"

Kind = Literal["device", "module", "edge", "classic"]
_KINDS: Mapping[str, Kind] = {"deviceContent": "device", "moduleContent": "module", "modulesContent": "edge"}


@dataclass(frozen=True, slots=True)
class Part:
    """A value and where it stands in desired; the empty path is all of it."""

    path: tuple[str, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class Content:
    """A configuration's content, checked.

    Attributes:
        kind: whose twins it is for.
        parts: by module; "" stands for the device itself, and for whichever module the condition meets.

    """

    kind: Kind
    parts: Mapping[str, tuple[Part, ...]]

    @property
    def standard(self) -> bool:
        """Whether it is a whole IoT Edge deployment, on which layers may stand."""
        return any(not part.path for part in self.parts.get(AGENT, ()))

    def of(self, module: str) -> tuple[Part, ...]:
        """What it gives to a module; "" for the device."""
        return self.parts.get("" if self.kind == "module" else module, ())


@dataclass(frozen=True, slots=True)
class Rule:
    """A configuration, ready to be asked.

    Attributes:
        id: its name.
        target: which devices, or modules, it is for.
        priority: higher wins.
        created: seconds since the epoch; of equals the newest wins.
        content: what it gives.

    """

    id: str
    target: Selector | Query
    priority: int
    created: float
    content: Content


@dataclass(frozen=True, slots=True)
class Subject:
    """A device or module, as conditions see it; ``module`` is "" for the device itself."""

    device: str
    module: str
    tags: Mapping[str, Any]
    desired: Mapping[str, Any]
    reported: Mapping[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """As queries see it."""
        properties = {"desired": self.desired, "reported": self.reported}
        named = {"moduleId": self.module} if self.module else {}
        return {"deviceId": self.device, **named, "tags": self.tags, "properties": properties}


@dataclass(frozen=True, slots=True)
class Given:
    """What configurations make of a twin.

    Attributes:
        values: of desired.
        states: of each that is meant for the twin: ``Applied`` or ``Targeted``.

    """

    values: dict[str, Any]
    states: dict[str, str]


def read(document: Any) -> Content:
    """A configuration's content.

    Raises:
        Invalid: it breaks a rule; the message says which.

    """
    given = {key: value for key, value in document.items() if value} if isinstance(document, dict) else {}
    if len(given) != 1 or next(iter(given)) not in _KINDS:
        raise Invalid(f"content: exactly one of {', '.join(_KINDS)} is needed, and not empty")
    name, value = next(iter(given.items()))
    if not isinstance(value, dict):
        raise Invalid(f"content: {name} must be an object")
    if _KINDS[name] == "edge":
        return Content("edge", {module: _parts(entry, f"{name}.{module[:60]}") for module, entry in value.items()})
    return Content(_KINDS[name], {"": _parts(value, name)})


def document(content: Content) -> dict[str, Any]:
    """A content as IoT Hub's clients read it: undoes :func:`read`."""

    def said(parts: Iterable[Part]) -> dict[str, Any]:
        return {".".join((ROOT, *part.path)): part.value for part in parts}

    if content.kind in {"edge", "classic"}:
        return {"modulesContent": {module: said(parts) for module, parts in content.parts.items()}}
    return {"deviceContent" if content.kind == "device" else "moduleContent": said(content.parts[""])}


def given(rules: Iterable[Rule], device: Subject, module: Subject | None = None) -> Given:
    """What holds for a device's twin, or for that of one of its modules.

    Args:
        rules: all of them, in any order.
        device: the device.
        module: whose twin is meant; None for the device's own.

    """
    name = "" if module is None else module.module
    meant = sorted((one for one in rules if _meant(one, device, module)), key=lambda one: (one.priority, one.created))
    holding = _holding(meant)
    values: dict[str, Any] = {}
    states: dict[str, str] = {}
    for one in meant:
        parts = one.content.of(name)
        if parts or (name == AGENT and one.content.kind == "edge"):
            states[one.id] = APPLIED if one in holding else TARGETED
        if one in holding:
            for part in parts:
                values = put(values, part)
    return Given(values, states)


def put(values: Mapping[str, Any], part: Part) -> dict[str, Any]:
    """``values`` with a part in its place; what stood there goes."""
    if not part.path:
        return dict(part.value)
    head, rest = part.path[0], part.path[1:]
    held = values.get(head)
    inner = put(held if isinstance(held, dict) else {}, Part(rest, part.value)) if rest else part.value
    return {**values, head: inner}


def unsaid(change: Mapping[str, Any], given_: Mapping[str, Any], manual: Mapping[str, Any]) -> dict[str, Any]:
    """``change`` without what configurations say anyway: a twin that is read and sent back whole holds nothing against them.

    Args:
        change: values of desired as an operator sends them.
        given_: values that configurations give.
        manual: values that operators hold already.

    """
    result: dict[str, Any] = {}
    for key, value in change.items():
        there, held = given_.get(key), manual.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            inner = unsaid(value, there, held if isinstance(held, dict) else {})
            if inner or not value or key in manual:
                result[key] = inner
        elif key not in given_ or key in manual or value != there:
            result[key] = value
    return result


def is_reference(said: Any) -> TypeGuard[str]:
    """Whether this stands for an address. Only the hub itself writes such: it opens an object."""
    return isinstance(said, str) and said.startswith(SCHEME)


def check_written(values: Mapping[str, Any]) -> None:
    """Pass if nobody but the hub would have written this into a twin.

    Raises:
        Invalid: there is a reference to an object in it.

    """
    if is_reference(values.get(ADDRESS)):
        raise Invalid(f"{ADDRESS}: {SCHEME}… is the hub's own to write: farshore deployment create --classic MODULE")


def model_of(content: Content) -> tuple[str, Mapping[str, Any]] | None:
    """The model and its entry, if the content is just that: then it is a deployment of ours.

    Raises:
        Invalid: it names models beside other things.

    """
    if content.kind != "device":
        return None
    parts = content.parts[""]
    named = [part for part in parts if part.path[:1] == (MODELS,) or (not part.path and MODELS in part.value)]
    if not named:
        return None
    path, value = parts[0].path, parts[0].value
    if len(parts) != 1 or len(path) != 2 or not isinstance(value, dict):
        raise Invalid("content: a model stands alone in its configuration: properties.desired.models.<name>")
    return twin.name_of(path[1]), value


def _parts(document: Any, where: str) -> tuple[Part, ...]:
    if not isinstance(document, dict) or not document or len(document) > MAX_PARTS:
        raise Invalid(f"content: {where} must be an object of 1 to {MAX_PARTS} members")
    parts = tuple(_part(key, value, where) for key, value in document.items())
    values: dict[str, Any] = {}
    for part in sorted(parts, key=lambda one: len(one.path)):
        values = put(values, part)
    check_written(values)
    twin.check(values, nulls=False)
    twin.check_size(values, twin.MAX_DESIRED)
    return tuple(sorted(parts, key=lambda one: len(one.path)))


def _part(key: str, value: Any, where: str) -> Part:
    path = tuple(key.split(".")[2:])
    if ".".join((ROOT, *path)) != key or not all(path):
        raise Invalid(f"content: {where}: {key[:60]!r} is neither {ROOT} nor {ROOT}.<path>")
    if value is None or (not path and not isinstance(value, dict)):
        raise Invalid(f"content: {where}: {key[:60]!r} must be {'anything but null' if path else 'an object'}")
    return Part(path, value)


def _meant(rule: Rule, device: Subject, module: Subject | None) -> bool:
    if (rule.content.kind == "device") != (module is None):
        return False
    if isinstance(rule.target, Query):
        return module is not None and rule.content.kind == "module" and rule.target.matches(module.document)
    return rule.target.matches(device.device, device.tags, device.reported)


def _holding(meant: Sequence[Rule]) -> list[Rule]:
    """Those that hold, of those that are meant, the weakest first: all but IoT Edge's that stand below, or on no, standard one."""
    standard = [one for one in meant if one.content.kind == "edge" and one.content.standard]
    floor = meant.index(standard[-1]) if standard else len(meant)
    return [
        one
        for place, one in enumerate(meant)
        if one.content.kind != "edge" or place == floor or (place > floor and not one.content.standard)
    ]
