"""Refs: how people name a version. ``name@3``, ``name@champion``; ``name`` or ``name@latest`` for the newest not archived."""

from __future__ import annotations

import re

from sqlalchemy import Connection

from farshore.core.errors import Invalid, NotFound
from farshore.core.manifest import check_name
from farshore.hub.records import models
from farshore.hub.records.models import Version

LATEST = "latest"
_NUMBER = re.compile(r"[0-9]{1,10}\Z")


def resolve(tx: Connection, ref: str) -> Version:
    """The version that ``ref`` names now.

    Raises:
        Invalid: malformed.
        NotFound: no such model, version or alias; the message says which.

    """
    name, at, which = ref.partition("@")
    check_name(name)
    if at and not which:
        raise Invalid(f"bad version {ref!r}: write {name}@<number> or {name}@<alias>")
    return find(tx, name, which)


def find(tx: Connection, name: str, which: str) -> Version:
    """The version of model ``name`` with number or alias ``which``; "" or ``latest`` for the newest not archived.

    Raises:
        Invalid, NotFound: as :func:`resolve`.

    """
    if which in {"", LATEST}:
        found = models.newest(tx, name)
    elif _NUMBER.match(which):
        found = models.version(tx, name, int(which)) if int(which) < 1 << 31 else None
    else:
        found = models.by_alias(tx, name, check_alias(which))
    if found is not None:
        return found
    if models.model(tx, name) is None:
        raise NotFound(f"no model {name!r}")
    if which in {"", LATEST}:
        raise NotFound(f"model {name!r} has no version that is not archived")
    kind = "version" if _NUMBER.match(which) else "alias"
    raise NotFound(f"model {name!r} has no {kind} {which!r}")


def check_alias(alias: str) -> str:
    """Return ``alias`` if it can name a version.

    Raises:
        Invalid: not a slug, or digits only, which would look like a number, or ``latest``.

    """
    if alias.isdigit():
        raise Invalid(f"bad alias {alias!r}: digits alone mean a version's number")
    if alias == LATEST:
        raise Invalid(f"bad alias {alias!r}: it always means the newest version that is not archived")
    try:
        return check_name(alias)
    except Invalid as error:
        raise Invalid(error.message.replace("bad name", "bad alias")) from None
