"""Queries over twins, in a part of Azure IoT Hub's query language. Pure.

::

    query    = "SELECT" ["TOP" number] columns "FROM" source ["WHERE" condition] ["GROUP" "BY" property {"," property}]
    columns  = "*" | column {"," column}
    column   = (property | "COUNT" "(" ["*"] ")" | sum "(" property ")") ["AS" name]
    sum      = "SUM" | "AVG" | "MIN" | "MAX"
    source   = "devices" ["." "modules"]

Conditions are those of :mod:`.selector`, over whole twins: ``properties.desired.rate``, ``configurations.[[c1]].status``, ``$version``
(https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-query-language).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from farshore.core import documents
from farshore.core.errors import Invalid
from farshore.hub import selector
from farshore.hub.selector import Node, Parser, Property, Selector

MAX_TEXT = 8192
MAX_GROUPS = 10_000
COUNT, SUMS = "count", ("sum", "avg", "min", "max")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer.

    Attributes:
        name: in the answer; "" for the last part of the property's.
        of: what is read; None where rows are counted.
        sum: how many rows come to one value; "" where each row has its own.

    """

    name: str
    of: Property | None
    sum: str = ""

    @property
    def title(self) -> str:
        return self.name or (self.of.path[-1] if self.of else self.sum)


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query; make one with :func:`parse`.

    Attributes:
        source: over whose twins.
        columns: empty for whole twins.
        condition: None for all.
        group: columns by which rows are put together.
        top: most rows of the answer; None for all.

    """

    source: Literal["devices", "modules"]
    columns: tuple[Column, ...]
    condition: Node | None
    group: tuple[Property, ...]
    top: int | None

    @property
    def sums(self) -> bool:
        """Whether an answer has to have seen all rows."""
        return bool(self.group) or any(one.sum for one in self.columns)

    @property
    def raw(self) -> bool:
        """Whether an answer's rows are something else than twins."""
        return bool(self.columns)

    def matches(self, document: Mapping[str, Any]) -> bool:
        """Whether a twin is meant."""
        return self.condition is None or selector.holds(self.condition, document)


def parse(text: str) -> Query:
    """Read a query.

    Raises:
        Invalid: it is none; the message points at the column (counted from 1).

    """
    if len(text) > MAX_TEXT:
        raise Invalid(f"query: {len(text)} characters; at most {MAX_TEXT} are taken")
    parser = Parser(text, "query", free=True)
    _word(parser, "select")
    top = parser.number() if parser.keyword("top") else None
    if top is not None and top < 1:
        parser.fail("TOP needs a number above 0 before this")
    columns = () if parser.sign("*") else _columns(parser)
    source = _source(parser)
    condition = parser.condition() if parser.keyword("where") else None
    group = _group(parser) if parser.keyword("group") else ()
    parser.end()
    return _checked(Query(source, columns, condition, group, top))


def target(text: str) -> Selector | Query:
    """A configuration's target condition: a selector of devices, or a query over modules.

    Raises:
        Invalid: it is none.

    """
    if not Parser(text, "target condition", free=True).keyword("from"):
        return selector.parse(text or "*")
    found = parse(f"SELECT * {text}")
    if found.source != "modules" or found.group:
        raise Invalid(
            "target condition: write FROM devices.modules WHERE …, or only a condition over deviceId and tags"
        )
    return found


def answer(query: Query, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The answer's rows.

    Args:
        query: that is answered.
        rows: twins that it matches.

    Raises:
        Invalid: it would put together too many groups.

    """
    found = _summed(query, rows) if query.sums else (_row(query, one) for one in rows)
    return islice(found, query.top)


def _row(query: Query, document: Mapping[str, Any]) -> dict[str, Any]:
    if not query.columns:
        return dict(document)
    values = ((one.title, _value(one.of, document)) for one in query.columns)
    return {title: value for title, value in values if value is not None}


def _summed(query: Query, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    groups: dict[bytes, tuple[dict[str, Any], dict[str, Tally]]] = {}
    if not query.group:
        groups[b"[]"] = {}, {}
    for document in rows:
        key = documents.canonical([_value(one, document) for one in query.group])
        if key not in groups and len(groups) >= MAX_GROUPS:
            raise Invalid(f"query: more than {MAX_GROUPS} groups: narrow it with WHERE")
        plain, tallies = groups.setdefault(key, ({}, {}))
        for column in query.columns:
            if column.sum:
                tallies.setdefault(column.title, Tally()).add(column, document)
            elif (value := _value(column.of, document)) is not None:
                plain[column.title] = value
    for plain, tallies in groups.values():
        sums = {one.title: tallies.get(one.title, Tally()).value(one.sum) for one in query.columns if one.sum}
        yield {**plain, **{title: value for title, value in sums.items() if value is not None}}


class Tally:
    """What a sum over rows needs to remember."""

    def __init__(self) -> None:
        self._rows, self._numbers, self._total = 0, 0, 0.0
        self._least: float | None = None
        self._most: float | None = None

    def add(self, column: Column, document: Mapping[str, Any]) -> None:
        self._rows += 1
        value = _value(column.of, document)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._numbers += 1
            self._total += value
            self._least = value if self._least is None else min(self._least, value)
            self._most = value if self._most is None else max(self._most, value)

    def value(self, sum_: str) -> float | None:
        """None where there is nothing to sum."""
        if sum_ == COUNT:
            return self._rows
        if not self._numbers:
            return None
        return {"sum": self._total, "avg": self._total / self._numbers, "min": self._least, "max": self._most}[sum_]


def _value(property_: Property | None, document: Mapping[str, Any]) -> Any:
    found: Any = document
    for name in property_.path if property_ else ():
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _columns(parser: Parser) -> tuple[Column, ...]:
    found = [_column(parser)]
    while parser.sign(","):
        found.append(_column(parser))
    return tuple(found)


def _column(parser: Parser) -> Column:
    for sum_ in (COUNT, *SUMS):
        if parser.keyword(sum_):
            parser.expect("(")
            counted = None
            if sum_ != COUNT:
                counted = parser.property()
            else:
                parser.sign("*")
            parser.expect(")")
            return Column(_alias(parser), counted, sum_)
    read = parser.property()
    return Column(_alias(parser), read)


def _alias(parser: Parser) -> str:
    return ".".join(parser.property().path) if parser.keyword("as") else ""


def _source(parser: Parser) -> Literal["devices", "modules"]:
    _word(parser, "from")
    path = tuple(name.lower() for name in parser.property().path)
    if path not in {("devices",), ("devices", "modules")}:
        parser.fail("only devices and devices.modules can be asked, before this")
    return "devices" if len(path) == 1 else "modules"


def _group(parser: Parser) -> tuple[Property, ...]:
    _word(parser, "by")
    found = [parser.property()]
    while parser.sign(","):
        found.append(parser.property())
    return tuple(found)


def _word(parser: Parser, word: str) -> None:
    if not parser.keyword(word):
        parser.fail(f"expected {word.upper()}")


def _checked(query: Query) -> Query:
    if query.group and not query.columns:
        raise Invalid("query: GROUP BY needs columns instead of *")
    if query.sums:
        for one in query.columns:
            if not one.sum and one.of not in query.group:
                raise Invalid(f"query: {one.title[:60]!r} is neither summed nor in GROUP BY")
    return query
