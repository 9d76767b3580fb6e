import pytest

from farshore.core.errors import Denied, Invalid
from farshore.hub import authority
from farshore.tls import pins

NOW = 1_790_000_000.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authorities")
    return [authority.settle(folder / name, ["localhost"], NOW) for name in ("one", "other")]


def test_the_right_one(made):
    one, _ = made
    assert one.pin == pins.pin_of(one.pem)
    assert len(one.pin) == 43
    assert pins.check(one.pem, one.pin) == one.pem


def test_another_authority_is_refused(made):
    one, other = made
    with pytest.raises(Denied, match="in between"):
        pins.check(other.pem, one.pin)
    with pytest.raises(Denied):
        pins.check(other.pem + one.pem, one.pin)  # the first counts, and what stands behind it is not believed either
    assert pins.check(one.pem + other.pem, one.pin) == one.pem


@pytest.mark.parametrize(
    "pem", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"x" * 100_000]
)
def test_what_is_no_certificate(pem):
    with pytest.raises(Invalid):
        pins.check(pem, "p" * 43)
