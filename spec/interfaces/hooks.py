"""Hooks of schemathesis: who signs a generated call, and values that a service knows in place of some
that it cannot know, so that calls come as far as the handlers' work. Which is done is counted, not
drawn, so that a seed gives the same calls again."""

import atexit
import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from pathlib import Path

import schemathesis

from calls import Key, Service, Signed, u64
from people import (
    G1,
    ask,
    b64,
    chain_request,
    doctor_applicant,
    doctor_keys,
    hpke_key,
    identity,
    pick_up_keys,
    record,
)

WORLD = Path(os.environ["WILLIS_WORLD"])
world = json.loads(WORLD.read_text())
ROLE = os.environ["WILLIS_ROLE"]
SERVICE = world["services"][ROLE]["name"]
consortium = bytes.fromhex(world["consortium"])
keys = {name: Key(name, bytes.fromhex(seed)) for name, seed in world["keys"].items()}
known = defaultdict(list, world["known"])
owners = world["owners"]
doctors = [name for name in keys if name.startswith("doctor-")]
patients = [name for name in keys if name.startswith("patient-")]
strangers = [name for name in keys if name.startswith("stranger-")]

# Who has the right to a call, by the first pattern that its method and path have.
CALLERS = {
    "centre": [
        (r"/v1/officer/", ["officer"]),
        (r"/v1/directories", ["registered"]),
        (r"", ["registered", *strangers]),
    ],
    "query": [(r"/v1/inbox", patients), (r"/v1/requests|/v1/codes", doctors)],
    "cloud": [(r"/v1/damages", ["institution", *doctors]), (r"", doctors)],
    "hospital": [
        (r"/v1/it/|/v1/damages", ["officer"]),
        (r"PUT /v1/uids|POST /v1/handovers|(GET|DELETE) /v1/receipts", patients),
        (r"GET /v1/(doctors|writer)", ["officer", *doctors, *patients]),
        (r"", doctors),
    ],
    "node": [],
}[ROLE]

# What the segment after a path is, where its name does not say it.
SEGMENTS = [
    (r"/v1/(it/)?doctors/", "doctor"),
    (r"/v1/handovers/", "handover"),
    (r"/v1/inbox/", "inbox request"),
    (r"/v1/requests/", "request"),
    (r"/v1/transactions/|/v1/proofs/", "transaction"),
    (r"/v1/receipts/", "transaction" if ROLE == "node" else "receipt"),
]
NAMES = {
    "replaces": "registered subject",
    "agent": "handle",
    "upload": "upload",
    "subject": "subject",
    "uid": "uid",
    "handle": "handle",
    "address": "address",
    "certificate": "certificate",
}
PLAIN = {
    "birth_date": ["1951-03-08", "2000-02-29"],
    "name": ["Person"],
    "document_kind": ["passport"],
    "document_number": ["X 1"],
    "licence_number": ["L 1"],
    "reason": ["The document is another person's."],
    "institution": [1, 2, 3, 4],
    "version": [1, 2, 3, 4],
    "sealed": ["AAECAwQFBgcICQ=="],
    "position": [0, 1, 2],
}
# A receipt is waited for as long as the caller says: not for long here.
WAIT_MS = 50
# Heights that are final in any case.
HEIGHTS = [0, 1, 2, 5]

counts = Counter()
turns = Counter()
contents = {}
unused_enrolments = []
codes = []


def turn(what):
    """Counts up."""
    turns[what] += 1
    return turns[what]


def one(values, what):
    """The values in turn."""
    return values[turn(what) % len(values)]


def label(case):
    return f"{case.method.upper()} {case.operation.path}"


def kind_of(operation, name):
    if name == "id":
        for pattern, kind in SEGMENTS:
            if re.search(pattern, operation):
                return kind
    if name == "subject" and "make-keys" in operation:
        return "officer's subject"
    if name == "subject" and re.search(r"/approve|/refuse", operation):
        return "waiting subject"
    # The people whom other calls need keep what they have.
    if name == "handle" and operation.startswith("DELETE /v1/inboxes"):
        return "spare handle"
    if name == "uid" and operation.startswith("DELETE /v1/uids"):
        return "spare uid"
    if name == "subject" and "revoke" in operation:
        return "spare subject"
    if name == "doctor":
        return "doctor"
    return NAMES.get(name)


