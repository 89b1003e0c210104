"""fhirpy publishes a document by ITI-105, finds it page by page, reads it back, and keeps a consent."""

import base64
import importlib.metadata

import requests
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import AuthorizationError, OperationOutcome, ResourceNotFound

from backend import FHIR, PATIENT, bearer, carried, check, encoded, payload, run, say, subtypes, until_active


def scenario():
    try:
        SyncFHIRClient(FHIR).resources("DocumentReference").search(**{"patient.identifier": PATIENT}).fetch()
        check(False, "without a token nothing is found")
    except AuthorizationError:
        say("was refused without a token")

    token = bearer()
    client = SyncFHIRClient(FHIR, authorization=f"Bearer {token}")

    capabilities = client.execute("metadata", method="get")
    check(capabilities["fhirVersion"] == "4.0.1", "the gateway speaks R4")
    say("read the capabilities")

    found = client.resources("Patient").search(identifier=PATIENT).fetch()
    if not found:
        system, _, value = PATIENT.partition("|")
        client.resource("Patient", identifier=[{"system": system, "value": value}], name=[{"family": "Portillo", "given": ["Adán"]}]).save()
        found = client.resources("Patient").search(identifier=PATIENT).fetch()
    check(len(found) == 1, f"{len(found)} patients have the identifier")
    patient = f"Patient/{found[0]['id']}"
    say("found the patient")

    texts = [f"Discharge summary {number}: é 患者\n".encode() for number in range(3)]
    published = []
    for text in texts:
        sent = payload("simplified-publish", patient=patient, contentType="text/plain", title="Discharge summary", **encoded(text))
        kept = client.resource("DocumentReference", **{key: value for key, value in sent.items() if key != "resourceType"}).save()
        check(kept["id"], "the gateway gives an id")
        check(kept["masterIdentifier"]["value"] == sent["masterIdentifier"]["value"], "the unique id stays")
        carried(kept["content"][0]["attachment"], text)
        published.append(kept)
    say("published by ITI-105", documents=len(published))

    # Page by page, by the patient's identifier and by the reference.
    search = client.resources("DocumentReference").search(**{"patient.identifier": PATIENT}, status="current")
    by_identifier = {one["id"] for one in search.limit(1).fetch_all()}
    by_reference = {one["id"] for one in client.resources("DocumentReference").search(patient=patient, status="current").fetch_all()}
    wanted = {one["id"] for one in published}
    check(wanted <= by_identifier, "all are found by the patient's identifier, one a page")
    check(by_reference == by_identifier, "by the reference the same are found")
    check(search.count() == len(by_identifier), "the total is what is found")
    check(not client.resources("DocumentReference").search(patient=patient, status="superseded").fetch(), "none is superseded")
    one = search.search(identifier=f"urn:ietf:rfc:3986|{published[0]['masterIdentifier']['value']}").get()
    check(one["id"] == published[0]["id"], "a document is found by its unique id")
    say("found by ITI-67", pages=len(by_identifier))

    for kept, text in zip(published, texts):
        url = kept["content"][0]["attachment"]["url"]
        native = requests.get(url, headers={"Authorization": f"Bearer {token}", "Accept": "text/plain"}, timeout=60)
        check(native.status_code == 200 and native.content == text, "the bytes are the same")
        check(native.headers["Content-Type"].split(";")[0] == "text/plain", "the media type is the document's")
        binary = client.execute(url[len(FHIR) + 1 :], method="get")
        check(binary["resourceType"] == "Binary" and base64.b64decode(binary["data"]) == text, "in FHIR's form too")
    say("retrieved by ITI-68", documents=len(texts))

    consent = payload("consent-basic", patient=patient, title="Consent", data=base64.b64encode(b"I agree.").decode())
    given = client.resource("Consent", **{key: value for key, value in consent.items() if key != "resourceType"}).save()
    check(given["status"] == "proposed", "the consent is a proposal")
    given = until_active(lambda: client.reference("Consent", given["id"]).to_resource())
    check(given["provision"]["period"]["end"] != consent["provision"]["period"]["end"], "its period is the one that the patient gave")
    check(given["id"] in {each["id"] for each in client.resources("Consent").search(patient=patient, status="active").fetch_all()}, "it is found")
    given["status"] = "inactive"
    given.save()
    check(client.reference("Consent", given["id"]).to_resource()["status"] == "inactive", "it is withdrawn")
    check(given["id"] not in {each["id"] for each in client.resources("Consent").search(patient=patient, status="active").fetch_all()}, "it is active no more")
    say("gave and withdrew a consent")

    events = client.resources("AuditEvent").search(patient=patient).limit(50).fetch_all()
    for wanted_code in ("ITI-105", "ITI-67", "ITI-68"):
        check(wanted_code in subtypes(events), f"{wanted_code} is in the log")
    say("read the log", events=len(events))

    origins = client.resources("Provenance").search(target=f"DocumentReference/{published[0]['id']}").fetch_all()
    check(len(origins) >= 1, "the document's provenance is found")
    say("read the provenance")

    try:
        client.get("DocumentReference", "there-is-no-such-document")
        check(False, "what is not there is not found")
    except ResourceNotFound as error:
        check('"OperationOutcome"' in str(error), "404 comes with an OperationOutcome")
    wrong = payload("simplified-publish", patient=patient, contentType="text/plain", title="x", **encoded(b"x"))
    wrong["status"] = "wrong"
    try:
        client.execute("DocumentReference", data=wrong)
        check(False, "a wrong document is refused")
    except OperationOutcome as error:
        check(error.resource["issue"][0]["severity"] in ("error", "fatal"), "it is said what is wrong")
    say("was told what was wrong")


run("fhirpy", importlib.metadata.version("fhirpy"), scenario)
