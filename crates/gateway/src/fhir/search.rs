//! Searching: which parameters a search has, what they match (FHIR R4, section 3.1.1), and pages that
//! stay right when resources come and go between them.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

use super::outcome::Refused;

/// Parameters of one search.
const PARAMETERS_MAX: usize = 64;
/// Alternatives of one parameter, separated by commas.
const ALTERNATIVES_MAX: usize = 64;
/// Resources of a page unless the asker says otherwise.
const COUNT: usize = 50;
/// Resources of a page at most: at about 4 KiB each, 800 KiB.
const COUNT_MAX: usize = 200;

/// Parameters of every search that say how an answer is written, and not what is in it. Of all others that
/// begin with `_` only those are taken that a type knows.
const OF_ANSWERS: [&str; 5] = ["_elements", "_format", "_pretty", "_total", "_totalMethod"];
/// What can be asked for by `_summary`; but for the count, whole resources are answered.
const SUMMARIES: [&str; 5] = ["count", "data", "false", "text", "true"];
/// Parameters handled by the caller that can stand together; of the others one alone says what is meant.
const TOGETHER: [&str; 2] = ["_id", "identifier"];
/// Parameters handled by the caller that are references to a patient.
const TO_PATIENTS: [&str; 2] = ["patient", "subject"];
/// From the year 0 until 1970, in ms: 719,528 days.
const YEAR_0: i128 = 719_528 * 86_400_000;

/// How the values of a parameter are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Codes and identifiers: `system|code`, `|code`, `code`, `system|`.
    Token,
    /// Moments, with a prefix.
    Date,
    /// The begin of a text, without regard to case; with `:exact` all of it, with regard to case.
    Text,
    /// `Type/id`, an address, or an id.
    Reference,
    /// A URI, exactly.
    Uri,
}

/// A parameter that a resource type can be searched by, and where its values stand: paths of members,
/// any of which may be arrays. `author>Practitioner` are the contained resources of this type that the
/// references of `author` name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    pub(crate) paths: &'static [&'static str],
}

/// A parameter that filters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    name: String,
    modifier: Option<String>,
    value: String,
}

/// What a search asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// In the asker's order.
    filters: Vec<Filter>,
    pub(crate) count: usize,
    /// Where the page begins: behind this place.
    pub(crate) after: Option<Place>,
    pub(crate) newest_first: bool,
    /// Where the moment stands by which resources are sorted; none for when they were entered.
    sorted_by: Option<&'static [&'static str]>,
    /// Only the number of matches is wanted.
    pub(crate) total_only: bool,
}

/// The place of a resource in the order of a search: when it was entered, or the moment by which the search
/// sorts, and its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) time: u64,
    pub(crate) id: String,
}

