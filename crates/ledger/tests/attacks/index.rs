//! Attacks on the index: a stranger's tags, and a record hidden behind a counter that went back.

use ledger::{Refusal, Transaction, TransactionId};
use scheme::{Pid, RecordStatement, WriterEpoch};

use crate::attacker::{Episode, countersigned_by, four, opened, refusal, wrong};
use crate::literal::{LastTagWins, TagsOfTheChain};

fn statement_of(transaction: &Transaction) -> &RecordStatement {
    let Transaction::Record(record) = transaction else {
        panic!("a record");
    };
    &record.statement
}

/// Attacker: another hospital, which sees a record on its way to the chain. Holds: its tags, and its
/// own keys. It puts a record with the same tags on the chain first, so that the stranger's is refused
/// and, sent with new places, meets the same again. Literal, a tag that is unique on the whole chain:
/// the first has it. Ours: it is unique under one R; only R's institution writes under R, and nobody
/// can begin a writer epoch with another's R, whose y they would have to prove.
#[test]
fn attack_occupy_a_strangers_tags() {
    let four = four();
    let mut chain = opened(&four);
    let waiting = four.statement(1, 1, 8);
    let mut squatting = four.statement(2, 2, 8);
    squatting.entries = waiting.entries.clone();
    let id = |statement: &RecordStatement| TransactionId::from(statement.id(&four.consortium));

    let mut literal = TagsOfTheChain::default();
    assert!(literal.takes(id(&squatting), &squatting.entries));
    assert!(!literal.takes(id(&waiting), &waiting.entries));

    chain.grow(10, vec![four.sign_record(2, squatting.clone())]);
    chain.grow(10, vec![four.sign_record(1, waiting.clone())]);
    let epoch = WriterEpoch::new(0);
    for entry in &waiting.entries {
        for (hospital, statement) in [(1, &waiting), (2, &squatting)] {
            let institution = four.hospital(hospital).institution.id;
            let found = ledger::record_by_tag(&chain.view, institution, epoch, &entry.tag);
            assert_eq!(found.unwrap().unwrap().transaction, id(statement));
        }
    }

    // Under the stranger's R: as another institution, and in the stranger's name.
    let next = four.statement(1, 3, 8);
    let mut under_r = four.statement(2, 4, 8);
    under_r.entries = next.entries.clone();
    under_r.writer_key = next.writer_key.clone();
    assert_eq!(
        refusal(&chain, 10, four.sign_record(2, under_r.clone())),
        Refusal::WriterEpochEnded
    );
    under_r.institution = next.institution;
    assert!(matches!(
        refusal(&chain, 10, countersigned_by(&four, 2, 2, under_r)),
        Refusal::NotADoctorThere { .. }
    ));
    // As an own writer epoch: with y, which they have not, it would still stand once only; with the
    // stranger's proof it is not proved.
    let stolen = four.writer_epoch_with(2, WriterEpoch::new(1), &four.hospital(1).writer_key);
    assert_eq!(
        refusal(&chain, 10, stolen.clone()),
        Refusal::WriterKeyRepeated
    );
    let (Transaction::WriterEpoch(mut stolen), Transaction::WriterEpoch(theirs)) =
        (stolen, four.writer_epoch(1))
    else {
        panic!("writer epochs");
    };
    stolen.proof = theirs.proof;
    assert_eq!(
        wrong(&four.consortium, &Transaction::WriterEpoch(stolen)),
        ledger::CheckError::WriterEpochProof
    );
    chain.grow(10, vec![four.sign_record(1, next)]);
}

/// Attacker: a hospital's server that lost its counters, or says so. Holds: the allocator. It hands
/// the places of a final record out again, so that a search finds another record there. Literal, a
/// store that is a map: the last writer wins, and the earlier record is never found again, although it
/// stands on the chain. Ours: the first holder of (R, tag) keeps it; the later record is refused whole,
/// learns which tags are taken, and goes to the next places. (A counter that jumps ahead hides the
/// jumping record itself: the author's client looks for it before it says "stored".)
#[test]
fn attack_hide_a_final_record_behind_lost_counters() {
    let four = four();
    let mut chain = opened(&four);
    let episode = Episode {
        four: &four,
        hospital: 1,
        patient: 1,
        pid: Pid::from_bytes([1; 32]),
    };
    let words = ["", "I63.9", "R47.0"];
    let record = |number, place| {
        let keywords = words.map(|word| (word, place));
        four.sign_record(1, episode.statement(number, &keywords))
    };
    let [first, lost, moved] =
        [(1, 0), (2, 0), (3, 1)].map(|(number, place)| record(number, place));
    let id = |record: &Transaction| record.id(&four.consortium);

    let mut literal = LastTagWins::default();
    for record in [&first, &lost] {
        literal.put(id(record), &statement_of(record).entries);
    }
    for word in words {
        let look_up = |tag: &_| Ok::<_, ()>(literal.get(tag));
        let key = episode.index_key(word);
        let hits = key.search(&four.consortium, 9, look_up).unwrap();
        let found: Vec<_> = hits.iter().map(|(_, id)| *id).collect();
        assert_eq!(found, [id(&lost)], "the first is hidden");
    }

    chain.grow(10, vec![first.clone()]);
    let Refusal::TagsTaken(taken) = refusal(&chain, 10, lost.clone()) else {
        panic!("the tags are taken");
    };
    assert_eq!(taken.len(), words.len(), "padding is none of them");
    // Not even together with what frees nothing: a new writer epoch has other tags.
    let both = [record(4, 1), record(5, 1)].map(|record| four.checked(record));
    let proposal = chain.propose(10, &both);
    assert!(matches!(
        proposal.refused.as_slice(),
        [(refused, Refusal::TagsTaken(_))] if *refused == both[1].id()
    ));
    chain.grow(10, vec![moved.clone()]);
    let hospital = four.hospital(1).institution.id;
    for word in words {
        let look_up =
            |tag: &_| ledger::record_by_tag(&chain.view, hospital, WriterEpoch::new(0), tag);
        let key = episode.index_key(word);
        let hits = key.search(&four.consortium, 9, look_up).unwrap();
        let found: Vec<_> = hits.iter().map(|(_, found)| found.transaction).collect();
        assert_eq!(found, [id(&first), id(&moved)]);
    }
}
