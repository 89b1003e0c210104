"""People for whom the services' handlers do more than refuse: doctors with certificates in force,
patients with UIDs and inboxes, a container, requests on their way. All of it is made by the services'
own interfaces; what is computed here follows spec/scheme.md, spec/chain.md and spec/formats.md."""

import base64
import hashlib
import hmac
import os
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from calls import Key, Service, enc, u64

INSTITUTION = 1
DOCTORS = 4
PATIENTS = 4
# Small numbers are what a fuzzer tries first: the enrolments that the checks need come after these.
SPARE_ENROLMENTS = 24
SETTLED_SECONDS = 60
# The generators (spec/scheme.md, 1.3), points like any others.
G1 = bytes.fromhex(
    "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
)
G2 = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)


def b64(data):
    return base64.b64encode(data).decode()


def hpke_key():
    """A public key whose private one nobody keeps: nothing sealed here is ever opened."""
    return X25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def identity(number):
    return {
        "name": f"Person {number}",
        "birth_date": "1951-03-08",
        "document_kind": "passport",
        "document_number": f"X {number}",
    }


def doctor_applicant(number):
    return {
        "doctor": {
            "identity": identity(number),
            "licence_number": f"L {number}",
            "institution": INSTITUTION,
        }
    }


def doctor_keys(consortium, key, subject, doctor, hpke):
    """The body that gives a doctor's keys, with the proof of formats.md, M2."""
    text = enc(b"doctor", u64(subject), u64(doctor), u64(INSTITUTION), key.public, hpke)
    proof = key.sign(b"certificate", consortium, text)
    return {"doctor": {"hpke": hpke.hex(), "proof": proof.hex()}}


def chain_request(consortium, key, commitment):
    """What a doctor signs for the chain (chain.md, 4.5), and the signature (C8)."""
    body = commitment + key.public + INSTITUTION.to_bytes(4, "big") + u64(int(time.time() * 1000))
    signature = key.sign(b"transaction", consortium, bytes([5]), body)
    return {"statement": b64(body), "signature": signature.hex()}


def record(consortium, key, digest, receipt, writer_key, positions):
    """A record for the chain (chain.md, 4.4), whose index is random: it is well formed and finds nothing."""
    header, locator = os.urandom(32), os.urandom(80)
    entries = b"".join(sorted(os.urandom(32) for _ in range(8)))
    now = int(time.time() * 1000)
    parts = [digest, header, G2, locator, entries, writer_key, key.public]
    signature = key.sign(b"record", consortium, *parts, u64(INSTITUTION), u64(now))
    text = digest + header + G2 + locator + (8).to_bytes(4, "big") + entries + writer_key
    text += key.public + INSTITUTION.to_bytes(4, "big") + u64(now)
    return {
        "statement": b64(text),
        "signature": signature.hex(),
        "positions": positions,
        "receipt": receipt,
    }


def request_to_read(consortium, key, certificate, handle, salt):
    """A request (formats.md, M5) of one doctor with one access key, for an inbox (E12)."""
    inbox = hashlib.sha256(enc(b"WILLIS-V1-INBOX-COMMITMENT", consortium, handle, salt)).digest()
    now = int(time.time() * 1000)
    purpose = b"stroke unit"
    text = bytes([1]) + INSTITUTION.to_bytes(4, "big") + inbox + bytes([2, 4, 5])
    text += len(purpose).to_bytes(4, "big") + purpose + os.urandom(32)
    text += u64(now) + u64(now + 3_600_000) + bytes([1])
    text += len(certificate).to_bytes(4, "big") + certificate + hpke_key()
    text += bytes([1]) + Key("access").public
    return text + key.sign(b"request", consortium, text)


def account_of(consortium, code, subject, sealed):
    """The account key of a patient whose keys the centre made, from the pick-up (E35)."""
    keys, binding = pick_up_keys(consortium, code, subject)
    seed = AESGCM(keys[32:]).decrypt(sealed[:12], sealed[12:], binding)
    extracted = hmac.new(b"willis/v1/seed", seed, hashlib.sha256).digest()
    info = enc(b"WILLIS-V1-ACCOUNTS", consortium, u64(0))
    accounts = HKDFExpand(hashes.SHA256(), 32, info).derive(extracted)
    text = enc(b"WILLIS-V1-SERVICE-KEY", consortium, b"centre")
    return Key("registered", hmac.new(accounts, text, hashlib.sha256).digest())


