//! Attacks on records: another doctor's container, a statement twice, and what links two records.

use std::collections::BTreeSet;

use ledger::testing::{FourHospitals, rng};
use ledger::{
    CheckError, RecordNonce, RecordTransaction, Refusal, Signer, Transaction, TransactionId,
};
use rand_core::Rng;
use scheme::{ConsortiumId, InstitutionId, Pid, RecordStatement, Timestamp, sha256};

use crate::attacker::{Episode, countersigned_by, four, opened, refusal, wrong};
use crate::literal::{PaperRecord, id_of_all_bytes};

fn statement_of(transaction: &Transaction) -> RecordStatement {
    let Transaction::Record(record) = transaction else {
        panic!("a record");
    };
    record.statement.clone()
}

/// Attacker: the server or a doctor of another hospital, who see a record travel, or final. Hold: the
/// transaction, the container, their own keys. They put it on the chain as theirs, or as another
/// patient's. Literal, equation (10): the signature is over the ciphertext's digest, so the copier's is
/// as good as the author's, and the author's stands beside any index and any owner. Ours: the doctor
/// signs digest, header's digest, owner key, locator, entries, R, author, institution and time; the
/// institution signs the whole. What is left to the copier is a record that names the copier as its
/// author and is indexed under the copier's R: it is none of the author's, it takes nothing from the
/// author's, and nodes refuse it, since the container's header names another author.
#[test]
fn attack_record_another_doctors_container() {
    let four = four();
    let mut chain = opened(&four);
    let (here, author, copier) = (&four.consortium, four.hospital(1), four.hospital(2));
    let original = four.statement(1, 1, 8);
    let others = four.statement(2, 2, 8);

    let mut as_ones_own = original.clone();
    as_ones_own.author = copier.doctor_key.verifying_key();
    as_ones_own.institution = copier.institution.id;
    assert!(PaperRecord::sign(here, as_ones_own, &copier.doctor_key).stands(here));
    let mut hung = PaperRecord::sign(here, original.clone(), &author.doctor_key);
    hung.statement.owner_key = others.owner_key.clone();
    hung.statement.entries = others.entries.clone();
    hung.statement.institution = copier.institution.id;
    assert!(hung.stands(here));

    // The author's signature beside anything else, countersigned by any server.
    type Change = fn(&mut RecordStatement, &RecordStatement);
    let changes: [Change; 11] = [
        |to, from| to.digest = from.digest,
        |to, from| to.header_digest = from.header_digest,
        |to, from| to.owner_key = from.owner_key.clone(),
        |to, from| to.locator = from.locator,
        |to, from| to.entries.clone_from(&from.entries),
        |to, from| to.entries[0].pad = from.entries[0].pad,
        |to, from| to.entries.extend_from_slice(&from.entries),
        |to, from| to.writer_key = from.writer_key.clone(),
        |to, from| to.author = from.author,
        |to, from| to.institution = from.institution,
        |to, _| to.time = Timestamp::new(to.time.number() + 1),
    ];
    let signature = original.sign(here, &author.doctor_key);
    for change in changes {
        let mut statement = original.clone();
        change(&mut statement, &others);
        statement.entries.sort_unstable_by_key(|entry| entry.tag);
        for server in [author, copier] {
            let nonce = RecordNonce::new([1; 16]);
            let record = RecordTransaction::countersign(
                here,
                statement.clone(),
                signature,
                nonce,
                &server.key,
            );
            assert_eq!(
                wrong(here, &Transaction::Record(Box::new(record))),
                CheckError::Signature(Signer::Doctor)
            );
        }
    }
    // The whole statement, unchanged, by another institution's server.
    let replayed = countersigned_by(&four, 1, 2, original.clone());
    assert_eq!(
        refusal(&chain, 10, replayed.clone()),
        Refusal::Signature(CheckError::Signature(Signer::Institution))
    );
    assert_eq!(
        replayed.id(here),
        four.sign_record(1, original.clone()).id(here)
    );

    // The copier's own, with the author's digests and first on the chain.
    let mut copy = others;
    copy.digest = original.digest;
    copy.header_digest = original.header_digest;
    let copy = four.sign_record(2, copy);
    chain.grow(10, vec![copy.clone()]);
    let recorded = four.sign_record(1, original.clone());
    chain.grow(10, vec![recorded.clone()]);
    assert_ne!(copy.id(here), recorded.id(here));
    assert_ne!(statement_of(&copy).author, original.author);
    for (transaction, hospital) in [(&copy, copier), (&recorded, author)] {
        let epoch = scheme::WriterEpoch::new(0);
        for entry in statement_of(transaction).entries {
            let institution = hospital.institution.id;
            let found = ledger::record_by_tag(&chain.view, institution, epoch, &entry.tag).unwrap();
            assert_eq!(found.unwrap().transaction, transaction.id(here));
        }
    }
}

