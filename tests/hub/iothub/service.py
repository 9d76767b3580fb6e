"""The service API as a service sees it."""

from farshore.mqtt import sas


class Service:
    """Asks by a policy's key; answers are decoded, and a wrong status is an error."""

    def __init__(self, client, hub, policy="iothubowner"):
        self.client, self.hub, self.policy = client, hub, policy

    def token(self, resource="localhost", **more):
        expires = int(self.hub.clock()) + 3600
        return sas.sign(resource, self.hub.policies.one(self.policy).primary, expires, self.policy)

    def ask(self, method, path, *, status=(200, 201, 204), etag=None, headers=None, **more):
        given = {"Authorization": self.token(), **({"If-Match": etag} if etag else {}), **(headers or {})}
        answer = self.client.request(method, f"{path}?api-version=2021-04-12", headers=given, **more)
        wanted = status if isinstance(status, tuple) else (status,)
        assert answer.status_code in wanted, (answer.status_code, answer.text)
        return answer

    def get(self, path, **more):
        return self.ask("GET", path, **more).json()

    def put(self, path, body=None, **more):
        return self.ask("PUT", path, json=body or {}, **more).json()

    def patch(self, path, body, **more):
        return self.ask("PATCH", path, json=body, **more).json()

    def delete(self, path, **more):
        return self.ask("DELETE", path, **more)

    def query(self, text, **headers):
        answer = self.ask("POST", "/devices/query", json={"query": text}, headers=headers)
        return answer.json(), answer.headers

    def refused(self, method, path, status, **more):
        """The error's text; its shape is what IoT Hub's clients read."""
        body = self.ask(method, path, status=status, **more).json()
        assert set(body) == {"Message", "ExceptionMessage"} and body["ExceptionMessage"].startswith("Tracking ID:")
        return body["Message"]
