// All that a resource is asked: base R4, the profiles that it declares or that its place asks for, and of an audit
// event the profile of what it records.
import { balp } from "./audit.mjs";
import { Profiles } from "./profile.mjs";
import { R4 } from "./r4.mjs";

export class Validators {
  profiles = Profiles.shipped();
  #r4 = new R4();

  /** Problems and what could not be checked, of a resource and of all resources in it; `asked` names further profiles. */
  async check(resource, asked = []) {
    const problems = await this.#r4.validate(resource);
    const unchecked = [];
    for (const one of all(resource)) {
      const said = this.profiles.declared(one, resource.resourceType === "Bundle" ? resource : undefined);
      problems.push(...said.problems);
      unchecked.push(...said.unchecked);
      if (one.resourceType === "AuditEvent") problems.push(...balp(this.profiles, one));
    }
    for (const url of asked) {
      const said = this.profiles.check(resource, url);
      problems.push(...said.problems.map((line) => `${line} [${url.split("/").pop()}]`));
      unchecked.push(...said.unchecked);
    }
    return { problems: [...new Set(problems)], unchecked: [...new Set(unchecked)] };
  }

  async close() {
    await this.#r4.close();
  }
}

/** A resource, and those that stand in its entries, in theirs, and so on. */
export function all(resource) {
  const inner = resource.resourceType === "Bundle" ? (resource.entry ?? []).map((entry) => entry.resource).filter(Boolean) : [];
  return [resource, ...inner.flatMap(all)];
}
