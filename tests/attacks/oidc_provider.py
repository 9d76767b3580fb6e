"""A small OpenID Connect provider, with an HTTP server and keys of its own; a test changes what it says of itself and of people."""

import base64
import functools
import hashlib
import http.server
import json
import secrets
import threading
import urllib.parse

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

CLIENT, SECRET = "farshore", "s3cret:with / odd&signs"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8))


class Signer:
    """A key pair, as a JWK and as what signs with it."""

    def __init__(self, kid: str, alg: str = "RS256") -> None:
        self.kid, self.alg = kid, alg
        if alg == "RS256":
            self.key = rsa.generate_private_key(65537, 2048)
            held = self.key.public_key().public_numbers()
            jwk = {"kty": "RSA", "n": number(held.n), "e": number(held.e)}
        elif alg == "ES256":
            self.key = ec.generate_private_key(ec.SECP256R1())
            held = self.key.public_key().public_numbers()
            jwk = {"kty": "EC", "crv": "P-256", "x": b64(held.x.to_bytes(32)), "y": b64(held.y.to_bytes(32))}
        else:
            self.key = ed25519.Ed25519PrivateKey.generate()
            jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(self.key.public_key().public_bytes_raw())}
        self.jwk = {**jwk, "kid": kid, "use": "sig", "alg": alg}

    def sign(self, data: bytes) -> bytes:
        if self.alg == "RS256":
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if self.alg == "ES256":
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32) + s.to_bytes(32)
        return self.key.sign(data)

    def token(self, claims, **header) -> str:
        return compact({"alg": self.alg, "kid": self.kid, **header}, claims, self.sign)


@functools.cache
def first() -> Signer:
    """The key that providers begin with; making one for each would take long."""
    return Signer("one")


def compact(header, claims, sign) -> str:
    head = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{head}.{b64(sign(head.encode()))}"


class Provider:
    """The provider; ``claims`` are laid over those of a good token, ``make`` makes the token from the whole."""

    def __init__(self, clock) -> None:
        self.clock, self.signer = clock, first()
        self.keys = [self.signer.jwk]
        self.claims, self.make = {}, None
        self.codes, self.answers, self.asked = {}, {}, []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def authorize(self, address: str, subject="kari-7", email="kari@example.org") -> dict[str, str]:
        """What somebody's browser does at the address that a log-in leads to: the query that they come back with."""
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query, strict_parsing=True))
        assert address.startswith(f"{self.url}/authorize?") and asked["client_id"] == CLIENT
        assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked | {"sub": subject, "email": email}
        return {"code": code, "state": asked["state"], "iss": self.url}

    def change(self, headers, form) -> tuple[int, dict]:
        """The token endpoint: each code once, for whoever has its verifier and the client's secret."""
        begun = self.codes.pop(form.get("code"), None)
        name, _, secret = (
            base64.b64decode(headers.get("Authorization", "").removeprefix("Basic ")).decode().partition(":")
        )
        known = (urllib.parse.unquote(name), urllib.parse.unquote(secret)) == (CLIENT, SECRET)
        verifier = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if not known:
            return 401, {"error": "invalid_client"}
        if begun is None or verifier != begun["code_challenge"] or form["redirect_uri"] != begun["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now = int(self.clock())
        good = {
            "iss": self.url, "aud": CLIENT, "sub": begun["sub"], "iat": now, "exp": now + 300,
            "nonce": begun["nonce"], "email": begun["email"], "email_verified": True,
        }  # fmt: skip
        claims = {name: value for name, value in {**good, **self.claims}.items() if value is not None}
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": (self.make or self.signer.token)(claims)}

    def _handler(provider):  # noqa: N805 - the handler's own self is the other one
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.answer({"/.well-known/openid-configuration": provider.document, "/keys": {"keys": provider.keys}})

            def do_POST(self):
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                status, said = provider.change(self.headers, form)
                self.answer({"/token": said}, status)

            def answer(self, pages, status=200):
                provider.asked.append(self.path)
                status, said, more = provider.answers.get(self.path, (status, pages.get(self.path), {}))
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status if said is not None else 404)
                for name, value in {"Content-Length": str(len(data)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        return Handler
