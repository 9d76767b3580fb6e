"""Charts over time and over versions, as SVG made on the server; the numbers stand in a table beside them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from markupsafe import Markup

WIDE, HIGH, LEFT, FOOT, HEAD = 720, 220, 84, 26, 12
"""Size of a chart, and what its axes take of it, in its own units."""

COLOURS = 8
LABELS = 8
"""Most labels under the columns."""


def columns(
    rows: Sequence[tuple[str, Sequence[tuple[str, float, str]]]], shown: Callable[[float], str], label: str
) -> Markup:
    """Stacked columns.

    Args:
        rows: label under the column and its parts: name, amount, class of the style sheet.
        shown: writes an amount.
        label: what the chart tells, for who cannot see it.

    """
    most = max((sum(amount for _, amount, _ in parts) for _, parts in rows), default=0.0) or 1.0
    step = (WIDE - LEFT) / max(len(rows), 1)
    wide, every = min(step * 0.72, 44.0), max(-(-len(rows) // LABELS), 1)
    pieces = [_lines(most, shown)]
    for place, (name, parts) in enumerate(rows):
        middle, top = LEFT + step * (place + 0.5), float(HIGH - FOOT)
        for part, amount, colour in parts:
            high = amount / most * (HIGH - FOOT - HEAD)
            top -= high
            pieces.append(
                f'<rect class="{escape(colour)}" x="{middle - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}">'
                f"<title>{escape(name)}, {escape(part)}: {escape(shown(amount))}</title></rect>"
            )
        if place % every == 0:
            pieces.append(f'<text x="{middle:.1f}" y="{HIGH - 6}" text-anchor="middle">{escape(name)}</text>')
    return _chart(pieces, label)


def curves(lines: Sequence[tuple[str, Sequence[float], str]], label: str, ends: tuple[str, str]) -> Markup:
    """Distributions over even bins, one line each.

    Args:
        lines: name, height of each bin, class of the style sheet.
        label: what the chart tells, for who cannot see it.
        ends: what stands at the left and right end of the axis.

    """
    most = max((max(bins, default=0.0) for _, bins, _ in lines), default=0.0) or 1.0
    pieces = [_lines(most, lambda share: f"{100 * share:.0f} %")]
    for name, bins, colour in lines:
        step = (WIDE - LEFT) / max(len(bins), 1)
        places = [
            (LEFT + step * (at + 0.5), HIGH - FOOT - one / most * (HIGH - FOOT - HEAD)) for at, one in enumerate(bins)
        ]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        pieces.append(
            f'<polyline class="line-{escape(colour)}" points="{drawn}"><title>{escape(name)}</title></polyline>'
        )
    left, right = ends
    pieces.append(f'<text x="{LEFT}" y="{HIGH - 6}">{escape(left)}</text>')
    pieces.append(f'<text x="{WIDE}" y="{HIGH - 6}" text-anchor="end">{escape(right)}</text>')
    return _chart(pieces, label)


def _lines(most: float, shown: Callable[[float], str]) -> str:
    found = []
    for share in (0.0, 0.5, 1.0):
        y = HIGH - FOOT - share * (HIGH - FOOT - HEAD)
        found.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDE}" y2="{y:.1f}"/>')
        found.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(shown(share * most))}</text>')
    return "".join(found)


def _chart(pieces: Sequence[str], label: str) -> Markup:
    return Markup(  # noqa: S704 - every part from outside is escaped above
        f'<svg class="chart" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(label)}">{"".join(pieces)}</svg>'
    )
