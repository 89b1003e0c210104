//! The attacker's tools: blocks that the crate would not make, and what becomes of a transaction at
//! all who look at it.

use std::time::Duration;

use ledger::testing::{FOUNDED, FourHospitals, ToyChain, rng};
use ledger::{
    AdmitError, Block, CheckError, CheckedTransaction, ExecuteError, Header, InvalidBlock,
    RecordNonce, RecordTransaction, Refusal, Settings, Transaction, admit, execute,
};
use rand_core::Rng;
use scheme::{
    ConsortiumId, Context, Delta, Digest, Encoder, EpisodeKey, IndexKey, Keyword, KeywordBlinding,
    Locator, LocatorBinding, LocatorKey, OwnerKey, Pid, Position, RecordStatement, SigningKey,
    Timestamp, Trapdoor, Writer, WriterEpoch, enc, pad_entries, sha256, unblind,
};

/// So many milliseconds after the founding.
pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp::new(FOUNDED.number() + ms)
}

/// Four hospitals whose chain anchors once a day only.
pub(crate) fn four() -> FourHospitals {
    anchoring(Duration::from_secs(86_400))
}

/// Four hospitals whose chain anchors this often.
pub(crate) fn anchoring(interval: Duration) -> FourHospitals {
    let mut settings = Settings::standard();
    settings.anchor_interval = interval;
    FourHospitals::found(settings)
}

/// A chain whose doctors are registered and whose writer epochs have begun.
pub(crate) fn opened(hospitals: &FourHospitals) -> ToyChain<'_> {
    let mut chain = ToyChain::new(hospitals);
    chain.grow(10, hospitals.opening());
    chain
}

/// Why a transaction can never enter a block, as a value and from its bytes.
pub(crate) fn wrong(consortium: &ConsortiumId, transaction: &Transaction) -> CheckError {
    let error = CheckedTransaction::new(transaction.clone(), consortium).unwrap_err();
    let read = CheckedTransaction::decode(&transaction.encode(), consortium).unwrap_err();
    assert_eq!(read, error);
    error
}

/// Why the state refuses a transaction in a block so many milliseconds after the last: the same for a
/// pool, for an honest leader, and for a voter to whom the leader proposes it all the same.
pub(crate) fn refusal(chain: &ToyChain<'_>, after_ms: u64, transaction: Transaction) -> Refusal {
    let checked = chain.hospitals.checked(transaction.clone());
    let time = Timestamp::new(chain.tip().time.number() + after_ms);
    let Err(AdmitError::Refused(to_pool)) = admit(&chain.view, &checked, time) else {
        panic!("a pool takes it");
    };
    let honest = chain.propose(after_ms, std::slice::from_ref(&checked));
    assert_eq!(honest.refused, [(checked.id(), to_pool.clone())]);
    let leader = chain.leader_key(honest.block.header().view);
    let dishonest = forge(chain, &honest.block, &[transaction], leader, |_| {});
    let Ok(InvalidBlock::Refused { index: 0, source }) = verdict(chain, &dishonest) else {
        panic!("a voter takes it");
    };
    assert_eq!(source, to_pool);
    to_pool
}

/// What a voter says of a block: the rule that it breaks, or nothing.
pub(crate) fn verdict(chain: &ToyChain<'_>, block: &Block) -> Result<InvalidBlock, ()> {
    match execute(&chain.view, chain.tip(), block) {
        Ok(_) => Err(()),
        Err(ExecuteError::Invalid(rule)) => Ok(rule),
        Err(other) => panic!("no verdict: {other}"),
    }
}

/// A block with this body beside the header of `honest`, size, count and Merkle root made to fit, then
/// altered, then signed by `key` in whoever's name the header bears.
pub(crate) fn forge(
    chain: &ToyChain<'_>,
    honest: &Block,
    body: &[Transaction],
    key: &SigningKey,
    alter: impl FnOnce(&mut Header),
) -> Block {
    let body: Vec<Vec<u8>> = body.iter().map(Transaction::encode).collect();
    let consortium = chain.hospitals.consortium;
    let mut header = *honest.header();
    header.size = body.iter().map(|bytes| bytes.len() as u32 + 4).sum();
    header.count = body.len() as u32;
    header.merkle_root = merkle("BODY", &consortium, &body);
    header.producer = key.verifying_key();
    alter(&mut header);
    let unsigned = &header.encode()[..Header::BYTES - 64];
    header.signature = key.sign(Context::Consensus, &consortium, &[unsigned]);
    let limits = chain.hospitals.genesis.settings.limits();
    Block::decode(&with_body(&header, &body), &limits).unwrap()
}

/// A header and the transactions' bytes behind it.
pub(crate) fn with_body(header: &Header, body: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Encoder::new();
    out.bytes(&header.encode());
    for transaction in body {
        out.var(transaction);
    }
    out.finish()
}

