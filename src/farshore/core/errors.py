"""Errors, named by what the caller must do.

One class per answer to "what now?"; one table each to HTTP status and exit code. Foreign errors are translated into these
at the seam where they appear, so that nothing above a seam knows whose library failed.
"""

from __future__ import annotations

from typing import ClassVar


class FarshoreError(Exception):
    """Base of all errors that a caller may see. The message is one line that says what to do.

    Attributes:
        code: short stable name, part of the API (``docs/formats/wire.md``).
        status: HTTP status an API answers with.
        exit_code: exit status of the command line (sysexits-like, distinct per class).

    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    @property
    def message(self) -> str:
        """The one-line text."""
        return str(self.args[0]) if self.args else self.code


class Invalid(FarshoreError):
    """The input is wrong: change it, then call again."""

    code = "invalid"
    status = 400
    exit_code = 2


class NotFound(FarshoreError):
    """What was named does not exist (any more): check the name."""

    code = "not_found"
    status = 404
    exit_code = 3


class Conflict(FarshoreError):
    """The state changed or forbids it: read the current state, decide anew."""

    code = "conflict"
    status = 409
    exit_code = 4


class Denied(FarshoreError):
    """Who calls may not do this, or is not known: get a credential."""

    code = "denied"
    status = 403
    exit_code = 5


class Corrupt(FarshoreError):
    """Bytes are not what they were said to be: discard them and fetch again."""

    code = "corrupt"
    status = 422
    exit_code = 6


class Unavailable(FarshoreError):
    """Not now (network, disk, memory, start-up): wait, then call again unchanged."""

    code = "unavailable"
    status = 503
    exit_code = 7


class TooLarge(Invalid):
    """The input exceeds a stated limit: send less."""

    code = "too_large"
    status = 413


class Unauthenticated(Denied):
    """No credential, or an expired one: authenticate."""

    code = "unauthenticated"
    status = 401


BY_CODE: dict[str, type[FarshoreError]] = {
    kind.code: kind
    for kind in (Invalid, NotFound, Conflict, Denied, Corrupt, Unavailable, TooLarge, Unauthenticated, FarshoreError)
}


def from_code(code: str, message: str) -> FarshoreError:
    """The error that a peer named by ``code``; unknown codes become the base class.

    Args:
        code: the ``code`` of an API error body or a twin report.
        message: its text.

    """
    return BY_CODE.get(code, FarshoreError)(message)