/// Attacker: the hospital's server, or a node. Holds: a doctor's signed statement. One record appears
/// twice: a history is longer than it was, and what is counted or paid by record counts double.
/// Literal, an id over all that travels: with another random number or signature it is another
/// transaction. Ours: the id is of what the doctor signed.
#[test]
fn attack_record_one_statement_twice() {
    let four = four();
    let mut chain = opened(&four);
    let statement = four.statement(1, 1, 8);
    let doctor = statement.sign(&four.consortium, &four.hospital(1).doctor_key);
    let [first, second] = [[1; 16], [2; 16]].map(|nonce| {
        Transaction::Record(Box::new(RecordTransaction::countersign(
            &four.consortium,
            statement.clone(),
            doctor,
            RecordNonce::new(nonce),
            &four.hospital(1).key,
        )))
    });
    assert_ne!(id_of_all_bytes(&first), id_of_all_bytes(&second));

    chain.grow(10, vec![first.clone()]);
    assert_eq!(first.id(&four.consortium), second.id(&four.consortium));
    assert!(matches!(refusal(&chain, 10, second), Refusal::Final(_)));
    assert_eq!(ledger::record_count(&chain.view).unwrap().number(), 1);
}

/// Every field of a record's transaction by its name, one by one.
fn fields(transaction: &Transaction) -> Vec<(&'static str, Vec<u8>)> {
    let Transaction::Record(record) = transaction else {
        panic!("a record");
    };
    // The patterns name every field, so that a new one has to be thought about here.
    let RecordTransaction {
        statement,
        nonce,
        doctor,
        institution: countersignature,
    } = record.as_ref();
    let RecordStatement {
        digest,
        header_digest,
        owner_key,
        locator,
        entries,
        writer_key,
        author,
        institution,
        time,
    } = statement;
    let mut fields = vec![
        ("digest", digest.as_bytes().to_vec()),
        ("header digest", header_digest.as_bytes().to_vec()),
        ("owner key", owner_key.as_bytes().to_vec()),
        ("locator", locator.as_bytes().to_vec()),
        ("writer key", writer_key.as_bytes().to_vec()),
        ("author", author.as_bytes().to_vec()),
        ("institution", institution.number().to_be_bytes().to_vec()),
        ("time", time.number().to_be_bytes().to_vec()),
        ("nonce", nonce.as_bytes().to_vec()),
        ("doctor's signature", doctor.as_bytes().to_vec()),
        (
            "institution's signature",
            countersignature.as_bytes().to_vec(),
        ),
    ];
    for entry in entries {
        fields.push(("tag", entry.tag.as_bytes().to_vec()));
        fields.push(("pad", entry.pad.to_vec()));
    }
    fields
}

