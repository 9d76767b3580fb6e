"""Patches between model files: any number of bases in, one target out, bit for bit."""

from __future__ import annotations

from farshore.delta.decoder import decode
from farshore.delta.encoder import encode
from farshore.delta.inspecting import PatchInfo, info
from farshore.delta.kernel import COMPILED

__all__ = ["COMPILED", "PatchInfo", "decode", "encode", "info"]
