from farshore.hub.records import access
from farshore.hub.records.access import Enrolment


def test_enrolment_tokens(tx):
    row = Enrolment("e1", "", {"site": "oslo"}, 1.0, 100.0, None, "", True, "north")
    access.add_enrolment(tx, row, "hash")
    assert access.enrolment(tx, "hash") == row
    assert access.enrolment(tx, "other") is None
    assert access.enrolment_by_id(tx, "e1") == row and access.enrolment_by_id(tx, "e2") is None
    access.use_enrolment(tx, "e1", "d", 5.0)
    [used] = access.all_enrolments(tx, 10)
    assert (used.used, used.used_by) == (5.0, "d")
    access.forget_enrolments(tx, 100.0)
    assert access.enrolment(tx, "hash") is not None
    access.forget_enrolments(tx, 100.5)
    assert access.enrolment(tx, "hash") is None
    assert not access.remove_enrolment(tx, "e1")