def pick_up_keys(consortium, code, subject):
    binding = enc(b"willis/v1/pick-up", consortium, u64(subject))
    salt = hashlib.sha256(binding).digest()[:16]
    stretched = Argon2id(salt=salt, length=64, iterations=3, lanes=1, memory_cost=64 * 1024)
    return stretched.derive(code.replace("-", "").encode()), binding


class People:
    """Makes them, and notes their keys and what the services gave them."""

    def __init__(self, world, keys):
        self.world = world
        self.consortium = bytes.fromhex(world["consortium"])
        self.keys = keys
        self.known = {}
        self.owners = {}
        self.certificates = []
        self.services = {role: Service(world, role) for role in world["services"]}

    def note(self, kind, value, owner=None):
        self.known.setdefault(kind, []).append(value)
        if owner is not None:
            self.owners[f"{kind} {value}"] = owner.name

    def key(self, name, seed=None):
        self.keys[name] = Key(name, seed)
        return self.keys[name]

    def make(self):
        for number in range(4):
            self.key(f"stranger-{number}")
        for number in range(SPARE_ENROLMENTS):
            self.spare_enrolment(number)
        doctors = [self.doctor(number) for number in range(DOCTORS)]
        for key, subject, doctor in doctors:
            self.enter(key, subject, doctor)
        patients = [self.patient(number, doctors[0][0]) for number in range(PATIENTS)]
        self.registered_patient()
        self.mail(doctors, patients)
        self.container(doctors[0][0])
        for number in range(2 * DOCTORS):
            patient, _, handle = patients[number % PATIENTS]
            doctor, certificate = doctors[number % DOCTORS][0], self.certificates[number % DOCTORS]
            asked = ask(self.services, doctor, certificate, handle)
            self.note("transaction", asked["transaction"], doctor)
            self.note("request", asked["commitment"], doctor)
            self.note("inbox request", asked["commitment"], patient)

    def spare_enrolment(self, number):
        key = self.key(f"spare-{number}")
        begun = self.services["centre"].call(
            key, "POST", "/v1/enrolments", {"applicant": doctor_applicant(number)}
        )
        self.note("subject", begun["subject"], key)
        self.note("spare subject", begun["subject"], key)
        if number % 2:
            keys = doctor_keys(self.consortium, key, begun["subject"], begun["doctor"], hpke_key())
            self.services["centre"].call(key, "PUT", f"/v1/enrolments/{begun['subject']}/keys", keys)
            self.note("registered subject", begun["subject"])

    def doctor(self, number):
        key = self.key(f"doctor-{number}")
        centre = self.services["centre"]
        begun = centre.call(key, "POST", "/v1/enrolments", {"applicant": doctor_applicant(number)})
        subject, doctor = begun["subject"], begun["doctor"]
        keys = doctor_keys(self.consortium, key, subject, doctor, hpke_key())
        centre.call(key, "PUT", f"/v1/enrolments/{subject}/keys", keys)
        self.note("subject", subject, key)
        self.note("kept subject", subject)
        self.note("doctor", doctor)
        self.note("doctor key", key.public.hex())
        if number + 1 == DOCTORS:
            self.note("spare doctor", doctor)
        return key, subject, doctor

    def settled(self, key, subject):
        end = time.monotonic() + SETTLED_SECONDS
        while time.monotonic() < end:
            status = self.services["centre"].call(key, "GET", f"/v1/enrolments/{subject}")
            if status["state"]["name"] == "registered":
                return status["state"]["certificate"]
            time.sleep(0.2)
        raise SystemExit(f"enrolment {subject} is not registered after {SETTLED_SECONDS} s: {status}")

    def enter(self, key, subject, doctor):
        certificate = self.settled(key, subject)
        self.services["hospital"].call(key, "PUT", "/v1/doctors/self", {"certificate": certificate})
        self.note("certificate", certificate, key)
        self.certificates.append(certificate)

    def patient(self, number, doctor):
        key = self.key(f"patient-{number}")
        uid = self.services["hospital"].call(doctor, "POST", "/v1/uids")["uid"]
        self.services["hospital"].call(key, "PUT", f"/v1/uids/{uid}/account")
        handle = os.urandom(16)
        inbox = {"handle": handle.hex(), "key": hpke_key().hex()}
        self.services["query"].call(key, "POST", "/v1/inboxes", inbox)
        self.note("uid", uid, key)
        self.note("handle", handle.hex(), key)
        return key, uid, handle

    def registered_patient(self):
        """A patient whose keys the centre made: without pairings, the one way to a certificate here."""
        officer, centre = self.keys["officer"], self.services["centre"]
        begun = centre.call(officer, "POST", "/v1/enrolments", {"applicant": {"patient": identity(0)}})
        subject = begun["subject"]
        made = centre.call(officer, "POST", f"/v1/officer/enrolments/{subject}/make-keys", {})
        end = time.monotonic() + SETTLED_SECONDS
        while True:
            detail = centre.call(officer, "GET", f"/v1/officer/enrolments/{subject}")
            if detail["state"]["name"] == "registered":
                break
            if time.monotonic() > end:
                raise SystemExit(f"enrolment {subject} is not registered: {detail['state']}")
            time.sleep(0.2)
        keys, _ = pick_up_keys(self.consortium, made["code"], subject)
        pick_up = {"subject": subject, "proof": keys[:32].hex()}
        sealed = base64.b64decode(centre.call(None, "POST", "/v1/pickups", pick_up)["sealed"])
        key = account_of(self.consortium, made["code"], subject, sealed)
        self.keys[key.name] = key
        directory = {"version": 1, "encrypted": b64(b"directory")}
        centre.call(key, "PUT", "/v1/directories", directory)
        self.note("subject", subject, key)
        self.note("kept subject", subject)

    def mail(self, doctors, patients):
        hospital = self.services["hospital"]
        for number, (key, uid, _) in enumerate(patients):
            doctor_key, _, doctor = doctors[number % DOCTORS]
            for _ in range(3):
                letter = {"uid": uid, "doctor": doctor, "sealed": b64(os.urandom(200))}
                self.note("handover", hospital.call(key, "POST", "/v1/handovers", letter)["id"], doctor_key)
                letter = {"uid": uid, "sealed": b64(os.urandom(128))}
                left = hospital.call(doctor_key, "POST", "/v1/receipts", letter)
                self.note("receipt", left["id"], key)

    def container(self, key):
        cloud = self.services["cloud"]
        content = os.urandom(3000)
        new = {"digest": hashlib.sha256(content).hexdigest(), "length": len(content)}
        begun = cloud.call(key, "POST", "/v1/uploads", new)
        kind = {"Upload-Offset": "0", "Content-Type": "application/octet-stream"}
        done = cloud.call(key, "PATCH", f"/v1/uploads/{begun['upload']}", data=content, headers=kind)
        self.note("upload", begun["upload"], key)
        self.note("address", begun["address"])
        self.note("stored", [new["digest"], done["receipt"]])


def ask(services, key, certificate, handle):
    """Puts a request on the chain and sends it on its way to an inbox."""
    consortium = bytes.fromhex(services["hospital"].world["consortium"])
    salt = os.urandom(16)
    request = request_to_read(consortium, key, base64.b64decode(certificate), handle, salt)
    commitment = hashlib.sha256(request).digest()
    on_chain = chain_request(consortium, key, commitment)
    taken = services["hospital"].call(key, "POST", "/v1/requests", on_chain)
    sent = {"request": b64(request), "handle": handle.hex(), "salt": salt.hex()}
    services["query"].call(key, "POST", "/v1/requests", sent)
    return {"transaction": taken["transaction"], "commitment": commitment.hex(), "sent": sent}
