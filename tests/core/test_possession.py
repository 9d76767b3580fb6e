import base64

import pytest
from msgspec.structs import replace

from farshore.core import possession
from farshore.core.errors import Denied
from farshore.core.trust import SigningKey
from farshore.core.wire import EnrolRequest, RenewRequest

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
ENROL = EnrolRequest("d", str(KEY.public), possession.hashed("bearer"), token="t" * 43)
RENEW = RenewRequest("d", 3, "challenge-challenge", possession.hashed("bearer"))


@pytest.mark.parametrize("request_", [ENROL, RENEW])
def test_the_holder_of_the_key(request_):
    signed = possession.sign(KEY, request_)
    possession.check(KEY.public, signed)
    with pytest.raises(Denied):
        possession.check(OTHER.public, signed)
    with pytest.raises(Denied):
        possession.check(KEY.public, request_)


@pytest.mark.parametrize(
    ("signed", "change"),
    [
        *(
            (ENROL, change)
            for change in ({"device": "e"}, {"key": str(OTHER.public)}, {"bearer": "0" * 64}, {"token": ""})
        ),
        *((RENEW, change) for change in ({"device": "e"}, {"turn": 4}, {"challenge": "other"}, {"bearer": "0" * 64})),
    ],
)
def test_every_member_is_signed(signed, change):
    with pytest.raises(Denied):
        possession.check(KEY.public, replace(possession.sign(KEY, signed), **change))


def test_a_signature_means_nothing_under_another_kind_of_request():
    renewal = possession.sign(KEY, RENEW)
    with pytest.raises(Denied):
        possession.check(KEY.public, replace(ENROL, signature=renewal.signature))


@pytest.mark.parametrize("text", ["", "AAAA", "no base64!", base64.b64encode(b"x" * 64).decode(), "é"])
def test_what_is_no_signature(text):
    with pytest.raises(Denied):
        possession.check(KEY.public, replace(RENEW, signature=text))


def test_members_are_told_apart_however_they_are_cut():
    one, two = replace(RENEW, device="ab", challenge="c"), replace(RENEW, device="a", challenge="bc")
    assert one.statement() != two.statement()