impl Query {
    /// Reads the parameters of a search of a type that knows these; `own` are handled by the caller.
    ///
    /// # Errors
    /// [`Refused`], 400, for a parameter that is not known: a filter that is passed over would show more
    /// than was asked for.
    pub(crate) fn read(
        pairs: &[(String, String)],
        known: &[Parameter],
        own: &[&str],
    ) -> Result<Self, Refused> {
        let mut query = Self {
            count: COUNT,
            newest_first: true,
            ..Self::default()
        };
        if pairs.len() > PARAMETERS_MAX {
            return Err(Refused::invalid(
                "a search has at most 64 parameters; leave some out",
            ));
        }
        let once = ["_count", "_page", "_sort", "_summary"];
        for (name, value) in pairs {
            let again = pairs.iter().filter(|(other, _)| other == name).count() > 1;
            if again && (once.contains(&name.as_str()) || own.contains(&bare(name))) {
                return Err(Refused::invalid(format!(
                    "{name} stands twice; give it once"
                )));
            }
            match name.as_str() {
                "_summary" if SUMMARIES.contains(&value.as_str()) => {
                    query.total_only |= value == "count";
                }
                "_count" => {
                    let count: usize = value.parse().map_err(|_| {
                        Refused::invalid("_count is no number; give one from 0 to 200")
                    })?;
                    query.total_only |= count == 0;
                    query.count = count.clamp(1, COUNT_MAX);
                }
                "_sort" => {
                    let (key, newest_first) = match value.strip_prefix('-') {
                        Some(key) => (key, true),
                        None => (value.as_str(), false),
                    };
                    query.newest_first = newest_first;
                    let date = known.iter().find(|one| one.name == "date");
                    query.sorted_by = match (key, date) {
                        ("_lastUpdated", _) => Some(&["meta.lastUpdated"]),
                        ("date", Some(date)) => Some(date.paths),
                        _ => {
                            return Err(Refused::invalid(
                                "the order can be _lastUpdated or -_lastUpdated and, of types that have a date, date or -date; give one of them",
                            ));
                        }
                    };
                }
                "_page" => query.after = Some(Place::read(value)?),
                _ if OF_ANSWERS.contains(&name.as_str()) => {}
                // Resources inside others are not searched for, which is what FHIR has it be without this.
                "_contained" if value == "false" => {}
                _ => query.filters.push(filter(name, value, known, own)?),
            }
        }
        let named = query.filters.iter().map(|one| one.name.as_str());
        let named: Vec<&str> = named.filter(|name| own.contains(name)).collect();
        if named.len() > 1 && !named.iter().all(|name| TOGETHER.contains(name)) {
            return Err(Refused::invalid(format!(
                "{} are different ways to say what is meant; give one of them",
                named.join(" and ")
            )));
        }
        Ok(query)
    }

    /// The value of a parameter that the caller handles; none if it is not given.
    pub(crate) fn own(&self, name: &str) -> Option<&str> {
        let mut filters = self.filters.iter();
        filters
            .find(|filter| filter.name == name)
            .map(|filter| filter.value.as_str())
    }

