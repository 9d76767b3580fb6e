"""The one part that pyproject.toml cannot say: a C extension that may be missing (its twin in Python is used then)."""

import sys

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "farshore.delta._kernel",
            sources=["src/farshore/delta/_kernel.c"],
            depends=[
                f"src/farshore/delta/{name}.h"
                for name in ("_coder", "_grids", "_channels", "_joint", "_tree", "_values", "_bins", "_quick", "_bytes")
            ],
            # The same bits on every machine: no fused multiply-add, no reordering of sums.
            extra_compile_args=[] if sys.platform == "win32" else ["-O3", "-ffp-contract=off", "-fno-fast-math"],
            py_limited_api=True,
            optional=True,
        ),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
