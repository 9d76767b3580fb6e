"""A rollout's waves as a table."""

from __future__ import annotations

from typing import Any

from farshore.core import sketch

_COLUMNS = [">", "wave", "", ">given", ">ready", ">confirmed", ">failed", ">agree", ">latency", ">memory", ">gap"]
_SHIFTS = [">class shift", ">score shift"]


def columns(found: dict[str, Any]) -> list[str]:
    """Of a rollout's table."""
    return _COLUMNS + (_SHIFTS if _compared(found) else [])


def _compared(found: dict[str, Any]) -> bool:
    """Whether devices have told what both versions found."""
    return any(wave["tally"].get("classes") for wave in found["waves"])


def rows(found: dict[str, Any]) -> list[tuple[object, ...]]:
    """One for each wave of a rollout: what its devices have said."""
    made: list[tuple[object, ...]] = []
    for number, wave in enumerate(found["waves"], 1):
        said = wave["tally"]
        made.append((
            number, wave["wave"], _standing(wave), said["admitted"], said["ready"] or "", said["confirmed"], said["failed"],
            _ratio(said["agreed"], said["compared"]), _ratio(said["latency"], said["timed"], "×"),
            _ratio(said["memory"], said["weighed"], "×"), _ratio(said["gap"] * 1000, said["switched"], " ms"),
            *(_shifts(said) if _compared(found) else ()),
        ))  # fmt: skip
    return made


def _standing(wave: dict[str, Any]) -> str:
    return ("overruled" if wave.get("overruled") else "open") if wave["open"] else ""


def _shifts(said: dict[str, Any]) -> tuple[str, str]:
    """How far what the version finds lies from what the one before finds."""
    if not said.get("classes"):
        return "", ""
    apart = sketch.total_variation({name: (before, after) for name, (before, after) in said["classes"].items()})
    return f"{apart:.3g}", f"{sketch.stability_index(said['scores_before'], said['scores_after']):.3g}"


def _ratio(total: float, count: int, unit: str = "") -> str:
    return f"{total / count:.3g}{unit}" if count else ""