    /// Whether a resource matches every filter that `known` has: all of them, and of each one of its
    /// alternatives.
    ///
    /// # Errors
    /// [`Refused`] if a value cannot be one of its parameter.
    pub(crate) fn matches(&self, resource: &Value, known: &[Parameter]) -> Result<bool, Refused> {
        for filter in &self.filters {
            let Some(parameter) = known.iter().find(|one| one.name == filter.name) else {
                continue;
            };
            let found = gathered(resource, parameter.paths);
            let mut any = false;
            for alternative in filter.value.split(',') {
                let wanted = Wanted::read(parameter, filter.modifier.as_deref(), alternative)?;
                any |= found.iter().any(|value| wanted.is(value));
            }
            if !any {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One page of the matches. They are in any order; the page is cut by their places, so that what is
    /// entered or ends meanwhile moves no border.
    pub(crate) fn page(&self, mut matches: Vec<(Place, Value)>) -> Page {
        let total = matches.len();
        if let Some(paths) = self.sorted_by {
            for (place, resource) in &mut matches {
                place.time = moment(resource, paths);
            }
        }
        matches.sort_by(|(a, _), (b, _)| {
            if self.newest_first {
                b.cmp(a)
            } else {
                a.cmp(b)
            }
        });
        if let Some(after) = &self.after {
            matches.retain(|(place, _)| {
                if self.newest_first {
                    place < after
                } else {
                    place > after
                }
            });
        }
        if self.total_only {
            matches.clear();
        }
        let more = matches.len() > self.count;
        matches.truncate(self.count);
        let next = matches
            .last()
            .filter(|_| more)
            .map(|(place, _)| place.clone());
        Page {
            total,
            next,
            resources: matches.into_iter().map(|(_, resource)| resource).collect(),
        }
    }
}

/// The name of a parameter without its modifier.
fn bare(name: &str) -> &str {
    name.split(':').next().unwrap_or_default()
}

/// A parameter that filters, with a modifier that its rule has and a value that can be one of its.
fn filter(name: &str, value: &str, known: &[Parameter], own: &[&str]) -> Result<Filter, Refused> {
    let (bare, modifier) = match name.split_once(':') {
        Some((bare, modifier)) => (bare, Some(modifier)),
        None => (name, None),
    };
    let parameter = known.iter().find(|one| one.name == bare);
    let is_own = own.contains(&bare);
    let modified = match (modifier, parameter.map(|one| one.rule)) {
        (None, _) => true,
        (Some("exact"), Some(Rule::Text)) => true,
        (Some("Patient"), Some(Rule::Reference)) => true,
        (Some("Patient"), None) => TO_PATIENTS.contains(&bare),
        _ => false,
    };
    if !modified || parameter.is_none() && !is_own {
        return Err(Refused::invalid(format!(
            "{name} with this value is no parameter of this search; leave it out, or look into the CapabilityStatement"
        )));
    }
    if value.split(',').any(str::is_empty) {
        return Err(Refused::invalid(format!(
            "{name} has no value, or an empty one; give one, or leave it out"
        )));
    }
    let alternatives = value.split(',').count();
    if is_own && parameter.is_none() && alternatives > 1 {
        return Err(Refused::invalid(format!(
            "{name} has alternatives; ask for each of them by a search of its own"
        )));
    }
    if alternatives > ALTERNATIVES_MAX {
        return Err(Refused::invalid(format!(
            "{name} has more than 64 alternatives; ask twice"
        )));
    }
    if let Some(parameter) = parameter {
        for alternative in value.split(',') {
            Wanted::read(parameter, modifier, alternative)?;
        }
    }
    Ok(Filter {
        name: bare.to_owned(),
        modifier: modifier.map(str::to_owned),
        value: value.to_owned(),
    })
}

/// When a resource's moment begins, in ms since the year 0; 0 of one that has none, which so is the oldest.
fn moment(resource: &Value, paths: &[&str]) -> u64 {
    let found = gathered(resource, paths);
    let begin = found.iter().find_map(|value| span_of_value(value));
    let ms = begin.map_or(0, |(begin, _)| begin / 1_000_000 + YEAR_0);
    u64::try_from(ms).unwrap_or(0)
}

impl Place {
    fn write(&self) -> String {
        format!("{}.{}", self.time, self.id)
    }

    fn read(text: &str) -> Result<Self, Refused> {
        let wrong =
            || Refused::invalid("_page is none of this server's; follow the links that it gives");
        let (time, id) = text.split_once('.').ok_or_else(wrong)?;
        Ok(Self {
            time: time.parse().map_err(|_| wrong())?,
            id: id.to_owned(),
        })
    }
}

/// A page of a search.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Page {
    /// All matches that the asker may see, on every page.
    pub(crate) total: usize,
    pub(crate) next: Option<Place>,
    pub(crate) resources: Vec<Value>,
}

impl Page {
    /// The searchset. `base` is the facade's address, `kind` the resource type that was searched for,
    /// `pairs` what was asked, and `outcome` what else the asker has to know.
    pub(crate) fn bundle(
        self,
        base: &str,
        kind: &str,
        pairs: &[(String, String)],
        outcome: Option<Value>,
    ) -> Value {
        let address = |page: Option<&Place>| {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in pairs.iter().filter(|(name, _)| name != "_page") {
                query.append_pair(name, value);
            }
            if let Some(page) = page {
                query.append_pair("_page", &page.write());
            }
            match query.finish() {
                query if query.is_empty() => format!("{base}/{kind}"),
                query => format!("{base}/{kind}?{query}"),
            }
        };
        let mut own = pairs.iter().filter(|(name, _)| name == "_page");
        let here = own.next().and_then(|(_, page)| Place::read(page).ok());
        let mut links = vec![json!({ "relation": "self", "url": address(here.as_ref()) })];
        if let Some(next) = &self.next {
            links.push(json!({ "relation": "next", "url": address(Some(next)) }));
        }
        let entry = |resource: Value| {
            let full = match (resource["resourceType"].as_str(), resource["id"].as_str()) {
                (Some(kind), Some(id)) => format!("{base}/{kind}/{id}"),
                _ => String::new(),
            };
            json!({ "fullUrl": full, "resource": resource, "search": { "mode": "match" } })
        };
        let mut entries: Vec<Value> = self.resources.into_iter().map(entry).collect();
        entries.extend(
            outcome.map(|outcome| json!({ "resource": outcome, "search": { "mode": "outcome" } })),
        );
        let mut bundle = json!({
            "resourceType": "Bundle",
            "type": "searchset",
            "total": self.total,
            "link": links,
        });
        // An empty array is no JSON of FHIR.
        if !entries.is_empty() {
            bundle["entry"] = entries.into();
        }
        bundle
    }
}

/// Every value at these paths of a resource.
fn gathered<'a>(resource: &'a Value, paths: &[&str]) -> Vec<&'a Value> {
    let mut found = Vec::new();
    for path in paths {
        gather(resource, resource, path, &mut found);
    }
    found
}

