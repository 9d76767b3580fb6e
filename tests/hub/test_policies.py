import stat

import pytest

from farshore.core.errors import Denied, FarshoreError, NotFound, Unauthenticated
from farshore.hub.policies import POLICIES, Policies
from farshore.mqtt import sas

HOSTS, NOW = ("hub.example", "localhost"), 1_790_000_000.0


@pytest.fixture
def policies(tmp_path):
    return Policies(tmp_path / "iothub.keys")


def token(policies, name="iothubowner", resource="hub.example", key=None, expires=NOW + 60, **more):
    return sas.sign(resource, key or policies.one(name).primary, int(expires), **{"policy": name, **more})


def check(policies, header, right="RegistryRead", path="devices/d"):
    return policies.check(header, HOSTS, path, right, NOW)


def test_keys_are_made_once_and_are_their_owners_only(policies, tmp_path):
    first = policies.one("service")
    again = Policies(tmp_path / "iothub.keys")
    assert again.one("service") == first and again.one("device") != first
    assert stat.S_IMODE((tmp_path / "iothub.keys").stat().st_mode) == 0o600
    with pytest.raises(NotFound):
        policies.one("root")


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("right", sorted(POLICIES["iothubowner"]))
def test_each_policy_has_its_rights_and_no_more(policies, name, right):
    if right in POLICIES[name]:
        assert check(policies, token(policies, name), right) == name
    else:
        with pytest.raises(Denied):
            check(policies, token(policies, name), right)


def test_tokens_are_for_this_hub_by_any_name_and_for_what_they_name(policies):
    for resource in ("hub.example", "LOCALHOST:18443", "hub.example/devices", "hub.example/devices/d"):
        assert check(policies, token(policies, resource=resource))
    for resource in ("other.example", "hub.example/device", "hub.example/devices/d2", "hub.example/twins"):
        with pytest.raises(Unauthenticated):
            check(policies, token(policies, resource=resource))


def test_what_proves_nothing(policies):
    other = policies.one("device").primary
    good = token(policies)
    for bad in (
        None, "", "Bearer x", "SharedAccessSignature", good + "&skn=service", token(policies, policy=""), token(policies, policy="root"),
        token(policies, key=other), token(policies, expires=NOW), good.replace("sig=", "sig=A"), good[:-3],
    ):  # fmt: skip
        with pytest.raises(Unauthenticated):
            check(policies, bad)
    assert check(policies, token(policies, key=policies.one("iothubowner").secondary)) == "iothubowner"


def test_new_keys(policies, tmp_path):
    first, other = token(policies), policies.one("service")
    made = policies.renew("iothubowner", both=False)
    assert check(policies, first) == "iothubowner"  # by what is the secondary one now
    assert made == policies.one("iothubowner") == Policies(tmp_path / "iothub.keys").one("iothubowner")
    policies.renew("iothubowner", both=True)
    for old in (first, token(policies, key=made.primary)):
        with pytest.raises(Unauthenticated):
            check(policies, old)
    assert policies.one("service") == other
    with pytest.raises(NotFound):
        policies.renew("root", both=False)


def test_a_damaged_file_is_no_reason_for_new_keys(tmp_path):
    path = tmp_path / "iothub.keys"
    for text in ("", "{}", '{"service": {"primary": "", "secondary": ""}}'):
        path.write_text(text)
        with pytest.raises(FarshoreError):
            Policies(path).one("service")
        assert path.read_text() == text