/// Equation C4 over contents.
pub(crate) fn merkle(name: &str, consortium: &ConsortiumId, contents: &[Vec<u8>]) -> Digest {
    match contents {
        [] => tagged(&format!("{name}-EMPTY"), consortium, &[]),
        [one] => tagged(&format!("{name}-LEAF"), consortium, &[one]),
        many => {
            let mut left = 1;
            while left * 2 < many.len() {
                left *= 2;
            }
            let (left, right) = many.split_at(left);
            let left = merkle(name, consortium, left);
            let right = merkle(name, consortium, right);
            let parts = [left.as_bytes().as_slice(), right.as_bytes()];
            tagged(&format!("{name}-NODE"), consortium, &parts)
        }
    }
}

/// Equation C1.
fn tagged(tag: &str, consortium: &ConsortiumId, parts: &[&[u8]]) -> Digest {
    let tag = format!("WILLIS-V1-{tag}");
    let mut all = vec![tag.as_bytes(), consortium.as_bytes().as_slice()];
    all.extend_from_slice(parts);
    sha256(&enc(&all))
}

/// One episode of a patient at a hospital.
pub(crate) struct Episode<'a> {
    pub(crate) four: &'a FourHospitals,
    pub(crate) hospital: u32,
    pub(crate) patient: u64,
    pub(crate) pid: Pid,
}

impl Episode<'_> {
    fn writer(&self) -> Writer {
        Writer {
            institution: self.four.hospital(self.hospital).institution.id,
            epoch: WriterEpoch::new(0),
        }
    }

    /// What the doctor signs about record `number`, indexed for real under these keywords, each with
    /// the position that the allocator gave.
    pub(crate) fn statement(&self, number: u64, keywords: &[(&str, u64)]) -> RecordStatement {
        let (four, consortium) = (self.four, &self.four.consortium);
        let rng = &mut rng("an attacked record", number);
        let mut statement = four.statement(self.hospital, number, 8);
        let keys = four.patient_keys(self.patient);
        let (delta, locator_key) = (Delta::random(rng), LocatorKey::random(rng));
        let episode =
            EpisodeKey::derive(consortium, &keys.ownership.public_key(), &self.pid).unwrap();
        let owner_key: OwnerKey = episode.blind(&delta).unwrap();

        let y = &four.hospital(self.hospital).writer_key;
        let blindings: Vec<_> = keywords
            .iter()
            .map(|(word, _)| {
                let word = Keyword::new(word.as_bytes()).unwrap();
                KeywordBlinding::new(consortium, &self.pid, self.writer(), &word, rng)
            })
            .collect();
        let raised: Vec<_> = blindings
            .iter()
            .map(|blinding| y.raise(&blinding.blinded()))
            .collect();
        statement.entries = unblind(&blindings, &raised, &y.public_key(), rng)
            .unwrap()
            .iter()
            .zip(keywords)
            .map(|(evaluated, (_, position))| {
                let index_key = evaluated.index_key(&keys.search.public_key());
                let position = Position::new(*position);
                index_key.entry(consortium, position, &owner_key.compressed(), &locator_key)
            })
            .collect();
        pad_entries(&mut statement.entries, rng);

        let mut address = [0; 32];
        rng.fill_bytes(&mut address);
        let locator = Locator {
            address: scheme::Address::new(address),
            delta,
        };
        let binding = LocatorBinding {
            writer_key: statement.writer_key.compressed(),
            digest: &statement.digest,
            header_digest: &statement.header_digest,
            owner_key: owner_key.compressed(),
            author: &statement.author,
            institution: statement.institution,
        };
        statement.locator = locator.seal(consortium, &locator_key, &binding);
        statement.owner_key = owner_key;
        statement
    }

    /// What searches for a keyword of this episode.
    pub(crate) fn index_key(&self, word: &str) -> IndexKey {
        let keys = self.four.patient_keys(self.patient);
        let word = Keyword::new(word.as_bytes()).unwrap();
        let consortium = &self.four.consortium;
        let trapdoor =
            Trapdoor::generate(consortium, &keys.search, &self.pid, self.writer(), &word);
        let y = &self.four.hospital(self.hospital).writer_key;
        trapdoor.index_key(&y.public_key())
    }
}

/// A statement that the doctor of one hospital signed, in the transaction of another's server.
pub(crate) fn countersigned_by(
    four: &FourHospitals,
    doctor: u32,
    server: u32,
    statement: RecordStatement,
) -> Transaction {
    let signature = statement.sign(&four.consortium, &four.hospital(doctor).doctor_key);
    Transaction::Record(Box::new(RecordTransaction::countersign(
        &four.consortium,
        statement,
        signature,
        RecordNonce::new([7; 16]),
        &four.hospital(server).key,
    )))
}
