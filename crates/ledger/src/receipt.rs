//! The reply of the improved PBFT: receipts, and the client's side that believes f + 1 equal ones
//! (the paper's section 3.3, step 5; `spec/chain.md` section 9).

use std::collections::BTreeMap;
use std::fmt;

use scheme::{
    BadSignature, ConsortiumId, Context, DecodeError, Decoder, Encoder, Signature, SigningKey,
    VerifyingKey,
};
use thiserror::Error;

use crate::identity::{BlockId, Height, StateRoot, TransactionId};
use crate::policy::NodeSet;

/// A node's word that it has applied the final block which holds a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The node's consensus key.
    pub node: VerifyingKey,
    /// The transaction.
    pub transaction: TransactionId,
    /// Where it stands and what came of it.
    pub outcome: Outcome,
    /// By the node's consensus key.
    pub signature: Signature,
}

/// What receipts must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// The final block that holds the transaction.
    pub block: BlockId,
    /// The block's height.
    pub height: Height,
    /// The root of the state after that block.
    pub state_root: StateRoot,
}

impl Receipt {
    /// Bytes of the encoding: 32 + 32 + 32 + 8 + 32 + 64.
    pub const BYTES: usize = 200;

    /// A node signs, once it has applied the final block.
    pub fn sign(
        consortium: &ConsortiumId,
        transaction: TransactionId,
        outcome: Outcome,
        node_key: &SigningKey,
    ) -> Self {
        let node = node_key.verifying_key();
        let text = text(&transaction, &outcome);
        let signature = node_key.sign(Context::Receipt, consortium, &[PURPOSE, &text]);
        Self {
            node,
            transaction,
            outcome,
            signature,
        }
    }

    /// The node's signature stands.
    ///
    /// # Errors
    /// [`BadSignature`] if not: whoever handed it over is lying.
    pub fn verify(&self, consortium: &ConsortiumId) -> Result<(), BadSignature> {
        let text = text(&self.transaction, &self.outcome);
        self.node.verify(
            Context::Receipt,
            consortium,
            &[PURPOSE, &text],
            &self.signature,
        )
    }

    /// The 200 bytes.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .bytes(self.node.as_bytes())
            .bytes(&text(&self.transaction, &self.outcome))
            .bytes(self.signature.as_bytes())
            .finish()
    }

    /// Reads 200 bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if there are fewer or more.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let receipt = Self {
            node: VerifyingKey::new(from.array("node key")?),
            transaction: TransactionId::new(from.array("transaction id")?),
            outcome: Outcome {
                block: BlockId::new(from.array("block id")?),
                height: Height::new(from.u64("height")?),
                state_root: StateRoot::new(from.array("state root")?),
            },
            signature: Signature::new(from.array("signature of the receipt")?),
        };
        from.finish("the receipt")?;
        Ok(receipt)
    }
}

/// Brings the receipts for one transaction together on the client's side. It owns no clock: the
/// client hands in answers as they come and asks for the [shortfall](Self::shortfall) when its time
/// is up.
#[derive(Debug, Clone)]
pub struct ReceiptCollector {
    consortium: ConsortiumId,
    transaction: TransactionId,
    nodes: NodeSet,
    answers: BTreeMap<VerifyingKey, Answer>,
}

/// What a node answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// A receipt.
    Receipt(Receipt),
    /// It refused the transaction. This is its word alone.
    Refused,
    /// It was too busy to take it.
    Busy,
    /// It took the transaction, or said that it is not final yet.
    Pending,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Not from a node of the set.
    #[error("{0} is no node of this validator epoch; its answer does not count")]
    NotANode(VerifyingKey),
    /// For another transaction.
    #[error("the receipt is for another transaction, {0}")]
    OtherTransaction(TransactionId),
    /// The signature does not stand.
    #[error("the signature of the receipt by {0} does not stand")]
    Signature(VerifyingKey),
    /// The node signed two different receipts. Both together are evidence against it.
    #[error("node {node} signed two different receipts; keep both as evidence")]
    Contradiction {
        /// The node.
        node: VerifyingKey,
        /// Its first receipt; the caller holds the second.
        first: Box<Receipt>,
    },
}