def fill(operation, value):
    """Puts known values into a body, by the names of its fields."""
    if isinstance(value, list):
        for item in value:
            fill(operation, item)
    if not isinstance(value, dict):
        return
    for name, old in value.items():
        if isinstance(old, (dict, list)):
            fill(operation, old)
            continue
        if turn("field") % 4 == 0:
            continue
        kind = kind_of(operation, name)
        if name == "doctor" and isinstance(old, str):
            kind = "doctor key"
        candidates = known[kind] if kind and known[kind] else PLAIN.get(name)
        if candidates and isinstance(old, type(candidates[0])):
            value[name] = one(candidates, name)


def protect(operation, case):
    """The people whom every other call needs are not blocked or revoked."""
    path = case.path_parameters or {}
    if "revoke" in operation and path.get("subject") in known["kept subject"]:
        path["subject"] = one(known["spare subject"], "protect")
    if operation.startswith("POST /v1/it/doctors/") and path.get("id") in known["doctor"]:
        path["id"] = known["spare doctor"][0]


def give_keys(case):
    if not unused_enrolments:
        return None
    key, subject, doctor = unused_enrolments.pop()
    case.path_parameters = {"subject": subject}
    case.body = doctor_keys(consortium, key, subject, doctor, hpke_key())
    return key


def begin(case):
    key = Key(f"new-{turn('new')}")
    keys[key.name] = key
    count = turn("begin")
    if count % 8 == 1:
        case.body = {"applicant": {"patient": identity(count)}}
        return keys["officer"]
    if count % 2 == 0:
        case.body = {"applicant": doctor_applicant(count)}
    if count % 4 == 0:
        # What replaces another certificate is not approved without an officer.
        case.body["replaces"] = one(known["registered subject"], "replaces")
    return key


def enter_doctor(case):
    certificate = one(known["certificate"], "certificate")
    case.body = {"certificate": certificate}
    return keys[owners[f"certificate {certificate}"]]


def put_on_chain(case):
    key = keys[one(doctors, "chain")]
    case.body = chain_request(consortium, key, hashlib.sha256(u64(turn("commitment"))).digest())
    return key


def put_record(case):
    key = keys[one(doctors, "record")]
    hospital = Service(world, "hospital")
    ids = [os.urandom(32).hex() for _ in range(3)]
    given = hospital.call(key, "POST", "/v1/positions", {"ids": ids})["positions"]
    writer_key = bytes.fromhex(hospital.call(key, "GET", "/v1/writer")["key"])
    used = [{"id": id, "position": position} for id, position in zip(ids, given)]
    digest, receipt = one(known["stored"], "stored")
    case.body = record(consortium, key, bytes.fromhex(digest), receipt, writer_key, used)
    return key


def send_request(case):
    """A new request, or one that was sent before, as a client sends it whose answer was lost."""
    certificate = one(known["certificate"], "certificate")
    key = keys[owners[f"certificate {certificate}"]]
    handle = known["handle"][turn("inbox") % len(patients)]
    services = {role: Service(world, role) for role in ("hospital", "query")}
    asked = ask(services, key, certificate, bytes.fromhex(handle))
    case.body = asked["sent"]
    note_owned("request", asked["commitment"], key.name)
    note_owned("inbox request", asked["commitment"], owners[f"handle {handle}"])
    return key


def answer_request(case):
    """A note to the one doctor of a request, with the answer or after it."""
    request = known["inbox request"][-1 - turn("answer") % 4]
    doctor = keys[owners[f"request {request}"]]
    case.path_parameters = {"id": request}
    notes = [{"doctor": doctor.public.hex(), "sealed": b64(os.urandom(258))}]
    case.body = {"notes": notes}
    if "answer" in case.operation.path:
        case.body["answer"] = "answered"
    return keys[owners[f"inbox request {request}"]]


def pick_up(case):
    if not codes:
        return
    subject, code = codes.pop()
    proof, _ = pick_up_keys(consortium, code, subject)
    case.body = {"subject": subject, "proof": proof[:32].hex()}


def note_owned(kind, value, owner):
    known[kind].append(value)
    owners[f"{kind} {value}"] = owner


