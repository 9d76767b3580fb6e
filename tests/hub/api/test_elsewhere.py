"""For devices that ask somebody else's IoT Hub: orders to take away, and reports that are passed on."""

import msgspec

from farshore.core.digest import Digest
from farshore.core.dispatch import Published
from farshore.trust import director
from farshore.trust.chain import Chain
from farshore.trust.metadata import moment
from farshore.trust.releases import check


def test_an_order_to_take_away_is_whole_and_answers_no_question(operator, pushed, clock):
    operator.enrolled("d")
    pushed()
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector"})
    answer = operator.ask("GET", "/v1/devices/d/order")
    found, published = answer.json(), msgspec.json.decode(answer.content, type=Published)
    version = operator.get("/v1/models/detector/versions/1")
    assert found["desired"]["models"]["detector"] == {"version": 1, "digest": version["digest"]}
    chain = Chain.begin(bytes(published.trust.roots[0]))
    for one in published.trust.roots[1:]:
        chain = chain.with_root(bytes(one))
    metadata = {role: bytes(one) for role, one in published.trust.metadata.items()}
    chain = chain.with_timestamp(metadata["timestamp"]).with_snapshot(metadata["snapshot"])
    chain = chain.with_targets(metadata["targets"]).with_role("model/detector", metadata["model/detector"])
    order = director.unseal(bytes(published.trust.order), chain.targets.signed)
    director.check(order, device="d", nonce="", seq=0, desired=director.digest_of(found["desired"]))
    assert order.nonce == ""
    check(chain, "detector", 1, Digest(version["digest"]), moment(clock.now))
    operator.ask("GET", "/v1/devices/absent/order", status=404)


def test_a_report_that_is_passed_on_counts_as_the_device_s(operator, pushed):
    operator.enrolled("d")
    pushed()
    version = operator.get("/v1/models/detector/versions/1")
    said = {"models": {"detector": {"current": {"version": 1, "digest": version["digest"], "variant": "main"}}}}
    before = len(operator.get("/v1/audit", params={"limit": 1000, "after": 0}))
    operator.ask("PATCH", "/v1/devices/d/reported", json=said, status=204)
    assert operator.get("/v1/devices/d/twin")["properties"]["reported"]["models"] == said["models"]
    assert len(operator.get("/v1/audit", params={"limit": 1000, "after": 0})) == before + 1
    operator.ask("DELETE", "/v1/models/detector/versions/1", status=409)  # a device runs it
    operator.ask("PATCH", "/v1/devices/absent/reported", json={}, status=404)
    operator.ask("PATCH", "/v1/devices/d/reported", json={"bad.key": 1}, status=400)
    operator.ask("PATCH", "/v1/devices/d/reported", json=[1], status=400)