/// Too few equal receipts. Sending the same transaction again is safe.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Shortfall {
    /// f + 1.
    pub needed: usize,
    /// How many receipts agree at most.
    pub equal: usize,
    /// Who answered what.
    pub answered: Vec<(VerifyingKey, Answer)>,
    /// Who did not answer.
    pub silent: Vec<VerifyingKey>,
}

impl fmt::Display for Shortfall {
    /// Nodes by the first eight digits of their keys, grouped by what they answered.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} equal receipts came", self.equal, self.needed)?;
        let answered = |is: fn(&Answer) -> bool| {
            let nodes = self.answered.iter();
            let nodes = nodes.filter(move |(_, answer)| is(answer));
            nodes.map(|(node, _)| *node).collect::<Vec<_>>()
        };
        let groups = [
            (
                "receipts of",
                answered(|it| matches!(it, Answer::Receipt(_))),
            ),
            ("not final yet at", answered(|it| *it == Answer::Pending)),
            ("refused by", answered(|it| *it == Answer::Refused)),
            ("too busy", answered(|it| *it == Answer::Busy)),
            ("silent", self.silent.clone()),
        ];
        for (what, nodes) in groups {
            for (place, node) in nodes.iter().enumerate() {
                let key = node.to_string();
                let before = if place == 0 { what } else { "," };
                let gap = if place == 0 { "; " } else { "" };
                write!(f, "{gap}{before} {}", &key[..SHORT_KEY_DIGITS])?;
            }
        }
        f.write_str("; send the same transaction again, which is safe")
    }
}

impl ReceiptCollector {
    /// For a transaction sent to the nodes of this set.
    pub fn new(consortium: ConsortiumId, transaction: TransactionId, nodes: NodeSet) -> Self {
        Self {
            consortium,
            transaction,
            nodes,
            answers: BTreeMap::new(),
        }
    }

    /// Takes a receipt. A later receipt of a node replaces a refusal, and never another receipt.
    /// Returns the outcome once f + 1 receipts agree on it.
    ///
    /// # Errors
    /// [`ReceiptError`]; the answer does not count.
    pub fn receive(&mut self, receipt: Receipt) -> Result<Option<Outcome>, ReceiptError> {
        let node = receipt.node;
        self.nodes
            .by_key(&node)
            .ok_or(ReceiptError::NotANode(node))?;
        if receipt.transaction != self.transaction {
            return Err(ReceiptError::OtherTransaction(receipt.transaction));
        }
        receipt
            .verify(&self.consortium)
            .map_err(|_| ReceiptError::Signature(node))?;
        if let Some(Answer::Receipt(first)) = self.answers.get(&node)
            && first.outcome != receipt.outcome
        {
            return Err(ReceiptError::Contradiction {
                node,
                first: Box::new(*first),
            });
        }
        self.answers.insert(node, Answer::Receipt(receipt));
        Ok(self.outcome())
    }

    /// Notes that a node answered without a receipt.
    ///
    /// # Errors
    /// [`ReceiptError::NotANode`] if it is none of the set.
    pub fn note(&mut self, node: VerifyingKey, answer: NoReceipt) -> Result<(), ReceiptError> {
        self.nodes
            .by_key(&node)
            .ok_or(ReceiptError::NotANode(node))?;
        let answer = match answer {
            NoReceipt::Refused => Answer::Refused,
            NoReceipt::Busy => Answer::Busy,
            NoReceipt::Pending => Answer::Pending,
        };
        match self.answers.get(&node) {
            Some(Answer::Receipt(_)) => {}
            _ => {
                self.answers.insert(node, answer);
            }
        }
        Ok(())
    }

    /// What f + 1 receipts agree on. At most f nodes are faulty, so one of them is correct, and
    /// correct nodes never contradict each other.
    pub fn outcome(&self) -> Option<Outcome> {
        let needed = self.nodes.quorum().one_correct();
        self.tally()
            .into_iter()
            .find(|(_, count)| *count >= needed)
            .map(|(outcome, _)| outcome)
    }

    /// The receipts that agree on the outcome, for keeping as proof.
    pub fn receipts(&self) -> Vec<Receipt> {
        let agreed = self.outcome();
        self.answers
            .values()
            .filter_map(|answer| match answer {
                Answer::Receipt(receipt) if Some(receipt.outcome) == agreed => Some(*receipt),
                _ => None,
            })
            .collect()
    }

