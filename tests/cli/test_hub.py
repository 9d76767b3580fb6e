"""``farshore hub`` says where it is."""


def test_it_says_where_it_listens_and_where_the_first_token_is(hub_process):
    url, token = hub_process
    log = (token.parent.parent / "log").read_text()
    assert f"hub on {url}" in log
    assert str(token) in log
