from farshore.hub.records import access
from farshore.hub.records.access import Enrolment, Token


def test_enrolment_tokens(tx):
    row = Enrolment("e1", "", {"site": "oslo"}, 1.0, 100.0, None, "")
    access.add_enrolment(tx, row, "hash")
    assert access.enrolment(tx, "hash") == row
    assert access.enrolment(tx, "other") is None
    access.use_enrolment(tx, "e1", "d", 5.0)
    [used] = access.all_enrolments(tx, 10)
    assert (used.used, used.used_by) == (5.0, "d")
    access.forget_enrolments(tx, 100.0)
    assert access.enrolment(tx, "hash") is not None
    access.forget_enrolments(tx, 100.5)
    assert access.enrolment(tx, "hash") is None
    assert not access.remove_enrolment(tx, "e1")


def test_operators_tokens(tx):
    assert not access.any_token(tx)
    access.add_token(tx, Token("a", "admin", 1.0, None), "hash-a")
    access.add_token(tx, Token("b", "brief", 2.0, 10.0), "hash-b")
    assert access.any_token(tx)
    assert access.token(tx, "hash-a", 1e12) == Token("a", "admin", 1.0, None)
    assert access.token(tx, "hash-b", 9.0) is not None
    assert access.token(tx, "hash-b", 10.0) is None
    assert access.revoke_token(tx, "a") and not access.revoke_token(tx, "a")
    assert access.token(tx, "hash-a", 1.0) is None
    assert access.knows_token(tx, "hash-a")
    assert [one.name for one in access.all_tokens(tx)] == ["brief"]
