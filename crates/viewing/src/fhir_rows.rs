//! What a FHIR R4 resource says in one row, by its type. A type that is not known gives a row too:
//! nothing that was granted is silently left out.

use crate::clinical::{Kind, Row};
use crate::fhir::Names;
use crate::fhir_values::{
    between, code, concept, concepts, decoded, dosage, full_name, label, long, narrative, observed,
    paragraphs, quantity, status,
};
use crate::json::Value;
use crate::limits::ITEMS_MAX;
use crate::words::{joined, words};

/// The row of a resource; `None` for those that only carry others.
pub(crate) fn row_of(kind_of: &str, resource: &Value, names: &Names) -> Option<(Kind, Row)> {
    let row = common(resource, names);
    Some(match kind_of {
        "Binary" | "Provenance" => return None,
        "Patient" => (Kind::Patient, patient(row, resource)),
        "Condition" => (Kind::Problems, condition(row, resource)),
        "AllergyIntolerance" => (Kind::Allergies, allergy(row, resource)),
        "MedicationRequest"
        | "MedicationStatement"
        | "MedicationAdministration"
        | "MedicationDispense" => (Kind::Medicines, medicine(row, resource, names)),
        "Procedure" => (Kind::Procedures, procedure(row, resource)),
        "Observation" => (observation_kind(resource), observation(row, resource)),
        "DiagnosticReport" => (report_kind(resource), report(row, resource, names)),
        "ImagingStudy" => (Kind::Imaging, study(row, resource)),
        "Encounter" => (Kind::Encounters, encounter(row, resource, names)),
        "DocumentReference" | "Composition" | "ClinicalImpression" | "Communication" | "Media" => {
            (Kind::Notes, note(row, resource, names))
        }
        "Immunization" => {
            let vaccine = resource.get("vaccineCode");
            let row = about(row, vaccine);
            (Kind::Immunisations, row)
        }
        "FamilyMemberHistory" => (Kind::FamilyHistory, relative(row, resource)),
        "ServiceRequest" => (Kind::Orders, row),
        "CarePlan" | "Goal" => (Kind::CarePlans, plan(row, resource)),
        "Device" | "DeviceUseStatement" => (Kind::Devices, device(row, resource, names)),
        other => {
            let row = Row {
                what: if row.what.is_empty() {
                    other_name(resource)
                } else {
                    row.what
                },
                ..row
            };
            (Kind::Other(words(other)?), row)
        }
    })
}

/// What most resources have under the same names.
fn common(resource: &Value, names: &Names) -> Row {
    let first = |members: &[&str]| {
        let mut texts = members.iter().map(|member| match resource.get(member) {
            period @ Value::Object(_) => period.get("start"),
            time => time,
        });
        texts.find_map(|time| words(time.text()?))
    };
    let end = |members: &[&str]| {
        members
            .iter()
            .find_map(|member| words(resource.at(&[member, "end"]).text()?))
    };
    let by = AUTHORS.iter().find_map(|member| {
        let people = resource.get(member).items().iter().take(ITEMS_MAX);
        let people = people.map(|person| {
            let actor = ["actor", "individual", "member"]
                .iter()
                .map(|inner| person.get(inner));
            let actor = actor.into_iter().find(|inner| !inner.is_null());
            names.named(actor.unwrap_or(person), resource)
        });
        joined(people, ", ")
    });
    let notes = resource.get("note").items().iter().take(ITEMS_MAX);
    Row {
        when: first(&TIMES),
        until: end(&PERIODS),
        what: concept(resource.get("code")).unwrap_or_default(),
        value: None,
        flag: None,
        range: None,
        status: status(resource.get("status")),
        by,
        reason: concepts(resource.get("reasonCode")),
        text: paragraphs(notes.map(|note| long(note.get("text")))),
        code: code(resource.at(&["code", "coding"])).or_else(|| first_code(resource.get("code"))),
    }
}

fn first_code(concept: &Value) -> Option<crate::Code> {
    concept
        .get("coding")
        .items()
        .iter()
        .take(ITEMS_MAX)
        .find_map(code)
}

