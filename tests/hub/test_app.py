"""The whole hub over its API: the main walk."""


def test_a_device_gets_what_a_deployment_says(operator, pushed):
    version = pushed()
    device = operator.enrolled("turbine-7", tags={"site": "oslo"})
    assert device.sync()["desired"] == {"$version": 1}
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "tags.site = 'oslo'", "model": "detector@1"})
    desired = device.sync(seen=1)["desired"]
    assert desired == {"$version": 2, "models": {"detector": {"version": 1, "digest": version["digest"]}}}
    assert device.envelope(version["digest"])
