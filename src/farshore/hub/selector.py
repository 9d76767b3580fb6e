"""Selectors: conditions over a device's id, tags and reports, in Azure IoT Hub's target-condition syntax.

::

    condition  = either
    either     = both {"OR" both}
    both       = inverted {"AND" inverted}
    inverted   = "NOT" inverted | "(" either ")" | "*" | comparison
    comparison = operand [("=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") operand | ("IN" | "NIN") list]
    list       = "[" literal {"," literal} "]"
    operand    = literal | property | "IS_DEFINED" "(" property ")"
    property   = "deviceId" | root "." name {"." name}
    root       = "tags" | "reported" | "properties" "." "reported"
    name       = word | "[[" any text without "]]" "]]"
    literal    = 'text, '' for a quote' | number | "true" | "false" | "null"

Words of the language are written in either case; ``*`` selects every device. A property that is not there is undefined, and
so is what is computed from it: ``tags.gpu != 'none'`` and ``NOT tags.gpu = 'none'`` both leave out a device without
``tags.gpu`` (https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-query-language#operators).

Queries (:mod:`.query`) use the same conditions over whole twins, where every name may begin a property.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

from farshore.core.errors import Invalid

MAX_TEXT = 4096
MAX_DEPTH = 64

Truth = bool | None
"""True, False, or None for undefined (Kleene's three values)."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed condition; make one with :func:`parse`."""

    text: str
    root: Node

    def matches(self, device: str, tags: Mapping[str, Any], reported: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """Whether the condition is true (not merely undefined) for a device with this id, these tags and this reported section."""
        return _truth(self.root, {"deviceId": device, "tags": tags, "reported": reported}) is True

    @property
    def fleet(self) -> str:
        """The fleet outside of which this can select no device, because it says so: ``tags.fleet = 'north' AND (…)``; "" if none."""
        terms = self.root.terms if isinstance(self.root, And) else (self.root,)
        for term in terms:
            if isinstance(term, Comparison) and term.symbol == "=" and term.left == Property(("tags", "fleet")):
                value = term.right.value if isinstance(term.right, Literal) else None
                if isinstance(value, str):
                    return value
        return ""


@dataclass(frozen=True, slots=True)
class Property:
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    symbol: str
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class Membership:
    operand: Operand
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Defined:
    operand: Property


@dataclass(frozen=True, slots=True)
class Not:
    term: Node


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple[Node, ...]


Operand = Property | Literal
Node = Operand | Comparison | Membership | Defined | Not | And | Or


def holds(condition: Node, document: Mapping[str, Any]) -> bool:
    """Whether a condition is true (not merely undefined) for a document whose members begin its properties."""
    return _truth(condition, document) is True


def parse(text: str) -> Selector:
    """Read a condition.

    Raises:
        Invalid: not a condition; the message points at the column (counted from 1).

    """
    if len(text) > MAX_TEXT:
        raise Invalid(f"selector: {len(text)} characters; at most {MAX_TEXT} are taken")
    parser = Parser(text)
    root = parser.condition()
    parser.end()
    return Selector(text, root)


_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')"
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?(?![\w.]))"
    r"|(?P<name>\[\[.*?\]\])"
    r"|(?P<word>\$?[^\W\d]\w*)"
    r"|(?P<sign><>|!=|<=|>=|[=<>()\],.*]|\[(?!\[)))"
)
_PROPERTIES = "use deviceId, tags.<name> or reported.<name>"
_COMPARISONS = {"=", "!=", "<>", "<", "<=", ">", ">="}
_CONSTANTS = {"true": True, "false": False, "null": None}
_KEYWORDS = {"and", "or", "not", "in", "nin", *_CONSTANTS}