/// The names of the fields of one record whose value stands in any field of the other.
fn links(
    one: &[(&'static str, Vec<u8>)],
    other: &[(&'static str, Vec<u8>)],
) -> BTreeSet<&'static str> {
    let values: BTreeSet<_> = other.iter().map(|(_, value)| value).collect();
    let shared = one.iter().filter(|(_, value)| values.contains(value));
    shared.map(|(name, _)| *name).collect()
}

/// All runs of 16 bytes that two transactions have in common, wherever they stand.
fn common_runs(one: &Transaction, other: &Transaction) -> BTreeSet<Vec<u8>> {
    let runs = |transaction: &Transaction| -> BTreeSet<Vec<u8>> {
        transaction
            .encode()
            .windows(16)
            .map(<[u8]>::to_vec)
            .collect()
    };
    runs(one).intersection(&runs(other)).cloned().collect()
}

/// A record of a patient's episode under two keywords, its two entries at the allocator's next places.
fn record_of(
    four: &FourHospitals,
    patient: u64,
    episode: u8,
    number: u64,
    place: u64,
) -> Transaction {
    let episode = Episode {
        four,
        hospital: 1,
        patient,
        pid: Pid::from_bytes([episode; 32]),
    };
    let keywords = [("", place), ("I63.9", place)];
    let statement = episode.statement(number, &keywords);
    let doctor = statement.sign(&four.consortium, &four.hospital(1).doctor_key);
    let mut nonce = [0; 16];
    rng("the server's random number", number).fill_bytes(&mut nonce);
    Transaction::Record(Box::new(RecordTransaction::countersign(
        &four.consortium,
        statement,
        doctor,
        RecordNonce::new(nonce),
        &four.hospital(1).key,
    )))
}

/// Attacker: an outsider with the chain. Holds: all records. They tell which are of one patient.
/// Literal, a chain that carries what a search or an owner check would be easiest with: the patient's
/// public key, or a pseudonym by (8) as the paper has it, or a tag of the keyword without a count: the
/// same value in both records of one patient, and in none of another's. Ours: two records of one
/// episode under the same keywords have in common what two records of different patients have:
/// hospital, writer epoch, author and the time that the author signed.
#[test]
fn attack_link_two_records_of_a_patient() {
    let four = four();
    let [one, two] = [(1, 0), (2, 1)].map(|(number, place)| record_of(&four, 1, 1, number, place));
    let strangers = record_of(&four, 2, 2, 3, 0);
    let later = record_of(&four, 1, 3, 4, 0);

    let literal = |record: &Transaction, patient: u64, pid: u8| {
        let keys = four.patient_keys(patient);
        let key = keys.ownership.public_key();
        let pid = [pid; 32];
        let tag = [pid.as_slice(), b"I63.9"].concat();
        let mut fields = fields(record);
        fields.push(("public key", key.as_bytes().to_vec()));
        fields.push(("pseudonym", sha256(&pid).as_bytes().to_vec()));
        fields.push(("uncounted tag", sha256(&tag).as_bytes().to_vec()));
        fields
    };
    let (first, second) = (literal(&one, 1, 1), literal(&two, 1, 1));
    let (third, fourth) = (literal(&strangers, 2, 2), literal(&later, 1, 3));
    let everybodys = links(&first, &third);
    let linked: Vec<_> = links(&first, &second)
        .difference(&everybodys)
        .copied()
        .collect();
    assert_eq!(linked, ["pseudonym", "public key", "uncounted tag"]);
    // Another episode has another pseudonym, and still the same key.
    let linked: Vec<_> = links(&first, &fourth)
        .difference(&everybodys)
        .copied()
        .collect();
    assert_eq!(linked, ["public key"]);

    let of_the_doctor = BTreeSet::from(["author", "institution", "time", "writer key"]);
    for other in [&two, &strangers, &later] {
        assert_eq!(links(&fields(&one), &fields(other)), of_the_doctor);
        assert_eq!(common_runs(&one, other), common_runs(&one, &strangers));
    }
    // They are what they seem to be: found by one search, and by no other.
    let mut chain = opened(&four);
    chain.grow(10, vec![one.clone(), two.clone(), strangers, later]);
    let search = |patient, pid| -> Vec<TransactionId> {
        let episode = Episode {
            four: &four,
            hospital: 1,
            patient,
            pid: Pid::from_bytes([pid; 32]),
        };
        let hospital = four.hospital(1).institution.id;
        let epoch = scheme::WriterEpoch::new(0);
        let key = episode.index_key("I63.9");
        let look_up = |tag: &_| ledger::record_by_tag(&chain.view, hospital, epoch, tag);
        let hits = key.search(&four.consortium, 9, look_up).unwrap();
        hits.iter().map(|(_, found)| found.transaction).collect()
    };
    let id = |record: &Transaction| record.id(&four.consortium);
    assert_eq!(search(1, 1), [id(&one), id(&two)]);
    assert_eq!(search(2, 2).len(), 1);
    assert_eq!(search(2, 1), []);
}

/// Attacker: whoever brings a record of one consortium to another of which the hospital is a member
/// too. Holds: the final transaction. Literal: a signature that names no consortium stands in both.
/// Ours: doctor's and institution's signatures begin with the consortium.
#[test]
fn attack_replay_a_record_in_another_consortium() {
    let here = four();
    let mut settings = here.genesis.settings;
    settings.cut.count += 1;
    let there = FourHospitals::found(settings);
    let record = here.record(1, 1);

    let nowhere = ConsortiumId::new([0; 32]);
    let statement = statement_of(&record);
    let literal = PaperRecord::sign(&nowhere, statement, &here.hospital(1).doctor_key);
    assert!(
        literal.stands(&nowhere),
        "in whichever consortium it is shown"
    );

    let mut chain = opened(&here);
    chain.grow(10, vec![record.clone()]);
    assert_eq!(
        wrong(&there.consortium, &record),
        CheckError::Signature(Signer::Doctor)
    );
    // The server signs anew for the other consortium; the doctor has not.
    let Transaction::Record(mut again) = there.record(1, 1) else {
        panic!("a record");
    };
    let Transaction::Record(original) = record else {
        panic!("a record");
    };
    again.doctor = original.doctor;
    assert_eq!(
        wrong(&there.consortium, &Transaction::Record(again)),
        CheckError::Signature(Signer::Doctor)
    );
    assert_ne!(
        original.statement.id(&here.consortium),
        original.statement.id(&there.consortium)
    );
    assert_eq!(original.statement.institution, InstitutionId::new(1));
}
