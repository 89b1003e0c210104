// That the peers send what is right: a gateway that refused it would be right.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { encoded, payload } from "./backend.mjs";
import { Validators } from "../validate/validators.mjs";

const validators = new Validators();
after(() => validators.close());

const values = { patient: "Patient/p", title: 'A "title"', contentType: "text/plain", ...encoded("Hello"), document: "DocumentReference/d" };
const provided = { ...values, document: "urn:uuid:0c287d32-01e3-4d87-9953-9fcc9404eb21" };
const sent = {
  "simplified-publish": values,
  "provide-minimal": provided,
  "provide-comprehensive": { ...provided, binary: "Binary/b" },
  "consent-basic": values,
  "consent-imaging": values,
};

for (const [name, filled] of Object.entries(sent)) {
  test(`${name} is valid and conforms to its profile`, async () => {
    const resource = payload(name, filled);
    assert.ok(resource.meta.profile[0].startsWith("https://profiles.ihe.net/"));
    assert.deepEqual(await validators.check(resource), { problems: [], unchecked: [] });
  });
}