    /// What to report when the time is up and there is no outcome.
    pub fn shortfall(&self) -> Shortfall {
        let silent = self
            .nodes
            .nodes()
            .iter()
            .map(|node| node.key)
            .filter(|key| !self.answers.contains_key(key))
            .collect();
        Shortfall {
            needed: self.nodes.quorum().one_correct(),
            equal: self.tally().into_values().max().unwrap_or(0),
            answered: self
                .answers
                .iter()
                .map(|(node, answer)| (*node, *answer))
                .collect(),
            silent,
        }
    }

    fn tally(&self) -> BTreeMap<Outcome, usize> {
        let mut tally = BTreeMap::new();
        for answer in self.answers.values() {
            if let Answer::Receipt(receipt) = answer {
                *tally.entry(receipt.outcome).or_insert(0) += 1;
            }
        }
        tally
    }
}

/// An answer that is no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReceipt {
    /// The node refused the transaction.
    Refused,
    /// The node was too busy.
    Busy,
    /// The node took the transaction, or said that it is not final yet.
    Pending,
}

fn text(transaction: &TransactionId, outcome: &Outcome) -> Vec<u8> {
    Encoder::new()
        .bytes(transaction.as_bytes())
        .bytes(outcome.block.as_bytes())
        .u64(outcome.height.number())
        .bytes(outcome.state_root.as_bytes())
        .finish()
}

/// 32 bits of a key tell the nodes of a consortium apart for a person's eyes.
const SHORT_KEY_DIGITS: usize = 8;

