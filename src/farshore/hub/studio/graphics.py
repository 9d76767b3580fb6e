"""Small pictures made on the server, as SVG that needs no style of its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

COLOURS = 8
"""Classes ``c0`` … ``c7`` of the style sheet, in turn."""


def bar(parts: Sequence[tuple[str, float]], width: int = 320, height: int = 10) -> Markup:
    """Shares of a whole, side by side.

    Args:
        parts: (label, amount); the colours go by their place.
        width, height: of the picture, in its own units; it scales to its place.

    """
    total = sum(amount for _, amount in parts)
    label = ", ".join(f"{name} {amount:g}" for name, amount in parts)
    pieces, left = [], 0.0
    for place, (name, amount) in enumerate(parts):
        wide = width * amount / total if total > 0 else 0.0
        if wide > 0:
            pieces.append(
                f'<rect class="c{place % COLOURS}" x="{left:.2f}" width="{max(wide - 1, 0.75):.2f}" height="{height}">'
                f"<title>{escape(name)}: {amount:g}</title></rect>"
            )
        left += wide
    return Markup(  # noqa: S704 - every part from outside is escaped above
        f'<svg class="bar" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><rect class="ground" width="{width}" height="{height}"/>{"".join(pieces)}</svg>'
    )
