"""A hub of its own for each test that asks for one."""

from tests.hub.conftest import clock, make_onnx, operator, operator_of, pushed, settings

__all__ = ["clock", "make_onnx", "operator", "operator_of", "pushed", "settings"]