/// Every value at a path of members; arrays on the way are looked through.
fn gather<'a>(resource: &'a Value, value: &'a Value, path: &str, found: &mut Vec<&'a Value>) {
    if let Value::Array(values) = value {
        for value in values {
            gather(resource, value, path, found);
        }
        return;
    }
    if path.is_empty() {
        if !value.is_null() {
            found.push(value);
        }
        return;
    }
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some((member, kind)) = step.split_once('>') else {
        return gather(resource, &value[step], rest, found);
    };
    let mut references = Vec::new();
    gather(resource, &value[member], "reference", &mut references);
    for reference in references {
        let Some(id) = reference.as_str().and_then(|text| text.strip_prefix('#')) else {
            continue;
        };
        let contained = resource["contained"].as_array().into_iter().flatten();
        let named = contained.filter(|one| one["id"] == id && one["resourceType"] == kind);
        // A path has few steps, so that resources that name each other lead nowhere.
        for one in named {
            gather(resource, one, rest, found);
        }
    }
}

/// A value that is searched for.
enum Wanted<'a> {
    Token {
        system: Option<&'a str>,
        code: &'a str,
    },
    Date {
        prefix: &'a str,
        from: i128,
        until: i128,
    },
    Text(String),
    /// All of a text, as it is.
    Exactly(&'a str),
    /// A reference, and the type that it must be to.
    Reference(&'a str, Option<&'a str>),
    Uri(&'a str),
}

impl<'a> Wanted<'a> {
    fn read(
        parameter: &Parameter,
        modifier: Option<&'a str>,
        text: &'a str,
    ) -> Result<Self, Refused> {
        Ok(match parameter.rule {
            // It would be found in everything that has any code.
            Rule::Token if text == "|" => {
                return Err(Refused::invalid(format!(
                    "{} has neither a system nor a code; give one",
                    parameter.name
                )));
            }
            Rule::Token => match text.split_once('|') {
                Some((system, code)) => Self::Token {
                    system: Some(system),
                    code,
                },
                None => Self::Token {
                    system: None,
                    code: text,
                },
            },
            Rule::Date => {
                let split = text.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
                let (prefix, date) = text.split_at(split);
                let known = ["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"];
                let span = span_of(date).filter(|_| known.contains(&prefix));
                let Some((from, until)) = span else {
                    return Err(Refused::invalid(format!(
                        "{} is no date; write it like ge2026-11-27 or 2026-11-27T08:00:00Z",
                        parameter.name
                    )));
                };
                Self::Date {
                    prefix,
                    from,
                    until,
                }
            }
            Rule::Text if modifier == Some("exact") => Self::Exactly(text),
            Rule::Text => Self::Text(text.to_lowercase()),
            Rule::Reference => Self::Reference(text, modifier),
            Rule::Uri => Self::Uri(text),
        })
    }

    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Token { system, code } => is_token(value, *system, code),
            Self::Date {
                prefix,
                from,
                until,
            } => {
                let Some((begin, end)) = span_of_value(value) else {
                    return false;
                };
                match *prefix {
                    "ne" => begin < *from || end > *until,
                    "sa" => begin >= *until,
                    "gt" => end > *until,
                    "lt" => begin < *from,
                    "ge" => end > *from,
                    "le" => begin < *until,
                    "eb" => end <= *from,
                    "ap" => begin < *until && end > *from,
                    _ => begin >= *from && end <= *until,
                }
            }
            Self::Text(text) => {
                let own = value.as_str();
                own.is_some_and(|own| own.to_lowercase().starts_with(text))
            }
            Self::Exactly(text) => value.as_str() == Some(text),
            Self::Reference(wanted, kind) => {
                let own = value["reference"].as_str().or(value.as_str());
                own.is_some_and(|own| {
                    let same_end = |whole: &str, end: &str| {
                        whole
                            .strip_suffix(end)
                            .is_some_and(|rest| rest.ends_with('/'))
                    };
                    let of_kind = kind.is_none_or(|kind| {
                        let before = own.rsplit('/').nth(1).or(value["type"].as_str());
                        before == Some(kind)
                    });
                    of_kind && (own == *wanted || same_end(own, wanted) || same_end(wanted, own))
                })
            }
            Self::Uri(wanted) => value.as_str() == Some(wanted),
        }
    }
}

