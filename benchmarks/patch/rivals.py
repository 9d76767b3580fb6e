"""What other tools need for the same step; `farshore patch bench` measures against the same."""

from farshore.cli.rivals import NOT_GENERAL, sizes

__all__ = ["NOT_GENERAL", "sizes"]
