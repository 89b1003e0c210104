"""Signed calls (formats.md, M22), written from the specification: enc, Ed25519 under a context, the
Authorization header, and what the problem table says of answers that ask to come again."""

import hashlib
import os
import time

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# A key may make 100 calls at once and 20 a second for long; this stays below.
CALLS_AT_ONCE = 60
CALLS_A_SECOND = 18.0
# How often what is busy is asked again, and the pause between.
ATTEMPTS = 8
PAUSE_SECONDS = 1.0


def u64(number):
    """An integer as a part of enc."""
    return number.to_bytes(8, "big")


def enc(*parts):
    """E1: each part with its length as a u32 before it."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class Key:
    """An Ed25519 key, and how many calls it may make now."""

    def __init__(self, name, seed=None):
        self.name = name
        self.seed = seed or os.urandom(32)
        self.private = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.calls = CALLS_AT_ONCE
        self.counted = time.monotonic()

    def sign(self, context, consortium, *parts):
        """E7."""
        return self.private.sign(enc(b"WILLIS-V1-ED25519-" + context, consortium, *parts))

    def take_turn(self):
        """Waits until the key may make another call."""
        while True:
            now = time.monotonic()
            self.calls = min(CALLS_AT_ONCE, self.calls + (now - self.counted) * CALLS_A_SECOND)
            self.counted = now
            if self.calls >= 1:
                self.calls -= 1
                return
            time.sleep((1 - self.calls) / CALLS_A_SECOND)


class Signed(requests.auth.AuthBase):
    """Signs a prepared request as its last step, so that what is signed is what is sent. What is
    answered with 503 busy is sent again: the problem table says that this is safe, and it has to end."""

    def __init__(self, consortium, service, key):
        self.consortium = consortium
        self.service = service
        self.key = key
        self.attempts = 0

    def __call__(self, request):
        self.sign(request)
        request.register_hook("response", self.again)
        return request

    def sign(self, request):
        if self.key is None:
            return
        self.key.take_turn()
        body = request.body or b""
        if isinstance(body, str):
            body = body.encode()
        digest = hashlib.sha256(body).digest()
        idempotency_key = request.headers.get("Idempotency-Key", "")
        if isinstance(idempotency_key, bytes):
            idempotency_key = idempotency_key.decode("latin-1")
        now = int(time.time() * 1000)
        nonce = os.urandom(16)
        signature = self.key.sign(
            b"call",
            self.consortium,
            self.service.encode(),
            request.method.encode(),
            request.path_url.encode(),
            idempotency_key.encode("latin-1", "replace"),
            self.key.public,
            digest,
            u64(now),
            nonce,
        )
        request.headers["Authorization"] = (
            f"Willis key={self.key.public.hex()}, time={now}, nonce={nonce.hex()}, "
            f"body={digest.hex()}, signature={signature.hex()}"
        )

    def again(self, response, **kwargs):
        if response.status_code != 503 or self.attempts == ATTEMPTS:
            return response
        if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
            return response
        self.attempts += 1
        _ = response.content
        response.close()
        time.sleep(PAUSE_SECONDS)
        request = response.request.copy()
        # The hook stands in the copy as well and counts on.
        self.sign(request)
        repeated = response.connection.send(request, **kwargs)
        repeated.request = request
        repeated.history = []
        return self.again(repeated, **kwargs)


class Service:
    """One service of the consortium, to be called as its users do."""

    def __init__(self, world, role):
        self.role = role
        self.world = world
        place = world["services"][role]
        self.address = place["address"]
        self.name = place["name"]
        self.session = requests.Session()
        self.session.verify = place["authority"]
        self.session.trust_env = False

    def call(self, key, method, target, json=None, data=None, headers=None):
        headers = dict(headers or {})
        if method != "GET":
            headers.setdefault("Idempotency-Key", os.urandom(8).hex())
        auth = Signed(bytes.fromhex(self.world["consortium"]), self.name, key)
        response = self.session.request(
            method,
            self.address + target,
            json=json,
            data=data,
            headers=headers,
            auth=auth,
            timeout=30,
        )
        if not response.ok:
            raise SystemExit(f"{self.role} refused {method} {target}: {response.status_code} {response.text}")
        if response.headers.get("Content-Type", "").startswith("application/json"):
            return response.json()
        return response.content