/// The row with a concept of another member than `code`.
fn about(row: Row, value: &Value) -> Row {
    Row {
        what: concept(value).unwrap_or(row.what),
        code: first_code(value).or(row.code),
        ..row
    }
}

fn other_name(resource: &Value) -> String {
    let name = resource.get("name");
    let name = match name {
        Value::Text(text) => words(text),
        name => full_name(name),
    };
    let title = || words(resource.get("title").text()?);
    let described = || words(resource.get("description").text()?);
    let typed = || concept(resource.get("type")).or_else(|| concept(resource.get("category")));
    name.or_else(title)
        .or_else(described)
        .or_else(typed)
        .unwrap_or_default()
}

fn patient(row: Row, resource: &Value) -> Row {
    let identifier = resource.get("identifier");
    Row {
        when: resource.get("birthDate").text().and_then(words),
        until: resource.get("deceasedDateTime").text().and_then(words),
        what: full_name(resource.get("name")).unwrap_or_default(),
        value: resource.get("gender").text().and_then(words),
        code: identifier.get("value").text().and_then(words).map(|value| {
            let system = identifier
                .get("system")
                .text()
                .and_then(words)
                .unwrap_or_default();
            crate::Code::new(&system, &value)
        }),
        // General practitioners are no authors of the patient.
        by: None,
        ..row
    }
}

fn condition(row: Row, resource: &Value) -> Row {
    let abated = ["abatementDateTime", "abatementString"]
        .iter()
        .find_map(|name| words(resource.get(name).text()?));
    let confirmed = status(resource.get("verificationStatus"));
    Row {
        until: abated.or(row.until),
        value: concept(resource.get("severity")),
        status: joined([status(resource.get("clinicalStatus")), confirmed], ", "),
        ..row
    }
}

fn allergy(row: Row, resource: &Value) -> Row {
    let reactions = resource.get("reaction").items().iter().take(ITEMS_MAX);
    let shown = reactions.map(|reaction| {
        let severity = reaction.get("severity").text().and_then(words);
        joined([concepts(reaction.get("manifestation")), severity], ", ")
    });
    let confirmed = status(resource.get("verificationStatus"));
    Row {
        value: joined(shown, "; "),
        flag: resource.get("criticality").text().and_then(words),
        status: joined([status(resource.get("clinicalStatus")), confirmed], ", "),
        ..row
    }
}

fn medicine(row: Row, resource: &Value, names: &Names) -> Row {
    let row = about(row, resource.get("medicationCodeableConcept"));
    let dosages = ["dosageInstruction", "dosage"].map(|member| resource.get(member));
    let dosages = dosages
        .iter()
        .flat_map(|member| member.items())
        .take(ITEMS_MAX);
    let value = joined(dosages.map(dosage), "; ").or_else(|| quantity(resource.get("quantity")));
    let reference = resource.get("medicationReference");
    let intent = resource
        .get("intent")
        .text()
        .filter(|intent| *intent != "order");
    let forbidden = resource.get("doNotPerform").text() == Some("true");
    Row {
        status: joined(
            [
                row.status,
                intent.and_then(words),
                forbidden.then(|| "doNotPerform".to_owned()),
            ],
            ", ",
        ),
        what: match names.named(reference, resource) {
            Some(name) if row.what.is_empty() => name,
            _ => row.what,
        },
        value,
        ..row
    }
}

fn procedure(row: Row, resource: &Value) -> Row {
    let sites = concepts(resource.get("bodySite"));
    Row {
        value: joined([sites, concept(resource.get("outcome"))], "; "),
        ..row
    }
}

/// The codes of a resource's categories.
fn categories(resource: &Value) -> impl Iterator<Item = &str> {
    let categories = resource.get("category").items().iter().take(ITEMS_MAX);
    let codings =
        categories.flat_map(|category| category.get("coding").items().iter().take(ITEMS_MAX));
    codings.filter_map(|coding| coding.get("code").text())
}