class Parser:
    """Recursive descent over tokens, one of look-ahead.

    Args:
        text: what to read.
        what: it is, for messages.
        free: every name may begin a property, not only those of a selector.

    """

    def __init__(self, text: str, what: str = "selector", *, free: bool = False) -> None:
        self._text, self._what, self._free = text, what, free
        self._next = self._column = 0
        self._kind = self._token = ""
        self._advance()

    def condition(self) -> Node:
        """What stands here must be a condition."""
        return self._either(1)

    def end(self) -> None:
        """Nothing more may stand here."""
        if self._kind:
            self.fail(f"expected AND, OR or the end, found {self._token!r}")

    def _either(self, depth: int) -> Node:
        terms = [self._both(depth)]
        while self.keyword("or"):
            terms.append(self._both(depth))
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _both(self, depth: int) -> Node:
        terms = [self._inverted(depth)]
        while self.keyword("and"):
            terms.append(self._inverted(depth))
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _inverted(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels")
        if self.keyword("not"):
            return Not(self._inverted(depth + 1))
        if self.sign("("):
            inner = self._either(depth + 1)
            self.expect(")")
            return inner
        if self.sign("*"):
            return Literal(value=True)
        return self._comparison()

    def _comparison(self) -> Node:
        if self.keyword("is_defined"):
            self.expect("(")
            operand = self.property()
            self.expect(")")
            return Defined(operand)
        left = self._operand()
        if self._kind == "sign" and self._token in _COMPARISONS:
            symbol = self._token
            self._advance()
            return Comparison("!=" if symbol == "<>" else symbol, left, self._operand())
        for word in ("in", "nin"):
            if self.keyword(word):
                found = Membership(left, self._list())
                return found if word == "in" else Not(found)
        return left

    def _list(self) -> tuple[Any, ...]:
        self.expect("[")
        values = [self._literal()]
        while self.sign(","):
            values.append(self._literal())
        self.expect("]")
        return tuple(values)

    def _operand(self) -> Operand:
        if self._kind == "word" and self._token.lower() not in _KEYWORDS:
            return self.property()
        return Literal(self._literal())

    def property(self) -> Property:
        """What stands here must be a property."""
        root, column = self._token, self._column
        if self._free:
            if self._kind not in {"word", "name"}:
                self.fail(f"expected a property, found {root!r}" if root else "expected a property, found the end")
            root = root[2:-2] if self._kind == "name" else root
        elif root not in {"deviceId", "tags", "reported", "properties"}:
            self.fail(f"unknown property {root!r}: {_PROPERTIES}")
        self._advance()
        path = [root]
        while self.sign("."):
            if self._kind == "word":
                path.append(self._token)
            elif self._kind == "name":
                path.append(self._token[2:-2])
            else:
                self.fail("expected a name after '.'")
            self._advance()
        if self._free:
            return Property(tuple(path))
        if path[:2] == ["properties", "reported"]:
            path = path[1:]  # Azure's longer name
        if path[0] == "properties" or (root != "deviceId") != (len(path) > 1):
            self._column = column
            self.fail(_PROPERTIES)
        return Property(tuple(path))

    def _literal(self) -> Any:
        kind, token = self._kind, self._token
        if kind == "text":
            self._advance()
            return token[1:-1].replace("''", "'")
        if kind == "number":
            self._advance()
            return float(token) if any(char in token for char in ".eE") else int(token)
        if kind == "word" and token.lower() in _CONSTANTS:
            self._advance()
            return _CONSTANTS[token.lower()]
        return self.fail(f"expected a value, found {token!r}" if kind else "expected a value, found the end")

    def keyword(self, word: str) -> bool:
        """Whether this word (in lower case) stands here; it is passed then."""
        return self._take(self._kind == "word" and self._token.lower() == word)

    def sign(self, sign: str) -> bool:
        """Whether this sign stands here; it is passed then."""
        return self._take(self._kind == "sign" and self._token == sign)

    def _take(self, wanted: bool) -> bool:
        if wanted:
            self._advance()
        return wanted

    def expect(self, sign: str) -> None:
        """This sign must stand here; it is passed."""
        if not self.sign(sign):
            self.fail(f"expected {sign!r}" + (f", found {self._token!r}" if self._kind else ", found the end"))

    def _advance(self) -> None:
        match = _TOKEN.match(self._text, self._next)
        if match is not None and match.lastgroup is not None:
            self._kind, self._token = match.lastgroup, match[match.lastgroup]
            self._column, self._next = match.start(match.lastgroup) + 1, match.end()
            return
        rest = self._text[self._next :].lstrip()
        self._kind, self._token = "", ""
        self._column = len(self._text) - len(rest) + 1
        if rest:
            why = {"'": "this quote is never closed", "[": "this [[ is never closed by ]]"}
            self.fail(why.get(rest[0], f"cannot read {rest[:12]!r}"))

    def number(self) -> int:
        """A whole number must stand here; it is passed."""
        found = self._literal()
        if isinstance(found, bool) or not isinstance(found, int):
            self.fail(f"expected a whole number before this, found {found!r}")
        return found

    def fail(self, why: str) -> NoReturn:
        """Raise :class:`Invalid` with ``why`` and where."""
        raise Invalid(f"{self._what}, column {self._column}: {why}")


_UNDEFINED = object()
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _truth(node: Node, document: Mapping[str, Any]) -> Truth:
    match node:
        case Or(terms):
            found = {_truth(term, document) for term in terms}
            return True if True in found else None if None in found else False
        case And(terms):
            found = {_truth(term, document) for term in terms}
            return False if False in found else None if None in found else True
        case Not(term):
            inner = _truth(term, document)
            return None if inner is None else not inner
        case Comparison(symbol, left, right):
            return _compare(symbol, _value(left, document), _value(right, document))
        case Defined(operand):
            return _value(operand, document) is not _UNDEFINED
        case Membership(operand, values):
            value = _value(operand, document)
            return None if value is _UNDEFINED else any(_equal(value, one) for one in values)
        case _:
            value = _value(node, document)
            return value if isinstance(value, bool) else None


def _value(operand: Operand, document: Mapping[str, Any]) -> Any:
    if isinstance(operand, Literal):
        return operand.value
    value: Any = document
    for name in operand.path:
        if not isinstance(value, Mapping) or name not in value:
            return _UNDEFINED
        value = value[name]
    return value


def _compare(symbol: str, left: Any, right: Any) -> Truth:
    if left is _UNDEFINED or right is _UNDEFINED:
        return None
    if symbol in {"=", "!="}:
        return _equal(left, right) == (symbol == "=")
    if _kind(left) != _kind(right) or _kind(left) not in {"text", "number"}:
        return None
    return _ORDER[symbol](left, right)


def _equal(left: Any, right: Any) -> bool:
    """Equal in kind and value: 1 = 1.0, but 1 is neither true nor '1'."""
    return _kind(left) == _kind(right) and bool(left == right)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__
