"""fhirclient (SMART Health IT) gets its token by SMART Backend Services, provides a document by ITI-65 and finds it.

It parses every answer strictly against its own model of R4. It signs no client assertion: it is given one (jwt_token).
It learns the token endpoint only from the extension oauth-uris of the CapabilityStatement, never from
.well-known/smart-configuration.
"""

import base64
import importlib.metadata

from fhirclient import client as smart
from fhirclient.models import auditevent, bundle, consent, documentreference, patient, provenance
from fhirclient.server import FHIRNotFoundException

from backend import FHIR, PATIENT, SCOPE, assertion, carried, check, encoded, payload, run, say, subtypes, token_endpoint, until_active

DOCUMENT = b"%PDF-1.7 not really\n" + bytes(range(256)) * 4000


def scenario():
    settings = {"app_id": "fhirclient", "api_base": FHIR, "jwt_token": assertion(token_endpoint()), "scope": SCOPE}
    client = smart.FHIRClient(settings=settings)
    # Otherwise it asks for launch/patient too, which no backend service has.
    client.wants_patient = False
    check(client.prepare() is False, "it takes the server for one that wants a token")
    check(client.server.capabilityStatement.fhirVersion == "4.0.1", "the gateway speaks R4")
    check(client.server.auth.state["token_uri"] == token_endpoint(), "both discoveries lead to the same token endpoint")
    client.authorize()
    check(client.ready, "it has a token")
    server = client.server
    say("got a token by client_credentials, with the endpoint from the capabilities")

    found = list(patient.Patient.where({"identifier": PATIENT}).perform_resources_iter(server))
    check(len(found) == 1, f"{len(found)} patients have the identifier")
    owner = f"Patient/{found[0].id}"
    say("found the patient")

    values = {"patient": owner, "contentType": "application/pdf", "title": "Imaging report", **encoded(DOCUMENT)}
    provided = payload("provide-minimal", **values)
    answer = bundle.Bundle(bundle.Bundle(provided).create(server))
    check(answer.type == "transaction-response", "a transaction is answered by its response")
    check(len(answer.entry) == len(provided["entry"]), "each entry is answered")
    check(all(one.response.status.startswith("201") for one in answer.entry), "all is created")
    locations = [one.response.location for one in answer.entry]
    for kind, location in zip(("List", "DocumentReference", "Binary"), locations):
        check(f"{kind}/" in location, f"entries are answered in their order: {location}")
    say("provided by ITI-65")

    parts = locations[1].split("/")
    kept_id = parts[parts.index("DocumentReference") + 1]
    kept = documentreference.DocumentReference.read(kept_id, server)
    carried(kept.content[0].attachment.as_json(), DOCUMENT)
    check(kept.subject.reference.endswith(owner), "the subject is the patient")
    say("read the reference")

    bundles = list(documentreference.DocumentReference.where({"patient.identifier": PATIENT, "status": "current", "_count": "1"}).perform_iter(server))
    ids = [entry.resource.id for page in bundles for entry in page.entry or []]
    check(kept_id in ids, "it is found")
    check(len(set(ids)) == len(ids) == bundles[0].total, "pages hold each document once, as many as the total says")
    say("found by ITI-67", pages=len(bundles))

    data = server.request_data(kept.content[0].attachment.url, headers={"Accept": "application/pdf"})
    check(data == DOCUMENT, "the bytes are the same")
    say("retrieved by ITI-68", bytes=len(data))

    # Imaging only, for one recipient, until a day: PCF's advanced consent.
    given = payload("consent-imaging", patient=owner, title="Consent", data=base64.b64encode(b"I agree.").decode())
    permit = consent.Consent(consent.Consent(given).create(server))
    check(permit.provision.securityLabel[0].code == "imaging", "the consent is for imaging")
    permit = consent.Consent(until_active(lambda: consent.Consent.read(permit.id, server).as_json()))
    permit.status = "inactive"
    permit.update(server)
    check(consent.Consent.read(permit.id, server).status == "inactive", "it is withdrawn")
    say("proposed, was given and withdrew a consent for imaging")

    events = [one.as_json() for one in auditevent.AuditEvent.where({"patient": owner}).perform_resources_iter(server)]
    for code in ("ITI-65", "ITI-67", "ITI-68"):
        check(code in subtypes(events), f"{code} is in the log")
    say("read the log", events=len(events))

    origins = list(provenance.Provenance.where({"target": f"DocumentReference/{kept_id}"}).perform_resources_iter(server))
    check(len(origins) >= 1, "the document's provenance is found")
    say("read the provenance")

    try:
        documentreference.DocumentReference.read("there-is-no-such-document", server)
        check(False, "what is not there is not found")
    except FHIRNotFoundException as error:
        check(error.response.json()["resourceType"] == "OperationOutcome", "404 comes with an OperationOutcome")
    say("was told what was wrong")


run("fhirclient", importlib.metadata.version("fhirclient"), scenario)