fn observation_kind(resource: &Value) -> Kind {
    let found = categories(resource).find_map(|category| {
        Some(match category {
            "laboratory" | "LAB" | "CH" | "HM" | "MB" => Kind::Laboratory,
            "vital-signs" => Kind::VitalSigns,
            "imaging" | "RAD" => Kind::Imaging,
            "social-history" => Kind::SocialHistory,
            "survey" => Kind::Assessments,
            "exam" | "procedure" | "therapy" | "activity" => Kind::Examination,
            _ => return None,
        })
    });
    found.unwrap_or_else(|| Kind::Other("Observation".to_owned()))
}

fn observation(row: Row, resource: &Value) -> Row {
    // A long text is for reading, not for a column.
    let text = resource
        .get("valueString")
        .text()
        .filter(|text| text.len() > crate::limits::WORDS_BYTES_MAX / 4);
    let (value, text) = match text {
        Some(_) => (
            None,
            paragraphs([long(resource.get("valueString")), row.text]),
        ),
        None => (observed(resource), row.text),
    };
    let first = |member| {
        let value = resource.get(member);
        value.items().first().unwrap_or(value)
    };
    let (range, interpretation) = (first("referenceRange"), first("interpretation"));
    Row {
        value,
        flag: status(interpretation),
        range: between(range).or_else(|| range.get("text").text().and_then(words)),
        text,
        ..row
    }
}

fn report_kind(resource: &Value) -> Kind {
    let found = categories(resource).find_map(|category| {
        Some(match category {
            "LAB" | "laboratory" | "CH" | "HM" | "MB" | "BLB" | "SR" => Kind::Laboratory,
            "RAD" | "imaging" | "CT" | "NMR" | "RUS" | "XRC" | "NMS" | "VUS" | "394914008" => {
                Kind::Imaging
            }
            _ => return None,
        })
    });
    found.unwrap_or(Kind::Notes)
}

fn report(row: Row, resource: &Value, names: &Names) -> Row {
    let results = resource.get("result").items().iter().take(ITEMS_MAX);
    let results = results.map(|result| {
        // The name that the reference gives says less than the result itself.
        let to = Value::Object(vec![(
            "reference".to_owned(),
            result.get("reference").clone(),
        )]);
        names
            .named(&to, resource)
            .or_else(|| names.named(result, resource))
    });
    let conclusion = long(resource.get("conclusion"));
    let forms = resource.get("presentedForm").items().iter().take(ITEMS_MAX);
    let forms: Vec<_> = forms.map(|form| attachment(form, names)).collect();
    let told = forms.iter().any(Option::is_some);
    let told = if told {
        paragraphs(forms)
    } else {
        narrative(resource)
    };
    let coded = || concepts(resource.get("conclusionCode"));
    Row {
        value: joined(results, "; ")
            .or_else(|| conclusion.as_deref().and_then(words))
            .or_else(coded),
        text: paragraphs([told.or(conclusion), row.text]),
        ..row
    }
}

/// The text of an attachment, in the file or in a Binary of the same file.
fn attachment(form: &Value, names: &Names) -> Option<String> {
    let inside = decoded(form.get("contentType"), form.get("data"));
    inside.or_else(|| names.text(form.get("url").text()?).map(str::to_owned))
}

fn study(row: Row, resource: &Value) -> Row {
    let series = resource.get("series").items().iter().take(ITEMS_MAX);
    let all = resource.get("modality").items().iter().take(ITEMS_MAX);
    let modalities = all.chain(series.clone().map(|series| series.get("modality")));
    let modalities = joined(
        modalities.map(|modality| words(modality.get("code").text()?)),
        ", ",
    );
    let sites = joined(
        series.clone().map(|series| concept(series.get("bodySite"))),
        ", ",
    );
    let described = words(resource.get("description").text().unwrap_or_default());
    let titles = || {
        let titles = series.map(|series| words(series.at(&["instance", "title"]).text()?));
        joined(titles, ", ")
    };
    let procedure = resource.get("procedureCode");
    let first = procedure.items().first().unwrap_or(procedure);
    let row = about(row, first);
    Row {
        what: described
            .or_else(|| words(&row.what))
            .or_else(titles)
            .or_else(|| joined([modalities.clone(), sites.clone()], ", "))
            .unwrap_or_default(),
        value: joined([modalities, sites], "; "),
        ..row
    }
}

