//! What the ledger reads: transactions, blocks, founding documents, receipts, proofs.

use std::sync::LazyLock;

use ledger::testing::{FourHospitals, ToyChain};
use ledger::{
    AnchorProof, Application, Block, CheckedTransaction, EncodedBlock, FinalityProof, Genesis,
    GrantState, Header, InclusionProof, Limits, MembershipChange, NodeSetProof, Outcome,
    PossessedSuccession, Receipt, RecordNumber, RecordProof, RequestStatement, Settings,
    StateProof, Transaction, TransactionId, decode_record_statement, encode_record_statement,
};
use scheme::GrantId;

use crate::input::{Again, by_first_byte, seed};

/// A short chain, and what it proves.
struct World {
    hospitals: FourHospitals,
    header: Header,
    /// What its block holds.
    in_block: Vec<TransactionId>,
    examples: Vec<(&'static str, Vec<u8>)>,
}

fn limits() -> Limits {
    Settings::standard().limits()
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let hospitals = FourHospitals::default();
    let mut examples = Vec::new();
    let mut chain = ToyChain::new(&hospitals);
    chain.grow(10, hospitals.opening());
    let block = chain.grow(10, vec![hospitals.record(1, 1), hospitals.grant(7, 1_000)]);
    let block = block.clone();
    for transaction in hospitals.one_of_each() {
        examples.push(("a transaction", transaction.encode()));
        examples.push(("a checked transaction", transaction.encode()));
        match &transaction {
            Transaction::Record(record) => {
                let statement = encode_record_statement(&record.statement);
                examples.push(("a record's statement", statement));
            }
            Transaction::Request(request) => {
                examples.push(("a request's statement", request.statement.encode()));
            }
            _ => {}
        }
    }
    let member = scheme::InstitutionId::new(4);
    for change in [
        MembershipChange::Succeed(hospitals.possessed(1, 1)),
        MembershipChange::Remove(member),
        MembershipChange::Retier(member, ledger::Tier::Observer),
    ] {
        let motion = Transaction::Motion(Box::new(hospitals.motion(1, change)));
        examples.push(("a transaction", motion.encode()));
    }
    let newcomer = hospitals.newcomer(ledger::Tier::Secondary);
    examples.push((
        "an application",
        hospitals.application(&newcomer).to_bytes(),
    ));
    let header = *block.header();
    let finality = FinalityProof::of_run(
        chain.blocks.iter().map(|block| *block.header()).collect(),
        vec![7; 40],
    );
    let finality = finality.expect("a short run");
    let gid = GrantId::of(
        &hospitals.consortium,
        &hospitals.revocation_key(7).verifying_key(),
    );
    let state = StateProof::new::<GrantState>(&chain.view, &gid).expect("memory");
    let absent = StateProof::new::<GrantState>(&chain.view, &GrantId::new([3; 32]));
    let record = RecordProof::new(&chain.view, RecordNumber::new(0)).expect("memory");
    let node = &hospitals.hospital(1).node_key;
    let outcome = Outcome {
        block: header.id(),
        height: header.height,
        state_root: header.state_root,
    };
    let id = hospitals.record(1, 1).id(&hospitals.consortium);
    examples.extend([
        ("a block", block.encode()),
        ("a block", chain.blocks[0].encode()),
        ("a header", header.encode()),
        ("a founding document", hospitals.genesis.encode()),
        (
            "a receipt",
            Receipt::sign(&hospitals.consortium, id, outcome, node).encode(),
        ),
        ("a finality proof", finality.encode()),
        (
            "a finality proof",
            FinalityProof::new(header, Vec::new()).encode(),
        ),
        (
            "an inclusion proof",
            InclusionProof::new(&block, 1).expect("the grant").encode(),
        ),
        ("a state proof", state.encode()),
        ("a state proof", absent.expect("memory").encode()),
        ("a record proof", record.expect("the record").encode()),
        ("a succession", hospitals.possessed(1, 1).to_bytes()),
    ]);
    World {
        in_block: block.identified().map(|(id, _)| id).collect(),
        hospitals,
        header,
        examples,
    }
});

