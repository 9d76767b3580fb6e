"""What a report or an order changed, in a few words for a device's timeline. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from farshore.core.wire import DesiredModel, ReportedModel

MOST = 400
"""Characters of one line."""


def told(before: Mapping[str, DesiredModel], after: Mapping[str, DesiredModel]) -> str:
    """What the device should run now that it should not before."""
    said = []
    for model, wanted in after.items():
        held = before.get(model)
        if held is None or held.digest != wanted.digest:
            said.append(f"should run {model}@{wanted.version}")
        elif held.retry != wanted.retry:
            said.append(f"should try {model}@{wanted.version} again")
    said += [f"should not run {model} any more" for model in before if model not in after]
    return _line(said)


def said(before: Mapping[str, ReportedModel], after: Mapping[str, ReportedModel]) -> str:
    """What the device does or runs now and did not before; progress within a step is no news."""
    found = []
    for model, now in after.items():
        held = before.get(model, ReportedModel())
        if now.current is not None and (held.current is None or held.current.digest != now.current.digest):
            found.append(f"runs {model}@{now.current.version}")
        if now.current is None and held.current is not None:
            found.append(f"runs no {model} any more")
        if now.target is None:
            if held.target is not None and held.target.state == "trial":
                found.append(
                    f"keeps {model}@{held.target.version}"
                    if _kept(held, now)
                    else f"left {model}@{held.target.version}"
                )
        elif held.target is None or (held.target.digest, held.target.state) != (now.target.digest, now.target.state):
            why = f": {now.target.fault.message}" if now.target.fault is not None else ""
            name = f"{model}@{now.target.version}" if now.target.version else model
            found.append(f"{name} {now.target.state}{why}")
    found += [f"says nothing of {model} any more" for model in before if model not in after]
    return _line(found)


def _kept(before: ReportedModel, now: ReportedModel) -> bool:
    return before.target is not None and now.current is not None and now.current.digest == before.target.digest


def _line(parts: list[str]) -> str:
    text = "; ".join(parts)
    return text if len(text) <= MOST else text[: MOST - 1] + "…"
