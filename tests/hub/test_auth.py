import re

import pytest

from farshore.core.errors import Unauthenticated
from farshore.hub import auth


def test_secrets_are_long_and_different():
    made = {auth.make_secret() for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in made)


def test_what_is_stored_is_not_the_secret():
    secret = auth.make_secret()
    assert secret not in auth.hashed(secret)
    assert auth.hashed(secret) == auth.hashed(secret) != auth.hashed(secret + "x")


def test_reads_a_bearer():
    assert auth.bearer("Bearer " + "x" * 43) == auth.bearer("bearer  " + "x" * 43 + " ") == "x" * 43


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic " + "x" * 43,
        "Bearer short",
        "Bearer " + "x" * 200,
        "Bearer " + "ø" * 43,
        "Bearer a b" * 9,
    ],
)
def test_anything_else_is_nobody(header):
    with pytest.raises(Unauthenticated):
        auth.bearer(header)
