"""Selectors as SQL: not who matches, but who may; whoever is left is asked again by the selector itself.

Tags and reports are JSON kept as text. What SQLite can say about them for certain narrows a list of ten thousand devices to those
that are worth reading; what it cannot say narrows nothing. So a mistake here could only hide devices, and the rule against that is:
each half of a condition (where it may be true, where it may be false) is true for more rows rather than for fewer. NULL, from a
property that is not there, counts as false in both, as an undefined one selects nobody.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, and_, false, func, or_, true, type_coerce

from farshore.hub.records.tables import devices, twins
from farshore.hub.selector import And, Comparison, Literal, Membership, Node, Not, Operand, Or, Property, Selector

_PLAIN = re.compile(r"[A-Za-z0-9_%-]{1,200}\Z")
_FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
EXACT = 1 << 53
"""Integers up to here are the same in JSON, Python and SQL."""

Halves = tuple[ColumnElement[bool], ColumnElement[bool]]
"""Where a condition may be true, and where it may be false."""

ANY: Halves = (true(), true())


def narrow(tx: Connection, chosen: Selector) -> ColumnElement[bool]:
    """A condition over ``devices`` joined with ``twins`` that holds for all devices which ``chosen`` matches, and perhaps for more."""
    return _halves(chosen.root)[0] if tx.dialect.name == "sqlite" else true()


def _halves(node: Node) -> Halves:
    match node:
        case And(terms):
            halves = [_halves(term) for term in terms]
            return and_(*(yes for yes, _ in halves)), or_(*(no for _, no in halves))
        case Or(terms):
            halves = [_halves(term) for term in terms]
            return or_(*(yes for yes, _ in halves)), and_(*(no for _, no in halves))
        case Not(term):
            yes, no = _halves(term)
            return no, yes
        case Comparison(symbol, Property() as left, Literal(value)):
            return _compared(left, symbol, value)
        case Comparison(symbol, Literal(value), Property() as right):
            return _compared(right, _FLIPPED[symbol], value)
        case Membership(Property() as operand, values):
            halves = [_compared(operand, "=", value) for value in values]
            return or_(*(yes for yes, _ in halves)), and_(*(no for _, no in halves))
        case Literal(value):
            return (true() if value is True else false()), (true() if value is False else false())
        case Property():
            return _compared(node, "=", value=True)
        case _:
            return ANY


def _compared(operand: Operand, symbol: str, value: Any) -> Halves:
    assert isinstance(operand, Property)
    if symbol == "!=":
        yes, no = _compared(operand, "=", value)
        return no, yes
    if operand.path == ("deviceId",):
        return _of_id(symbol, value)
    column = type_coerce(twins.c.tags if operand.path[0] == "tags" else twins.c.reported, Text)
    names = operand.path[1:]
    if not all(map(_PLAIN.match, names)):
        return ANY
    path = "$" + "".join(f'."{name}"' for name in names)
    kind, found = func.json_type(column, path), func.json_extract(column, path)
    if isinstance(value, str):
        if not value.isprintable():
            return ANY
        hidden = func.instr(column, "\\u0000") > 0  # SQLite reads such a text only up to there
        yes, no = (
            and_(kind == "text", found.op(symbol, is_comparison=True)(value)),
            and_(kind == "text", ~found.op(symbol, is_comparison=True)(value)),
        )
        return or_(yes, hidden), or_(no, hidden, *([kind != "text"] if symbol == "=" else []))
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > EXACT:
            return ANY
        whole, part = kind == "integer", kind == "real"  # the last digit of a fraction may be read otherwise
        yes, no = (
            and_(whole, found.op(symbol, is_comparison=True)(value)),
            and_(whole, ~found.op(symbol, is_comparison=True)(value)),
        )
        return or_(part, yes), or_(part, no, *([kind.not_in(["integer", "real"])] if symbol == "=" else []))
    if symbol == "=" and (value is None or isinstance(value, bool)):
        word = {None: "null", True: "true", False: "false"}[value]
        return kind == word, kind != word
    return ANY


def _of_id(symbol: str, value: Any) -> Halves:
    if not isinstance(value, str):
        return (false(), true()) if symbol == "=" else ANY
    found = devices.c.id.op(symbol, is_comparison=True)(value)
    return found, ~found
