from farshore.hub import moments


def test_as_iot_hub_writes_it():
    assert moments.text(0) == "1970-01-01T00:00:00.0000000Z"
    assert moments.text(1790000000.25) == "2026-09-21T14:13:20.2500000Z"
    assert moments.text_or_none(None) is None