def package(case):
    """A grant's package (M9) around bytes that are no grant."""
    key = Key("revocation")
    grant = os.urandom(300)
    case.body = len(grant).to_bytes(4, "big") + grant + u64(0) + u64(1 << 41) + key.public
    case.body += bytes([1]) + Key("access").public + os.urandom(64)


def raise_points(case):
    case.body = G1 * (1 + turn("points") % 3)


def ask_positions(case):
    ids = [hashlib.sha256(u64(turn("id"))).hexdigest() for _ in range(1 + turn("ids") % 3)]
    case.body = {"ids": ids}


def begin_upload(case):
    content = bytes([turn("content") % 256]) * (1 + 7 * turn("length"))
    digest = hashlib.sha256(content).hexdigest()
    contents[digest] = content
    case.body = {"digest": digest, "length": len(content)}


def upload_piece(case):
    uploads = [upload for upload in known["upload"] if upload in contents]
    if not uploads:
        return None
    upload = uploads[-1]
    case.path_parameters = {"upload": upload}
    case.headers = {**(case.headers or {}), "Upload-Offset": "0"}
    case.body = contents[upload]
    return keys[owners[f"upload {upload}"]]


def question(case):
    kind = 1 + turn("question") % 7
    body = {
        1: bytes(32),
        2: (1).to_bytes(4, "big"),
        3: bytes(32),
        4: (1).to_bytes(4, "big") + bytes(4) + (2).to_bytes(4, "big") + bytes(32),
        5: u64(turn("epoch") % 2),
        6: b"",
        7: bytes(32),
    }[kind]
    case.query = {"height": one(HEIGHTS, "height")}
    case.body = bytes([kind]) + body


def read_under_access_key(name, parts, is_one_part=False):
    """Makes a message that a reader signs under an access key (M13, M15, M17, M18), of a grant that is
    none. `parts` follow the gid."""

    def make(case):
        key = Key("access")
        texts = [os.urandom(32), *parts()]
        text = b"".join(texts) + key.public
        signed = [text] if is_one_part else texts
        case.body = text + key.sign(b"reading", consortium, name, *signed)

    return make


def revocation(case):
    """The revocation (chain.md, 4.8) of a grant that is none."""
    key = Key("revocation")
    signature = key.sign(b"revocation", consortium, bytes([8]), key.public)
    case.body = bytes([8]) + key.public + signature


RECIPES = {
    # centre
    "POST /v1/enrolments": begin,
    "PUT /v1/enrolments/{subject}/keys": give_keys,
    "POST /v1/pickups": pick_up,
    # query manager
    "POST /v1/inbox/{id}/answer": answer_request,
    "POST /v1/inbox/{id}/note": answer_request,
    # cloud
    "POST /v1/uploads": begin_upload,
    "PATCH /v1/uploads/{upload}": upload_piece,
    # hospital
    "PUT /v1/doctors/self": enter_doctor,
    "POST /v1/raised": raise_points,
    "POST /v1/positions": ask_positions,
    "POST /v1/records": put_record,
    # node
    "POST /v1/questions": question,
    "POST /v1/transactions": revocation,
    "POST /v1/grants": package,
    "POST /v1/grants/read": read_under_access_key(b"grant", lambda: []),
    "POST /v1/searches": read_under_access_key(b"search", lambda: [u64(one(HEIGHTS, "height"))]),
    "POST /v1/containers": read_under_access_key(b"container", lambda: [os.urandom(32), os.urandom(32)]),
    "POST /v1/shares": read_under_access_key(
        b"share", lambda: [os.urandom(64), bytes([1, 0, 0])], is_one_part=True
    ),
}
if ROLE == "hospital":
    RECIPES["POST /v1/requests"] = put_on_chain
if ROLE == "query":
    RECIPES["POST /v1/requests"] = send_request


def caller(operation):
    names = next(names for pattern, names in CALLERS if re.search(pattern, operation))
    return keys[one(names, f"caller {operation}")]


