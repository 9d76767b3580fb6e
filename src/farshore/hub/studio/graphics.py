"""Small pictures made on the server, as SVG that needs no style of its own. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

COLOURS = 8
"""Classes ``c0`` … ``c7`` of the style sheet, in turn."""


def bar(parts: Sequence[tuple[str, float, str]], width: int = 320, height: int = 10) -> Markup:
    """Shares of a whole, side by side.

    Args:
        parts: (label, amount, class of the style sheet that colours it).
        width, height: of the picture, in its own units; it is drawn as wide as its place.

    """
    total = sum(amount for _, amount, _ in parts)
    label = ", ".join(f"{name} {amount:,.0f}" for name, amount, _ in parts if amount > 0)
    pieces, left = [], 0.0
    for name, amount, colour in parts:
        wide = width * amount / total if total > 0 else 0.0
        if wide > 0:
            pieces.append(
                f'<rect class="{escape(colour)}" x="{left:.2f}" width="{max(wide - 1, 1):.2f}" height="{height}">'
                f"<title>{escape(name)}: {amount:,.0f}</title></rect>"
            )
        left += wide
    named = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return Markup(  # noqa: S704 - every part from outside is escaped above
        f'<svg class="bar" viewBox="0 0 {width} {height}" preserveAspectRatio="none" {named}>'
        f'<rect class="ground" width="{width}" height="{height}"/>{"".join(pieces)}</svg>'
    )


@dataclass(frozen=True, slots=True)
class Node:
    """A version in a graph of lineage.

    Attributes:
        key: its name in the graph.
        label: what is written in it.
        note: beside it.
        address: where it leads.
        parent: key of the version that it came from; "" for none.
        elsewhere: it is another model's, or further back than the graph goes.

    """

    key: str
    label: str
    note: str
    address: str
    parent: str
    elsewhere: bool = False


ROW, LANE, LEFT = 34, 22, 16
"""Height of a row, distance of two lanes, of the first lane from the edge: in units of the picture."""


def lineage(nodes: Sequence[Node], label: str) -> Markup:
    """A graph of versions, one a row, children above their parents; lines of descent run in lanes.

    Args:
        nodes: the newest first.
        label: for those who do not see it.

    """
    row = {node.key: place for place, node in enumerate(nodes)}
    lanes = _lanes(nodes, row)
    wide = LEFT + LANE * (max(lanes, default=0) + 1)
    drawn = []
    for place, node in enumerate(nodes):
        x, y = LEFT + LANE * lanes[place], ROW * place + ROW // 2
        if node.parent in row and row[node.parent] > place:
            px, py = LEFT + LANE * lanes[row[node.parent]], ROW * row[node.parent] + ROW // 2
            bend = f"V {py - ROW} C {x} {py - ROW // 2} {px} {py - ROW // 2} {px} {py}" if px != x else f"V {py}"
            drawn.append(f'<path class="line" d="M {x} {y} {bend}"/>')
    for place, node in enumerate(nodes):
        x, y = LEFT + LANE * lanes[place], ROW * place + ROW // 2
        drawn.append(
            f'<a href="{escape(node.address)}"><circle class="{"far" if node.elsewhere else "near"}" cx="{x}" cy="{y}" r="6"/>'
            f'<text class="name" x="{wide + 4}" y="{y + 5}">{escape(node.label)}</text></a>'
            f'<text class="aside" x="{wide + 22 + 8 * len(node.label)}" y="{y + 5}">{escape(node.note)}</text>'
        )
    height = ROW * len(nodes)
    return Markup(  # noqa: S704 - every part from outside is escaped above
        f'<svg class="lineage" viewBox="0 0 640 {height}" width="640" height="{height}" role="group" '
        f'aria-label="{escape(label)}">{"".join(drawn)}</svg>'
    )


def _lanes(nodes: Sequence[Node], row: Mapping[str, int]) -> list[int]:
    """The lane of each row: a version's line goes on to its parent, unless a younger child's line comes there already."""
    lanes: list[int] = []
    ends: list[int] = []  # by lane: the row down to which it is taken
    taken: dict[str, int] = {}  # by parent: the lane that comes down to it
    for place, node in enumerate(nodes):
        lane = taken.get(node.key)
        if lane is None:
            lane = next((one for one, end in enumerate(ends) if end < place), len(ends))
        lanes.append(lane)
        end = row.get(node.parent, place)
        while len(ends) <= lane:
            ends.append(-1)
        ends[lane] = max(end, place)
        if end > place:
            taken.setdefault(node.parent, lane)
    return lanes


def shares(versions: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, str]]:
    """Parts of a :func:`bar`: how many devices run each version, the newest first; the oldest together where there are many.

    Args:
        versions: of one model, each with ``version`` and ``devices``, as the summary of the fleet has them.

    """
    running = [one for one in versions if one["devices"]]
    first, rest = running[: COLOURS - 1], running[COLOURS - 1 :]
    found = [(f"@{one['version']}", float(one["devices"]), f"c{place}") for place, one in enumerate(first)]
    if rest:
        found.append((f"≤ @{rest[0]['version']}", float(sum(one["devices"] for one in rest)), f"c{COLOURS - 1}"))
    return found