/// Whether a coding, a concept, an identifier or a plain code is what was asked for.
fn is_token(value: &Value, system: Option<&str>, code: &str) -> bool {
    match value {
        // A code without a system is looked for in the set that its element has.
        Value::String(own) => code.is_empty() || own == code,
        Value::Bool(own) => code == own.to_string(),
        Value::Object(_) => {
            if let Value::Array(codings) = &value["coding"] {
                return codings.iter().any(|coding| is_token(coding, system, code));
            }
            let own = value["code"].as_str().or(value["value"].as_str());
            let same_system = match (system, value["system"].as_str()) {
                (None, _) => true,
                (Some(""), own) => own.is_none(),
                (Some(system), own) => own == Some(system),
            };
            same_system && (code.is_empty() || own == Some(code))
        }
        _ => false,
    }
}

/// From when until when a date, a moment or a period lasts, in ns since 1970; the end is outside.
fn span_of_value(value: &Value) -> Option<(i128, i128)> {
    if let Value::String(text) = value {
        return span_of(text);
    }
    let begin = value["start"]
        .as_str()
        .map(|text| span_of(text).map(|(from, _)| from));
    let end = value["end"]
        .as_str()
        .map(|text| span_of(text).map(|(_, until)| until));
    if begin.is_none() && end.is_none() {
        return None;
    }
    Some((
        begin.unwrap_or(Some(i128::MIN))?,
        end.unwrap_or(Some(i128::MAX))?,
    ))
}

/// From when until when a date or moment of FHIR lasts, in ns since 1970. Without a zone it is UTC.
pub(crate) fn span_of(text: &str) -> Option<(i128, i128)> {
    const SECOND: i128 = 1_000_000_000;
    if let Some((date, time)) = text.split_once('T') {
        let with_zone = time.ends_with('Z') || time.contains(['+', '-']);
        let short = time.len() < 8 || time.as_bytes().get(5) != Some(&b':');
        let whole = match (with_zone, short) {
            (true, false) => text.to_owned(),
            (false, false) => format!("{text}Z"),
            // Minutes without seconds, which searches may have.
            (true, true) => format!("{date}T{}:00{}", time.get(..5)?, time.get(5..)?),
            (false, true) => format!("{text}:00Z"),
        };
        let moment = OffsetDateTime::parse(&whole, &Rfc3339).ok()?;
        let begin = moment.unix_timestamp_nanos();
        let length = match (short, moment.nanosecond()) {
            (true, _) => 60 * SECOND,
            (false, 0) if !time.contains('.') => SECOND,
            _ => 1_000_000,
        };
        return Some((begin, begin + length));
    }
    let mut parts = text.split('-');
    let year: i32 = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    let month: Option<u8> = parts.next().map(str::parse).transpose().ok()?;
    let day: Option<u8> = parts.next().map(str::parse).transpose().ok()?;
    if parts.next().is_some() {
        return None;
    }
    let date = |year: i32, month: u8, day: u8| {
        let month = time::Month::try_from(month).ok()?;
        Date::from_calendar_date(year, month, day).ok()
    };
    let begin = date(year, month.unwrap_or(1), day.unwrap_or(1))?;
    let end = match (month, day) {
        (None, _) => date(year + 1, 1, 1)?,
        (Some(12), None) => date(year + 1, 1, 1)?,
        (Some(month), None) => date(year, month + 1, 1)?,
        (Some(_), Some(_)) => begin.next_day()?,
    };
    let nanos = |date: Date| {
        PrimitiveDateTime::new(date, Time::MIDNIGHT)
            .assume_utc()
            .unix_timestamp_nanos()
    };
    Some((nanos(begin), nanos(end)))
}