def fill_in(operation, case):
    """Puts known values into path, query and body; gives the key that owns one of them."""
    key = None
    for values in (case.path_parameters or {}, case.query or {}):
        for name in values:
            kind = kind_of(operation, name)
            if known[kind]:
                values[name] = one(known[kind], name)
                key = owner_of(kind, values[name]) or key
    if isinstance(case.body, (dict, list)):
        fill(operation, case.body)
    if isinstance(case.body, dict):
        for kind in ("uid", "handle"):
            key = key or owner_of(kind, case.body.get(kind))
    # An officer decides about others' enrolments, and a doctor writes to another's UID.
    if "/officer/" in operation or operation in ("POST /v1/receipts", "DELETE /v1/uids/{uid}/account"):
        return None
    return key


def owner_of(kind, value):
    return keys.get(owners.get(f"{kind} {value}"))


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = label(case)
    count = turn(operation)
    key = None
    # Of twelve calls four are well formed down to their signatures, six have known values in them, and
    # two are as they were generated.
    if operation in RECIPES and (count % 3 == 0 or operation == "POST /v1/enrolments"):
        key = RECIPES[operation](case)
    elif count % 4:
        key = fill_in(operation, case)
    if operation == "GET /v1/receipts/{id}" and case.query and isinstance(case.query.get("wait"), int):
        case.query["wait"] %= WAIT_MS
    after = str((case.query or {}).get("after", ""))
    if after.isdigit():
        # A node waits for a height that is not final yet: not here.
        case.query["after"] = int(after) % (HEIGHTS[-1] + 1)
    if case.headers and "Range" in case.headers and count % 2:
        case.headers["Range"] = f"bytes={count % 9}-{count % 9 + count}"
    protect(operation, case)
    if case.method.upper() != "GET" and count % 8:
        # Otherwise what was generated, or none.
        case.headers = {**(case.headers or {}), "Idempotency-Key": f"{os.getpid()}-{turn('write')}"}
    if count % 16 == 5 or not CALLERS:
        # Unsigned, or with the header that was generated.
        key = None
    elif count % 16 == 11:
        key = keys[one(strangers, "stranger")]
    else:
        key = key or caller(operation)
    kwargs["auth"] = Signed(consortium, SERVICE, key)


@schemathesis.hook
def after_call(context, case, response):
    operation = label(case)
    counts[f"{operation} {response.status_code}"] += 1
    if response.status_code not in (200, 201, 202):
        return
    signer = re.search(r"key=([0-9a-f]{64})", response.request.headers.get("Authorization", "") or "")
    owner = next((key for key in keys.values() if signer and key.public.hex() == signer[1]), None)
    try:
        answer = response.json()
    except ValueError:
        return
    if isinstance(answer, dict):
        remember(operation, case, answer, owner)


def remember(operation, case, answer, owner):
    """What a service gave is known from here on."""

    def note(kind, value):
        known[kind].append(value)
        if owner is not None:
            owners[f"{kind} {value}"] = owner.name

    if operation == "POST /v1/enrolments":
        note("subject", answer["subject"])
        if owner is keys["officer"]:
            note("officer's subject", answer["subject"])
        else:
            note("spare subject", answer["subject"])
            if owner is not None and answer.get("doctor"):
                unused_enrolments.append((owner, answer["subject"], answer["doctor"]))
    if operation == "PUT /v1/enrolments/{subject}/keys" and answer["state"]["name"] == "waiting":
        known["waiting subject"].append(answer["subject"])
    if operation.endswith("/make-keys"):
        codes.append((case.path_parameters["subject"], answer["code"]))
    if operation == "POST /v1/uploads":
        note("upload", answer["upload"])
        if case.body["digest"] in contents:
            contents[answer["upload"]] = contents[case.body["digest"]]
    if operation == "PATCH /v1/uploads/{upload}" and answer.get("receipt"):
        note("address", answer["address"])
        contents.pop(answer["upload"], None)
    if operation == "POST /v1/uids":
        known["spare uid"].append(answer["uid"])
        known["uid"].append(answer["uid"])
    if operation == "POST /v1/handovers":
        known["handover"].append(answer["id"])
    if operation == "POST /v1/receipts":
        known["receipt"].append(answer["id"])
    if operation in ("POST /v1/requests", "POST /v1/records") and ROLE == "hospital":
        note("transaction", answer["transaction"])
    if operation == "POST /v1/inboxes":
        note("handle", answer["handle"])
        note("spare handle", answer["handle"])


@atexit.register
def tell():
    Path(os.environ["WILLIS_COUNTS"]).write_text(json.dumps(counts))
