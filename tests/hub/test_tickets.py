import pytest

from farshore.core import digest as digests
from farshore.core.errors import Denied
from farshore.hub.tickets import Tickets

ONE, OTHER = digests.of(b"one"), digests.of(b"other")
TICKETS = Tickets(b"s" * 32, 600)


def test_a_ticket_opens_one_object_for_one_device():
    ticket = TICKETS.write("turbine-7.a", ONE, 1000.5)
    assert TICKETS.read(ticket, ONE, 1000.5) == "turbine-7.a"
    assert TICKETS.read(ticket, ONE, 1599.9) == "turbine-7.a"


def test_it_expires():
    ticket = TICKETS.write("d", ONE, 1000)
    for late in (1600, 1e9):
        with pytest.raises(Denied, match="expired"):
            TICKETS.read(ticket, ONE, late)


def test_it_is_for_nothing_else():
    ticket = TICKETS.write("d", ONE, 1000)
    with pytest.raises(Denied):
        TICKETS.read(ticket, OTHER, 1000)
    with pytest.raises(Denied):
        Tickets(b"t" * 32, 600).read(ticket, ONE, 1000)
    expires, device, mac = ticket.split("~")
    for forged in (f"{int(expires) + 1}~{device}~{mac}", f"{expires}~e~{mac}", f"0{expires}~{device}~{mac}"[:-1]):
        with pytest.raises(Denied):
            TICKETS.read(forged, ONE, 1000)


def test_every_changed_character_breaks_it():
    ticket = TICKETS.write("device", ONE, 1000)
    for at in range(len(ticket)):
        forged = ticket[:at] + ("1" if ticket[at] != "1" else "2") + ticket[at + 1 :]
        with pytest.raises(Denied):
            TICKETS.read(forged, ONE, 1000)


@pytest.mark.parametrize(
    "ticket",
    [
        "",
        "~~",
        "1~d",
        "1~d~",
        "x" * 9000,
        "1~d/e~" + "a" * 43,
        "1~é~" + "a" * 43,
        "1~" + "d" * 129 + "~" + "a" * 43,
        "-1~d~" + "a" * 43,
        "1~d~" + "a" * 43 + "\n",
    ],
)
def test_what_is_no_ticket(ticket):
    with pytest.raises(Denied, match="not a ticket"):
        TICKETS.read(ticket, ONE, 0)