/// Sets a node's receipt apart from a cloud's, which is signed under the same context.
const PURPOSE: &[u8] = b"transaction";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FourHospitals;

    fn outcome(height: u64) -> Outcome {
        Outcome {
            block: BlockId::new([height as u8; 32]),
            height: Height::new(height),
            state_root: StateRoot::new([1; 32]),
        }
    }

    const TRANSACTION: TransactionId = TransactionId::new([5; 32]);

    fn collector(four: &FourHospitals) -> ReceiptCollector {
        let nodes = four.genesis.node_set().expect("four hospitals");
        ReceiptCollector::new(four.consortium, TRANSACTION, nodes)
    }

    fn receipt(four: &FourHospitals, hospital: u32, outcome: Outcome) -> Receipt {
        let key = &four.hospital(hospital).node_key;
        Receipt::sign(&four.consortium, TRANSACTION, outcome, key)
    }

    #[test]
    fn f_plus_1_equal_receipts_are_believed_and_fewer_are_not() {
        let four = FourHospitals::default();
        let mut collector = collector(&four);
        assert_eq!(collector.receive(receipt(&four, 1, outcome(1))), Ok(None));
        // The same node again counts once.
        assert_eq!(collector.receive(receipt(&four, 1, outcome(1))), Ok(None));
        // A lying node that names another block does not count towards it.
        assert_eq!(collector.receive(receipt(&four, 2, outcome(2))), Ok(None));
        assert_eq!(collector.outcome(), None);
        let done = collector.receive(receipt(&four, 4, outcome(1)));
        assert_eq!(done, Ok(Some(outcome(1))));
        assert_eq!(collector.receipts().len(), 2);
    }

    #[test]
    fn a_shortfall_says_who_answered_what() {
        let four = FourHospitals::default();
        let mut collector = collector(&four);
        let key = |hospital| four.hospital(hospital).node_key.verifying_key();
        collector
            .receive(receipt(&four, 1, outcome(1)))
            .expect("a node");
        collector.note(key(2), NoReceipt::Refused).expect("a node");
        collector.note(key(3), NoReceipt::Busy).expect("a node");
        // A refusal does not undo a receipt.
        collector.note(key(1), NoReceipt::Refused).expect("a node");
        let shortfall = collector.shortfall();
        assert_eq!((shortfall.needed, shortfall.equal), (2, 1));
        assert_eq!(shortfall.silent, [key(4)]);
        assert_eq!(shortfall.answered.len(), 3);
        assert!(shortfall.answered.contains(&(key(2), Answer::Refused)));
        assert!(shortfall.answered.contains(&(key(3), Answer::Busy)));
        let text = shortfall.to_string();
        let short = |hospital| key(hospital).to_string()[..8].to_owned();
        assert_eq!(
            text,
            format!(
                "1 of 2 equal receipts came; receipts of {}; refused by {}; too busy {}; silent {}; \
                 send the same transaction again, which is safe",
                short(1),
                short(2),
                short(3),
                short(4)
            )
        );
        // A receipt after a refusal counts.
        assert_eq!(
            collector.receive(receipt(&four, 2, outcome(1))),
            Ok(Some(outcome(1)))
        );
    }

    /// The story: nodes that had taken the transaction and said that it is not final yet were reported
    /// as silent, which sends a person to look for machines that are down.
    #[test]
    fn a_node_that_waits_with_the_client_is_not_called_silent() {
        let four = FourHospitals::default();
        let mut collector = collector(&four);
        let key = |hospital| four.hospital(hospital).node_key.verifying_key();
        for hospital in [1, 2, 3] {
            collector
                .note(key(hospital), NoReceipt::Pending)
                .expect("a node");
        }
        collector.note(key(2), NoReceipt::Refused).expect("a node");
        let shortfall = collector.shortfall();
        assert_eq!(shortfall.silent, [key(4)]);
        assert!(shortfall.answered.contains(&(key(1), Answer::Pending)));
        // A node's last word counts.
        assert!(shortfall.answered.contains(&(key(2), Answer::Refused)));
        let mut pending = [1, 3].map(|hospital| (key(hospital), hospital));
        pending.sort_unstable();
        let pending = pending.map(|(key, _)| key.to_string()[..8].to_owned());
        let text = shortfall.to_string();
        let expected = format!(
            "; not final yet at {}, {}; refused by",
            pending[0], pending[1]
        );
        assert!(
            text.starts_with("0 of 2") && text.contains(&expected),
            "{text}"
        );
        // A receipt replaces it, and it replaces no receipt.
        collector
            .receive(receipt(&four, 1, outcome(1)))
            .expect("a node");
        collector.note(key(1), NoReceipt::Pending).expect("a node");
        assert_eq!(collector.shortfall().equal, 1);
    }

    #[test]
    fn receipts_of_others_for_others_forged_or_contradicting_do_not_count() {
        let four = FourHospitals::default();
        let mut collector = collector(&four);
        let stranger = SigningKey::from_seed([9; 32]);
        let foreign = Receipt::sign(&four.consortium, TRANSACTION, outcome(1), &stranger);
        assert_eq!(
            collector.receive(foreign),
            Err(ReceiptError::NotANode(stranger.verifying_key()))
        );
        let other = TransactionId::new([6; 32]);
        let key = &four.hospital(1).node_key;
        assert_eq!(
            collector.receive(Receipt::sign(&four.consortium, other, outcome(1), key)),
            Err(ReceiptError::OtherTransaction(other))
        );
        let node = key.verifying_key();
        let forged = Receipt {
            outcome: outcome(2),
            ..receipt(&four, 1, outcome(1))
        };
        assert_eq!(
            collector.receive(forged),
            Err(ReceiptError::Signature(node))
        );
        let first = receipt(&four, 1, outcome(1));
        collector.receive(first).expect("a node");
        assert_eq!(
            collector.receive(receipt(&four, 1, outcome(2))),
            Err(ReceiptError::Contradiction {
                node,
                first: Box::new(first)
            })
        );
        assert_eq!(collector.outcome(), None);
    }

    #[test]
    fn a_receipt_survives_its_encoding_and_no_flipped_byte_does() {
        let four = FourHospitals::default();
        let receipt = receipt(&four, 1, outcome(1));
        let bytes = receipt.encode();
        assert_eq!(bytes.len(), Receipt::BYTES);
        assert_eq!(Receipt::decode(&bytes), Ok(receipt));
        assert_eq!(receipt.verify(&four.consortium), Ok(()));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let read = Receipt::decode(&flipped).expect("any 200 bytes have the layout");
            assert_eq!(
                read.verify(&four.consortium),
                Err(BadSignature),
                "byte {at}"
            );
            assert!(Receipt::decode(&bytes[..at]).is_err());
        }
    }
}
