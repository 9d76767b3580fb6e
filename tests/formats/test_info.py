from __future__ import annotations

import pytest

from farshore.formats.info import precision


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"float32": 1000, "int64": 9000}, "fp32"),
        ({"int8": 1000, "float32": 50, "int32": 20}, "int8"),
        ({"uint8": 600, "int8": 500}, "int8"),
        ({"float16": 990, "float32": 10}, "fp16"),
        ({"int8": 500, "float32": 500}, "mixed"),
        ({"int64": 100}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_precision_is_what_nine_tenths_of_the_weights_are(elements, expected):
    found, why = precision(elements)
    assert found == expected
    assert why
