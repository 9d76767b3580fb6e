"""Routes of IoT Edge: which output of a module leads where (https://learn.microsoft.com/azure/iot-edge/module-composition#declare-routes).

``FROM /messages/modules/M/outputs/O INTO $upstream`` or ``… INTO BrokeredEndpoint("/modules/M2/inputs/I")``; ``*`` stands for any
module, any output, or all that is left. Conditions (``WHERE``) are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from farshore.core.errors import Invalid

UPSTREAM = "$upstream"
MAX_ROUTES = 64
_ROUTE = re.compile(
    r"\s*FROM\s+(?P<source>/messages(?:/[^\s]*)?)\s+INTO\s+"
    r"(?:(?P<upstream>\$upstream)|BrokeredEndpoint\(\s*\"/modules/(?P<module>[^/\"]+)/inputs/(?P<input>[^/\"]+)\"\s*\))\s*",
    re.IGNORECASE,
)


class Route(Struct, frozen=True):
    """One route.

    Attributes:
        source: parts of the path after ``/messages``, in lower case.
        module, input: where it leads; both "" for ``$upstream``.

    """

    source: tuple[str, ...]
    module: str = ""
    input: str = ""

    def takes(self, module: str, output: str) -> bool:
        """Whether a message from this output of a module goes this way; ``output`` may be ""."""
        place = ("modules", module.lower(), *(("outputs", output.lower()) if output else ()))
        for at, part in enumerate(self.source):
            if part == "*" and at == len(self.source) - 1:
                return True
            if at >= len(place) or part not in {"*", place[at]}:
                return False
        return len(self.source) == len(place)


def parse(text: str) -> Route:
    """A route.

    Raises:
        Invalid: it is none, or has a condition.

    """
    found = _ROUTE.fullmatch(text) if len(text) <= 1024 else None
    if found is None:
        raise Invalid(
            f"route {text[:80]!r}: write FROM /messages/… INTO $upstream or BrokeredEndpoint(…), without WHERE"
        )
    source = tuple(part for part in found["source"].lower().split("/")[2:] if part)
    return Route(source or ("*",), found["module"] or "", found["input"] or "")


def read(desired: Mapping[str, Any]) -> tuple[list[Route], list[str]]:
    """The routes in ``$edgeHub``'s desired section, and what is said there that is none: one line each.

    Args:
        desired: its values; ``routes`` maps names to texts, or to objects with ``route``.

    """
    routes, wrong = [], []
    named = desired.get("routes")
    for name, one in sorted(named.items())[:MAX_ROUTES] if isinstance(named, dict) else ():
        text = one.get("route") if isinstance(one, dict) else one
        try:
            routes.append(parse(text if isinstance(text, str) else ""))
        except Invalid as error:
            wrong.append(f"{name}: {error.message}")
    return routes, wrong