fn encounter(row: Row, resource: &Value, names: &Names) -> Row {
    let kinds = resource.get("type");
    let place = names.named(resource.get("serviceProvider"), resource);
    let class = concept(resource.get("class"));
    Row {
        what: label(kinds)
            .or_else(|| label(resource.get("serviceType")))
            .or_else(|| class.clone())
            .or_else(|| concept(kinds))
            .unwrap_or_default(),
        value: joined([concept(resource.get("serviceType")), class], ", "),
        by: joined([place, row.by], ", "),
        code: kinds
            .items()
            .iter()
            .take(ITEMS_MAX)
            .find_map(first_code)
            .or(row.code),
        ..row
    }
}

fn note(row: Row, resource: &Value, names: &Names) -> Row {
    let row = about(row, resource.get("type"));
    let title = resource.get("title").text().and_then(words);
    let described = ["description", "summary"]
        .iter()
        .find_map(|name| long(resource.get(name)));
    let contents = resource.get("content").items().iter().take(ITEMS_MAX);
    let contents = contents.map(|content| attachment(content.get("attachment"), names));
    let payload = resource.get("payload").items().iter().take(ITEMS_MAX);
    let payload = payload.map(|payload| long(payload.get("contentString")));
    let mut sections = Vec::new();
    for section in resource.get("section").items().iter().take(ITEMS_MAX) {
        sections.push(section_text(section));
        sections.extend(
            section
                .get("section")
                .items()
                .iter()
                .take(ITEMS_MAX)
                .map(section_text),
        );
    }
    let told = paragraphs(contents.chain(payload).chain(sections));
    Row {
        what: title.or_else(|| words(&row.what)).unwrap_or_default(),
        text: paragraphs([told.or(described).or_else(|| narrative(resource)), row.text]),
        ..row
    }
}

fn section_text(section: &Value) -> Option<String> {
    let title = section.get("title").text().and_then(words);
    let text = narrative(section)?;
    Some(match title {
        Some(title) => format!("{title}\n{text}\n"),
        None => text,
    })
}

fn relative(row: Row, resource: &Value) -> Row {
    let conditions = resource.get("condition").items().iter().take(ITEMS_MAX);
    let conditions = conditions.map(|condition| concept(condition.get("code")));
    Row {
        what: concept(resource.get("relationship")).unwrap_or_default(),
        value: joined(conditions, ", "),
        ..row
    }
}

fn plan(row: Row, resource: &Value) -> Row {
    let activities = resource.get("activity").items().iter().take(ITEMS_MAX);
    let activities = activities.map(|activity| concept(activity.at(&["detail", "code"])));
    let what = resource.get("title").text().and_then(words);
    let described = || concept(resource.get("description"));
    Row {
        what: what
            .or_else(described)
            .or_else(|| concepts(resource.get("category")))
            .unwrap_or(row.what),
        value: joined(activities, ", "),
        text: row.text.or_else(|| long(resource.get("description"))),
        ..row
    }
}

fn device(row: Row, resource: &Value, names: &Names) -> Row {
    let named = resource.at(&["deviceName", "name"]).text().and_then(words);
    let used = || names.named(resource.get("device"), resource);
    Row {
        what: named
            .or_else(|| concept(resource.get("type")))
            .or_else(used)
            .unwrap_or(row.what),
        ..row
    }
}

/// Members that hold the time of what a resource tells, the most telling first.
const TIMES: [&str; 18] = [
    "effectiveDateTime",
    "effectivePeriod",
    "effectiveInstant",
    "onsetDateTime",
    "onsetPeriod",
    "performedDateTime",
    "performedPeriod",
    "occurrenceDateTime",
    "occurrencePeriod",
    "started",
    "period",
    "authoredOn",
    "whenHandedOver",
    "date",
    "recordedDate",
    "issued",
    "created",
    "sent",
];
const PERIODS: [&str; 5] = [
    "effectivePeriod",
    "onsetPeriod",
    "performedPeriod",
    "occurrencePeriod",
    "period",
];
const AUTHORS: [&str; 9] = [
    "performer",
    "author",
    "asserter",
    "requester",
    "recorder",
    "assessor",
    "participant",
    "informationSource",
    "interpreter",
];
