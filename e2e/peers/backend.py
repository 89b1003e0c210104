"""What the Python peers have in common: where the gateway is, SMART Backend Services, and what they send.

From the environment: PEER_FHIR, PEER_DICOMWEB, PEER_CLIENT (client id), PEER_JWKS (file with its private key as a JWK
set), PEER_SCOPE, PEER_PATIENT (system|value), PEER_RECIPIENT (type system|value, whom the patient consents to),
PEER_ORGANIZATION (system|value, where the consent is kept), PEER_POLICY.
"""

import base64
import datetime
import hashlib
import json
import os
import pathlib
import sys
import time
import uuid

import jwt
import requests

HERE = pathlib.Path(__file__).parent
FHIR = os.environ.get("PEER_FHIR", "").rstrip("/")
DICOMWEB = os.environ.get("PEER_DICOMWEB", "").rstrip("/")
SCOPE = os.environ.get("PEER_SCOPE", "system/*.rs")
PATIENT = os.environ.get("PEER_PATIENT", "")

done = []


def say(what, **more):
    """One thing that was done."""
    done.append({"did": what, **more})


def check(held, what):
    if not held:
        raise AssertionError(what)


def token_endpoint():
    answer = requests.get(f"{FHIR}/.well-known/smart-configuration", headers={"Accept": "application/json"}, timeout=30)
    check(answer.status_code == 200, f"smart-configuration is answered with {answer.status_code}")
    configuration = answer.json()
    check("client_credentials" in configuration["grant_types_supported"], "grant_types_supported has client_credentials")
    check(
        "private_key_jwt" in configuration["token_endpoint_auth_methods_supported"],
        "token_endpoint_auth_methods_supported has private_key_jwt",
    )
    return configuration["token_endpoint"]


def assertion(audience):
    """A client's signed word that it is itself, for five minutes at most."""
    jwk = json.loads(pathlib.Path(os.environ["PEER_JWKS"]).read_text())["keys"][0]
    client = os.environ["PEER_CLIENT"]
    claims = {"iss": client, "sub": client, "aud": audience, "exp": int(time.time()) + 240, "jti": str(uuid.uuid4())}
    return jwt.encode(claims, jwt.PyJWK(jwk).key, algorithm=jwk["alg"], headers={"kid": jwk["kid"], "typ": "JWT"})


def bearer(scope=SCOPE):
    endpoint = token_endpoint()
    form = {
        "grant_type": "client_credentials",
        "scope": scope,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion(endpoint),
    }
    answer = requests.post(endpoint, data=form, headers={"Accept": "application/json"}, timeout=30)
    check(answer.status_code == 200, f"the token request is answered with {answer.status_code}: {answer.text[:200]}")
    given = answer.json()
    check(given["token_type"].lower() == "bearer", "token_type is bearer")
    check(given["expires_in"] <= 3600, "a token lives an hour at most")
    check("scope" in given, "the scope is said")
    return given["access_token"]


def payload(name, **values):
    """One of payloads/, with its {{placeholders}} filled."""
    text = (HERE / "payloads" / f"{name}.json").read_text()
    now = datetime.datetime.now(datetime.timezone.utc)
    recipient = os.environ.get("PEER_RECIPIENT", "Organization urn:oid:2.25.1|hospital")
    organization = os.environ.get("PEER_ORGANIZATION", "urn:oid:2.25.1|hospital")
    recipient_type, _, recipient_identifier = recipient.partition(" ")
    all_values = {
        "now": now.isoformat(timespec="seconds"),
        "start": now.isoformat(timespec="seconds"),
        "end": (now + datetime.timedelta(days=30)).isoformat(timespec="seconds"),
        "uniqueId": f"urn:oid:2.25.{uuid.uuid4().int}",
        "submission": f"urn:oid:2.25.{uuid.uuid4().int}",
        "list": f"urn:uuid:{uuid.uuid4()}",
        "document": f"urn:uuid:{uuid.uuid4()}",
        "binary": f"urn:uuid:{uuid.uuid4()}",
        "policy": os.environ.get("PEER_POLICY", "urn:willis:policy:consent"),
        "recipientType": recipient_type,
        "recipientSystem": recipient_identifier.partition("|")[0],
        "recipientValue": recipient_identifier.partition("|")[2],
        "organizationSystem": organization.partition("|")[0],
        "organizationValue": organization.partition("|")[2],
        **values,
    }
    for key, value in all_values.items():
        # A number stands without the placeholder's quotation marks.
        here = f'"{{{{{key}}}}}"' if isinstance(value, int) else f"{{{{{key}}}}}"
        text = text.replace(here, json.dumps(value).strip('"'))
    check("{{" not in text, f"{name} is filled")
    return json.loads(text)


def encoded(data):
    return {
        "data": base64.b64encode(data).decode(),
        "size": len(data),
        "hash": base64.b64encode(hashlib.sha1(data).digest()).decode(),
    }


def carried(attachment, data):
    """An attachment as the gateway must keep it: at an absolute URL of its own, with size and SHA-1, without data."""
    check(attachment["url"].startswith(f"{FHIR}/Binary/"), f"the document is at {attachment.get('url')}")
    check("data" not in attachment, "the data are taken out")
    check(attachment["size"] == len(data), "the size is the document's")
    check(attachment["hash"] == encoded(data)["hash"], "the hash is the document's SHA-1")


def subtypes(events):
    return {one["code"] for event in events for one in event.get("subtype", [])}


def run(peer, version, scenario):
    """Runs a scenario, prints what was done as one JSON object, and ends with 1 if anything did not hold."""
    failed = None
    try:
        scenario()
    except Exception as error:  # Whatever it is, the peer could not do its work.
        failed = f"{type(error).__name__}: {error}"
        import traceback

        traceback.print_exc()
    print(json.dumps({"peer": peer, "version": version, "ok": failed is None, "failed": failed, "done": done}))
    sys.exit(0 if failed is None else 1)


def until_active(read):
    """A proposed consent, once its patient granted it."""
    deadline = time.monotonic() + 60
    while True:
        found = read()
        if found["status"] == "active":
            return found
        check(time.monotonic() < deadline, f"the consent is {found['status']}")
        time.sleep(0.5)