const TEXTS: &[(&str, Again)] = &[
    ("a transaction", |bytes| {
        let transaction = Transaction::decode(bytes).ok()?;
        assert!(bytes.len() <= ledger::TRANSACTION_BYTES_MAX);
        Some(transaction.encode())
    }),
    // With its signatures: one that was decoded and then checked is the one that was checked when decoded.
    ("a checked transaction", |bytes| {
        let here = &WORLD.hospitals.consortium;
        let checked = CheckedTransaction::decode(bytes, here).ok()?;
        let again = CheckedTransaction::new(checked.transaction().clone(), here);
        let again = again.expect("it was checked");
        assert!(again.id() == checked.id() && again.as_bytes() == checked.as_bytes());
        Some(checked.as_bytes().to_vec())
    }),
    ("a block", |bytes| {
        let block = Block::decode(bytes, &limits()).ok();
        let stored = EncodedBlock::new(bytes.to_vec());
        let Some(block) = block else {
            // Reading one header or transaction of it must not fail otherwise than by an error.
            if let Ok(header) = stored.header() {
                assert!(bytes.starts_with(&header.encode()));
                let _ = stored.transaction(header.count.saturating_sub(1).min(64));
            }
            return None;
        };
        assert!(stored.header().as_ref() == Ok(block.header()));
        for (index, transaction) in (0..).zip(block.transactions()) {
            let read = stored.transaction(index).expect("it was decoded");
            assert!(read.as_ref() == Some(transaction));
        }
        let behind = stored.transaction(block.header().count);
        assert!(behind.expect("past the last").is_none());
        let _ = block.holds_its_body();
        Some(block.encode())
    }),
    ("a header", |bytes| {
        Some(Header::decode(bytes).ok()?.encode())
    }),
    ("a founding document", |bytes| {
        let genesis = Genesis::decode(bytes).ok()?;
        // What decodes founds.
        let (block, _) = ledger::genesis(&genesis).expect("it was checked");
        assert!(block.header().consortium == genesis.consortium());
        let _ = genesis.warnings();
        Some(genesis.encode())
    }),
    ("a receipt", |bytes| {
        let receipt = Receipt::decode(bytes).ok()?;
        let _ = receipt.verify(&WORLD.hospitals.consortium);
        Some(receipt.encode())
    }),
    ("a finality proof", |bytes| {
        let proof = FinalityProof::decode(bytes).ok()?;
        let _ = proof.unverified_header();
        Some(proof.encode())
    }),
    ("an inclusion proof", |bytes| {
        let proof = InclusionProof::decode(bytes).ok()?;
        if let Ok((id, transaction)) = proof.verify(&WORLD.header) {
            assert!(id == transaction.id(&WORLD.hospitals.consortium));
            assert!(
                WORLD.in_block.contains(&id),
                "a transaction that is not in the block"
            );
        }
        Some(proof.encode())
    }),
    ("a state proof", |bytes| {
        let proof = StateProof::decode(bytes).ok()?;
        for gid in [GrantId::new([3; 32]), GrantId::new([4; 32])] {
            // Neither grant is in the state.
            if let Ok(found) = proof.verify::<GrantState>(&WORLD.header, &gid) {
                assert!(found.is_none(), "a state that is none");
            }
        }
        Some(proof.encode())
    }),
    ("a proof of a node set", |bytes| {
        Some(NodeSetProof::decode(bytes).ok()?.encode())
    }),
    ("a record proof", |bytes| {
        let proof = RecordProof::decode(bytes).ok()?;
        let stranger = TransactionId::new([3; 32]);
        assert!(proof.verify(&WORLD.header, stranger).is_err());
        Some(proof.encode())
    }),
    ("an anchor proof", |bytes| {
        Some(AnchorProof::decode(bytes).ok()?.encode())
    }),
    ("a record's statement", |bytes| {
        let statement = decode_record_statement(bytes).ok()?;
        Some(encode_record_statement(&statement))
    }),
    ("an application", |bytes| {
        Some(Application::from_bytes(bytes).ok()?.to_bytes())
    }),
    ("a succession", |bytes| {
        Some(PossessedSuccession::from_bytes(bytes).ok()?.to_bytes())
    }),
    ("a request's statement", |bytes| {
        Some(RequestStatement::decode(bytes).ok()?.encode())
    }),
];

/// A decoder by the first byte, and what it decodes.
pub fn run(bytes: &[u8]) {
    by_first_byte(TEXTS, bytes);
}

/// One of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    WORLD
        .examples
        .iter()
        .map(|(name, example)| seed(TEXTS, name, example))
        .collect()
}
