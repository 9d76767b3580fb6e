"""A visitor with a session, as a browser has it."""

import pytest


class Visitor:
    """Pages through a test client that is logged in."""

    def __init__(self, client) -> None:
        self.client = client

    def get(self, path, *, status=200, **more):
        answer = self.client.get(path, follow_redirects=False, **more)
        assert answer.status_code == status, (answer.status_code, answer.text[:3000])
        return answer

    def text(self, path, **more):
        return self.get(path, **more).text


def log_in(operator):
    token = operator.headers["Authorization"].removeprefix("Bearer ")
    answer = operator.client.post("/login", data={"token": token, "next": "/studio"}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return Visitor(operator.client)


@pytest.fixture
def visitor(operator):
    return log_in(operator)
