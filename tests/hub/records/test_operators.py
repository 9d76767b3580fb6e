from farshore.hub.records import operators as records
from farshore.hub.records.operators import Operator, Session, Setup, Token
from farshore.hub.roles import Grant

VIEWER, ADMIN = Grant("viewer", "north"), Grant("admin", "*")


def test_operators_come_back_as_they_were_written(tx):
    row = Operator("kari", "", (VIEWER, ADMIN), 5.0)
    records.put_operator(tx, row)
    assert records.operator(tx, "kari") == row and records.operator(tx, "absent") is None
    changed = Operator("kari", "argon2", (VIEWER,), 5.0)
    records.put_operator(tx, changed)
    assert records.all_operators(tx) == [changed]


def test_with_an_operator_goes_all_that_they_may_come_with(tx):
    for name in ("kari", "ola"):
        records.put_operator(tx, Operator(name, "x", (VIEWER,), 5.0))
        records.add_setup(tx, Setup(f"setup-{name}", name, (VIEWER,), 100.0))
        records.add_session(tx, Session(f"id-{name}", f"session-{name}", name, 100.0))
        records.add_token(tx, Token(f"t-{name}", "ci", name, (VIEWER,), 5.0, None), f"token-{name}")
        records.note_upload(tx, name, "sha256:1")
        records.note_upload(tx, name, "sha256:1")
    assert records.remove_operator(tx, "kari") and not records.remove_operator(tx, "kari")
    found = [
        (records.setup_of(tx, f"setup-{name}", 1.0), records.session(tx, f"session-{name}", 1.0) is None,
         records.token(tx, f"token-{name}", 1.0) is None, records.uploaded(tx, name, "sha256:1"))
        for name in ("kari", "ola")
    ]  # fmt: skip
    assert found == [(None, True, True, False), ("ola", False, False, True)]


def test_a_setup_link_is_good_once_and_only_the_newest(tx):
    records.add_setup(tx, Setup("first", "kari", (VIEWER,), 100.0))
    records.add_setup(tx, Setup("second", "kari", (VIEWER,), 100.0))
    assert records.use_setup(tx, "first", 1.0) is None
    assert records.use_setup(tx, "second", 1.0).operator == "kari"
    assert records.use_setup(tx, "second", 1.0) is None
    records.add_setup(tx, Setup("third", "kari", (VIEWER,), 100.0))
    assert records.use_setup(tx, "third", 100.0) is None  # too late, and used up by that


def test_what_expires(tx):
    records.add_session(tx, Session("a", "session", "kari", 100.0))
    records.add_token(tx, Token("a", "ci", "kari", (VIEWER,), 5.0, 100.0), "token")
    assert records.session(tx, "session", 99.0) and records.token(tx, "token", 99.0)
    assert records.session(tx, "session", 100.0) is None is records.token(tx, "token", 100.0)
    records.forget(tx, 100.0)
    assert records.session(tx, "session", 99.0) is None


def test_tokens_by_owner_and_revoked(tx):
    for number, owner in enumerate(["kari", "ola"]):
        records.add_token(tx, Token(f"t{number}", "ci", owner, (ADMIN,), number, None), f"hash{number}")
    assert [one.id for one in records.all_tokens(tx, None)] == ["t0", "t1"]
    assert [one.id for one in records.all_tokens(tx, "ola")] == ["t1"]
    assert records.revoke_token(tx, "t1") and not records.revoke_token(tx, "t1")
    assert records.token(tx, "hash1", 1.0) is None is records.token_by_id(tx, "t1")
    assert records.knows_token(tx, "hash1") and records.any_token(tx)