/// A moment in ms since 1970 as FHIR's instant.
pub(crate) fn instant(ms: u64) -> String {
    let nanos = i128::from(ms) * 1_000_000;
    let moment =
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment
        .format(&Rfc3339)
        .unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Parameter] = &[
        Parameter {
            name: "status",
            rule: Rule::Token,
            paths: &["status"],
        },
        Parameter {
            name: "type",
            rule: Rule::Token,
            paths: &["type"],
        },
        Parameter {
            name: "identifier",
            rule: Rule::Token,
            paths: &["masterIdentifier", "identifier"],
        },
        Parameter {
            name: "date",
            rule: Rule::Date,
            paths: &["date"],
        },
        Parameter {
            name: "period",
            rule: Rule::Date,
            paths: &["context.period"],
        },
        Parameter {
            name: "patient",
            rule: Rule::Reference,
            paths: &["subject"],
        },
        Parameter {
            name: "author.family",
            rule: Rule::Text,
            paths: &[
                "author>Practitioner.name.family",
                "author>PractitionerRole.practitioner>Practitioner.name.family",
            ],
        },
    ];
    const OWN: &[&str] = &["patient.identifier", "subject", "identifier"];

    fn found(resource: &Value, name: &str, value: &str) -> bool {
        let pairs = [(name.to_owned(), value.to_owned())];
        Query::read(&pairs, KNOWN, &[])
            .unwrap()
            .matches(resource, KNOWN)
            .unwrap()
    }

    #[test]
    fn each_rule_finds_what_it_should_and_nothing_else() {
        let resource = json!({
            "status": "current",
            "masterIdentifier": { "system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2" },
            "type": { "coding": [{ "system": "http://loinc.org", "code": "18842-5" }, { "code": "x" }] },
            "date": "2026-11-27T08:30:00+08:00",
            "context": { "period": { "start": "2026-11-20", "end": "2026-11-25" } },
            "subject": { "reference": "http://h/fhir/Patient/7" },
            "author": [{ "reference": "#role" }, { "reference": "#doctor" }],
            "contained": [
                { "resourceType": "Patient", "id": "p", "name": [{ "family": "Chen" }] },
                { "resourceType": "Practitioner", "id": "other", "name": [{ "family": "Other" }] },
                { "resourceType": "Practitioner", "id": "doctor",
                  "name": [{ "family": "M\u{fc}ller", "given": ["Eva"] }] },
                { "resourceType": "PractitionerRole", "id": "role",
                  "practitioner": { "reference": "#chief" } },
                { "resourceType": "Practitioner", "id": "chief", "name": [{ "family": "Wu" }] },
            ],
        });
        for (name, value) in [
            ("status", "current"),
            ("status", "superseded,current"),
            ("type", "http://loinc.org|18842-5"),
            ("type", "18842-5"),
            ("type", "http://loinc.org|"),
            ("type", "|x"),
            ("identifier", "urn:ietf:rfc:3986|urn:oid:1.2"),
            ("date", "2026-11-27"),
            ("date", "ge2026"),
            ("date", "lt2026-11-27T00:31Z"),
            ("date", "2026-11-27T00:30:00Z"),
            ("period", "ge2026-11-24"),
            ("period", "le2026-11-20"),
            ("patient", "Patient/7"),
            ("patient", "7"),
            ("patient", "http://h/fhir/Patient/7"),
            ("author.family", "m\u{dc}l"),
            ("author.family", "wu"),
            ("author.family:exact", "M\u{fc}ller"),
            ("patient:Patient", "7"),
        ] {
            assert!(found(&resource, name, value), "{name}={value}");
        }
        for (name, value) in [
            ("status", "superseded"),
            ("type", "urn:x|18842-5"),
            ("type", "|18842-5"),
            ("identifier", "urn:oid:1.2.3"),
            ("date", "2026-11-28"),
            ("date", "gt2026-11-27"),
            ("date", "eb2026-11-27"),
            ("period", "ge2026-11-26"),
            ("patient", "Patient/77"),
            ("patient", "tient/7"),
            ("author.family", "uller"),
            ("author.family", "eva"),
            ("author.family", "Chen"),
            ("author.family", "Other"),
            ("author.family:exact", "m\u{fc}ller"),
            ("author.family:exact", "M\u{fc}l"),
        ] {
            assert!(!found(&resource, name, value), "{name}={value}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_and_never_passed_over() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Query::read(&pairs.collect::<Vec<_>>(), KNOWN, OWN)
        };
        for (name, value) in [
            ("colour", "red"),
            ("status:not", "current"),
            ("status:exact", "current"),
            ("status:Patient", "current"),
            ("status", ""),
            ("status", "current,"),
            ("status", "|"),
            ("date", "soon"),
            ("identifier:Patient", "1"),
            ("patient.identifier:Patient", "1"),
            ("patient.identifier", "1,2"),
            ("subject", ""),
            ("_has:Observation:patient:code", "1"),
            ("_include", "List:item"),
            ("_revinclude", "List:item"),
            ("_security", "R"),
            ("_tag", "x"),
            ("_lastUpdated", "ge2026"),
            ("_contained", "true"),
            ("_summary", "nothing"),
            ("_count", "many"),
            ("_sort", "colour"),
            ("_sort", "date,_id"),
            ("_page", "x"),
        ] {
            let refused = read(&[(name, value)]).unwrap_err();
            assert_eq!(refused.status.as_u16(), 400, "{name}={value}");
        }
        // Of two ways to say whose resources are meant none is passed over.
        for pairs in [
            [("subject", "1"), ("subject", "2")],
            [("subject", "1"), ("subject:Patient", "1")],
            [("subject", "1"), ("patient.identifier", "2")],
            [("_count", "1"), ("_count", "2")],
        ] {
            assert!(read(&pairs).is_err(), "{pairs:?}");
        }
        for pairs in [
            [("_count", "0"), ("_totalMethod", "count")],
            [("_format", "json"), ("_pretty", "true")],
            [("_elements", "id"), ("_total", "accurate")],
            [("_summary", "false"), ("_contained", "false")],
            [("subject:Patient", "1"), ("status", "current,superseded")],
            [("status", "a"), ("status", "b")],
        ] {
            assert!(read(&pairs).is_ok(), "{pairs:?}");
        }
        // Without a date there is no order by it.
        let sorted = [("_sort".to_owned(), "date".to_owned())];
        assert!(Query::read(&sorted, &[], &[]).is_err());
        let both = ["identifier", "_id"].map(|name| (name.to_owned(), "1".to_owned()));
        assert!(Query::read(&both, &[], &["identifier", "_id"]).is_ok());
        let both = ["target", "_id"].map(|name| (name.to_owned(), "1".to_owned()));
        assert!(Query::read(&both, &[], &["target", "_id"]).is_err());
    }

    #[test]
    fn the_order_by_date_is_the_resources_own_on_every_page() {
        // Entered in another order than they are dated.
        let dated = [
            (1, json!({ "id": "c", "date": "2026-11-27T08:00:00+08:00" })),
            (2, json!({ "id": "a", "date": "2025" })),
            (3, json!({ "id": "e" })),
            (4, json!({ "id": "b", "date": "2026-11-26" })),
            (5, json!({ "id": "d", "date": "2026-11-27T00:00:00.001Z" })),
            (6, json!({ "id": "z", "date": "0001" })),
        ];
        let matches: Vec<(Place, Value)> = dated
            .into_iter()
            .map(|(time, resource)| {
                let id = resource["id"].as_str().unwrap().to_owned();
                (Place { time, id }, resource)
            })
            .collect();
        let pages = |sort: &str| {
            let (mut ids, mut page) = (String::new(), None);
            loop {
                let mut pairs = vec![
                    ("_count".to_owned(), "2".to_owned()),
                    ("_sort".to_owned(), sort.to_owned()),
                ];
                pairs.extend(page.map(|page: Place| ("_page".to_owned(), page.write())));
                let query = Query::read(&pairs, KNOWN, &[]).unwrap();
                let found = query.page(matches.clone());
                for one in &found.resources {
                    ids.push_str(one["id"].as_str().unwrap());
                }
                match found.next {
                    Some(next) => page = Some(next),
                    None => return ids,
                }
            }
        };
        assert_eq!(pages("date"), "ezabcd");
        assert_eq!(pages("-date"), "dcbaze");
    }

    #[test]
    fn pages_show_each_match_once_though_others_come_and_go() {
        let match_at = |time: u64| {
            let place = Place {
                time,
                id: format!("d.{time}"),
            };
            (
                place,
                json!({ "resourceType": "DocumentReference", "id": time.to_string() }),
            )
        };
        let pairs = |page: Option<String>| {
            let mut pairs = vec![("_count".to_owned(), "2".to_owned())];
            pairs.extend(page.map(|page| ("_page".to_owned(), page)));
            pairs
        };
        let mut all: Vec<_> = (1..=5).map(match_at).collect();
        let first = Query::read(&pairs(None), KNOWN, &[])
            .unwrap()
            .page(all.clone());
        assert_eq!((first.total, first.resources.len()), (5, 2));
        assert_eq!(first.resources[0]["id"], "5");
        // One that was shown ends, and a newer one comes.
        all.remove(4);
        all.push(match_at(9));
        let next = first.next.clone().unwrap().write();
        let bundle = first.bundle("http://h/fhir", "DocumentReference", &pairs(None), None);
        let link = bundle["link"][1]["url"].as_str().unwrap();
        assert_eq!(
            link,
            format!("http://h/fhir/DocumentReference?_count=2&_page={next}")
        );
        let second = Query::read(&pairs(Some(next)), KNOWN, &[])
            .unwrap()
            .page(all.clone());
        let ids: Vec<_> = second
            .resources
            .iter()
            .map(|one| one["id"].clone())
            .collect();
        assert_eq!(ids, ["3", "2"]);
        let last = second.next.unwrap().write();
        let third = Query::read(&pairs(Some(last)), KNOWN, &[])
            .unwrap()
            .page(all);
        assert_eq!((third.resources.len(), third.next), (1, None));
        let none = Page {
            total: 0,
            next: None,
            resources: Vec::new(),
        }
        .bundle("b", "List", &[], None);
        assert!(none.get("entry").is_none());
    }

    #[test]
    fn dates_of_every_precision_have_their_length() {
        let length = |text: &str| span_of(text).map(|(from, until)| (until - from) / 1_000_000_000);
        assert_eq!(length("2024"), Some(366 * 86_400));
        assert_eq!(length("2026-12"), Some(31 * 86_400));
        assert_eq!(length("2026-11-27"), Some(86_400));
        assert_eq!(length("2026-11-27T08:00Z"), Some(60));
        assert_eq!(length("2026-11-27T08:00:00+01:00"), Some(1));
        for wrong in [
            "",
            "26",
            "2026-13",
            "2026-02-30",
            "2026-11-27T99:00:00Z",
            "2026-1-1-1",
            "now",
        ] {
            assert_eq!(span_of(wrong), None, "{wrong}");
        }
        assert_eq!(instant(1_795_770_000_123), "2026-11-27T09:00:00.123Z");
    }
}
