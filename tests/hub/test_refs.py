import pytest

from farshore.core.errors import Invalid, NotFound
from farshore.hub import refs


@pytest.fixture
def resolve(hub, pushed):
    pushed(alias="champion")
    pushed(seed=2)

    def call(ref):
        with hub.database.reading() as tx:
            return refs.resolve(tx, ref).number

    return call


@pytest.mark.parametrize(
    ("ref", "number"),
    [("detector", 2), ("detector@latest", 2), ("detector@1", 1), ("detector@01", 1), ("detector@champion", 1)],
)
def test_ways_to_name_a_version(resolve, ref, number):
    assert resolve(ref) == number


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        ("", Invalid),
        ("@1", Invalid),
        ("detector@", Invalid),
        ("Detector", Invalid),
        ("detector@-1", Invalid),
        ("detector@1.0@2", Invalid),
        ("detector@0", NotFound),
        ("detector@3", NotFound),
        ("detector@4294967296", NotFound),
        ("detector@99999999999", Invalid),
        ("detector@other", NotFound),
        ("absent", NotFound),
        ("absent@1", NotFound),
        ("absent@champion", NotFound),
    ],
)
def test_refs_that_name_nothing(resolve, ref, error):
    with pytest.raises(error):
        resolve(ref)


def test_when_all_is_archived(resolve, operator):
    for number in (1, 2):
        operator.ask("PATCH", f"/v1/models/detector/versions/{number}", json={"archived": True})
    with pytest.raises(NotFound, match="not archived"):
        resolve("detector")
    assert resolve("detector@2") == 2


@pytest.mark.parametrize("alias", ["12", "latest", "Bad", "", "a b"])
def test_aliases_that_would_confuse(alias):
    with pytest.raises(Invalid, match="bad alias"):
        refs.check_alias(alias)
