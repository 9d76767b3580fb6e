from sqlalchemy import select

from farshore.hub.records import changes


def test_the_feed_counts_up_and_is_pruned(tx):
    for number in range(5):
        changes.add(tx, "twin.desired", f"d{number}", float(number))
    assert [one.subject for one in changes.after(tx, 1, 2)] == ["d1", "d2"]
    changes.prune(tx, 2)
    assert [one.serial for one in changes.after(tx, 0, 10)] == [4, 5]
    changes.prune(tx, 0)
    changes.add(tx, "twin.desired", "later", 9.0)
    assert [one.serial for one in changes.after(tx, 0, 10)] == [6]  # never given again, also when all were pruned


def test_counters(tx):
    assert changes.count(tx, changes.RULES) == 0
    changes.bump(tx, changes.RULES)
    changes.bump(tx, changes.RULES)
    changes.bump(tx, "other")
    assert changes.count(tx, changes.RULES) == 2
    assert tx.execute(select(changes.counter(changes.RULES))).scalar() == 2
