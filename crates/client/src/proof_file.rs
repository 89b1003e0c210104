//! A proof that whoever holds it can check alone, with the founding document and nothing else: that a
//! record stands on the chain, what the chain says of a grant, or that an access log is complete. The
//! layout, and how to check it without this program, stand in `spec/verifier.md`.
//!
//! The file names no node that gave it, because none is believed: it leads from the founders by their
//! successors' proofs to the nodes of each block that it speaks of, and from n - f of their signatures
//! to what the block and the state after it say.

use std::collections::BTreeMap;

use chain::EngineCertificates;
use ledger::{
    AccessEntry, FinalityProof, Genesis, GrantState, Header, Height, InclusionProof, NodeSet,
    NodeSetProof, ProofError, RecordTransaction, StateProof, Transaction, TransactionId,
    check_transaction,
};
use scheme::{
    ConsortiumId, DecodeError, Decoder, Encoder, GrantId, Timestamp, ValidatorEpoch, VerifyingKey,
};
use thiserror::Error;

/// A proof of one claim, with all that leads to it from the founding document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// Of which consortium.
    pub consortium: ConsortiumId,
    /// The node sets after the founders', each for which it is another than the one before, ascending.
    pub node_sets: Vec<NodeSetProof>,
    /// What is claimed.
    pub claim: Claim,
}

/// What a file claims, with the proofs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A record stands on the chain.
    Record {
        /// Its transaction.
        id: TransactionId,
        /// Of its block.
        finality: FinalityProof,
        /// In its block.
        inclusion: InclusionProof,
    },
    /// What the state says of a grant, or that it says nothing.
    Grant {
        /// Which grant.
        gid: GrantId,
        /// Of the block after which the state says so.
        finality: FinalityProof,
        /// In the state after it.
        state: StateProof,
    },
    /// Every access under a grant up to a block.
    AccessLog {
        /// Which grant.
        gid: GrantId,
        /// Of that block.
        finality: FinalityProof,
        /// How many accesses each key made, in the state after it.
        state: StateProof,
        /// The transactions that hold the accesses, in the order of the chain.
        accesses: Vec<(FinalityProof, InclusionProof)>,
    },
}

/// Where something stands on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The block's height.
    pub height: Height,
    /// The block's time.
    pub time: Timestamp,
}

/// What a file proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proved {
    /// The record, and where it stands. Its doctor's signature was checked.
    Record {
        /// Its transaction's id.
        id: TransactionId,
        /// Its block.
        place: Place,
        /// What stands there.
        record: Box<RecordTransaction>,
    },
    /// The grant as of a block; `None` if there was none.
    Grant {
        /// Which.
        gid: GrantId,
        /// As of which block.
        as_of: Place,
        /// What the state says.
        state: Option<GrantState>,
    },
    /// All accesses under the grant as of a block. The signature of each was checked.
    AccessLog {
        /// Which grant.
        gid: GrantId,
        /// As of which block.
        as_of: Place,
        /// The grant.
        state: GrantState,
        /// The accesses in the order of the chain, each with its block.
        accesses: Vec<(Place, AccessEntry)>,
    },
}

/// Why a file proves nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotProven {
    /// The bytes are no proof.
    #[error("the file is no proof, or it was cut or changed")]
    Malformed(#[from] DecodeError),
    /// Of a later layout.
    #[error(
        "the file holds a claim of kind {0}, which this program does not know: use a later one"
    )]
    UnknownKind(u8),
    /// The founding document is another consortium's.
    #[error("the file is about another consortium than the founding document founds")]
    OtherConsortium,
    /// The founding document names no nodes.
    #[error("the founding document founds no consortium")]
    Founding,
    /// A step from the founders to later nodes does not stand.
    #[error(
        "step {step} from the founders to later nodes does not stand: one before it may be missing"
    )]
    NodeSet {
        /// Counted from 1.
        step: usize,
        /// Why.
        source: ProofError,
    },
    /// A block is not proved final.
    #[error(
        "block {height} is not proved final by the nodes that the file leads to for its validator epoch: it was changed, or a step to those nodes is missing"
    )]
    NotFinal {
        /// Which block the file says it is.
        height: Height,
        /// Why.
        source: ProofError,
    },
    /// A transaction or a value does not follow from its block.
    #[error("the {what} does not follow from block {height}")]
    NotThere {
        /// What was to be shown.
        what: &'static str,
        /// In or after which block.
        height: Height,
        /// Why.
        source: ProofError,
    },
    /// What is shown is something else than what the file says it is about.
    #[error("what is shown in block {height} is not the {what} that the file is about")]
    AnotherOne {
        /// What was to be shown.
        what: &'static str,
        /// In which block.
        height: Height,
    },
    /// A signature does not stand.
    #[error("a signature of the transaction in block {0} does not stand")]
    Signature(Height),
    /// The state has no such grant.
    #[error("the chain has no such grant as of block {0}, so there is no log of it")]
    NoGrant(Height),
    /// An access is missing, or there are more than the state counts.
    #[error(
        "the log is not complete or not of this time: as of block {height} the access key {key} made {counted} accesses, and the file shows {shown}"
    )]
    Incomplete {
        /// As of which block.
        height: Height,
        /// Which key.
        key: VerifyingKey,
        /// How many there were.
        counted: u64,
        /// How many different ones up to there are shown.
        shown: u64,
    },
    /// An access of no key of the grant, one shown twice, or one out of order.
    #[error("the log shows {0} in block {1}")]
    Surplus(&'static str, Height),
}

/// What a file begins with.
const MAGIC: &[u8] = b"WILLIS-V1-PROOF";
const RECORD: u8 = 1;
const GRANT: u8 = 2;
const ACCESS_LOG: u8 = 3;

/// Steps from the founders on: one for each change of the nodes, of which a busy consortium makes one a
/// day for eleven years.
const NODE_SETS_MAX: usize = 4_096;
/// A step has at most 26 KiB at 255 nodes.
const NODE_SET_BYTES_MAX: usize = 256 << 10;
/// 256 headers and a certificate of 255 nodes: 84 KiB.
const FINALITY_BYTES_MAX: usize = 128 << 10;
/// A transaction of 64 KiB, or a value of the state, and its path.
const PART_BYTES_MAX: usize = 512 << 10;
/// Transactions of a log: what 32 access keys can use in a grant's time by far.
const ACCESSES_MAX: usize = 65_536;

impl ProofFile {
    /// The longest file that is read, in bytes.
    pub const BYTES_MAX: u64 = 256 << 20;

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(MAGIC)
            .u8(match &self.claim {
                Claim::Record { .. } => RECORD,
                Claim::Grant { .. } => GRANT,
                Claim::AccessLog { .. } => ACCESS_LOG,
            })
            .bytes(self.consortium.as_bytes())
            .u16(u16::try_from(self.node_sets.len()).expect("at most 4,096 steps"));
        for step in &self.node_sets {
            out.var(&step.encode());
        }
        match &self.claim {
            Claim::Record {
                id,
                finality,
                inclusion,
            } => {
                out.bytes(id.as_bytes())
                    .var(&finality.encode())
                    .var(&inclusion.encode());
            }
            Claim::Grant {
                gid,
                finality,
                state,
            } => {
                out.bytes(gid.as_bytes())
                    .var(&finality.encode())
                    .var(&state.encode());
            }
            Claim::AccessLog {
                gid,
                finality,
                state,
                accesses,
            } => {
                out.bytes(gid.as_bytes())
                    .var(&finality.encode())
                    .var(&state.encode())
                    .u32(u32::try_from(accesses.len()).expect("at most 65,536 transactions"));
                for (finality, inclusion) in accesses {
                    out.var(&finality.encode()).var(&inclusion.encode());
                }
            }
        }
        out.finish()
    }

    /// Reads a file. Nothing is checked yet.
    ///
    /// # Errors
    /// [`NotProven::Malformed`], [`NotProven::UnknownKind`].
    pub fn decode(bytes: &[u8]) -> Result<Self, NotProven> {
        let mut from = Decoder::new(bytes);
        if from.bytes("the file's beginning", MAGIC.len())? != MAGIC {
            return Err(invalid("it begins otherwise").into());
        }
        let kind = from.u8("the kind of claim")?;
        let consortium = ConsortiumId::new(from.array("consortium")?);
        let steps = usize::from(from.u16("the number of steps")?);
        if steps > NODE_SETS_MAX {
            return Err(invalid("it has more steps than there may be").into());
        }
        let node_sets = (0..steps)
            .map(|_| NodeSetProof::decode(from.var("a step", NODE_SET_BYTES_MAX)?))
            .collect::<Result<_, _>>()?;
        let claim = match kind {
            RECORD => Claim::Record {
                id: TransactionId::new(from.array("transaction id")?),
                finality: finality(&mut from)?,
                inclusion: inclusion(&mut from)?,
            },
            GRANT => Claim::Grant {
                gid: GrantId::new(from.array("gid")?),
                finality: finality(&mut from)?,
                state: StateProof::decode(from.var("state proof", PART_BYTES_MAX)?)?,
            },
            ACCESS_LOG => Claim::AccessLog {
                gid: GrantId::new(from.array("gid")?),
                finality: finality(&mut from)?,
                state: StateProof::decode(from.var("state proof", PART_BYTES_MAX)?)?,
                accesses: {
                    let count = from.count("the number of accesses", ACCESSES_MAX)?;
                    (0..count)
                        .map(|_| Ok((finality(&mut from)?, inclusion(&mut from)?)))
                        .collect::<Result<_, DecodeError>>()?
                },
            },
            other => return Err(NotProven::UnknownKind(other)),
        };
        from.finish("the proof")?;
        Ok(Self {
            consortium,
            node_sets,
            claim,
        })
    }

    /// Checks all of it against a founding document.
    ///
    /// # Errors
    /// [`NotProven`] with what does not hold.
    pub fn check(&self, founding: &Genesis) -> Result<Proved, NotProven> {
        if founding.consortium() != self.consortium {
            return Err(NotProven::OtherConsortium);
        }
        let nodes = Nodes::follow(founding, &self.node_sets)?;
        match &self.claim {
            Claim::Record {
                id,
                finality,
                inclusion,
            } => {
                let header = nodes.header(finality)?;
                match self.transaction(header, inclusion, "record")? {
                    (found, Transaction::Record(record)) if found == *id => Ok(Proved::Record {
                        id: found,
                        place: Place::of(header),
                        record,
                    }),
                    _ => Err(NotProven::AnotherOne {
                        what: "record",
                        height: header.height,
                    }),
                }
            }
            Claim::Grant {
                gid,
                finality,
                state,
            } => {
                let header = nodes.header(finality)?;
                Ok(Proved::Grant {
                    gid: *gid,
                    as_of: Place::of(header),
                    state: grant(header, gid, state)?,
                })
            }
            Claim::AccessLog {
                gid,
                finality,
                state,
                accesses,
            } => {
                let header = nodes.header(finality)?;
                let as_of = Place::of(header);
                let state = grant(header, gid, state)?.ok_or(NotProven::NoGrant(as_of.height))?;
                let accesses = self.log(&nodes, as_of.height, &state, accesses)?;
                Ok(Proved::AccessLog {
                    gid: *gid,
                    as_of,
                    state,
                    accesses,
                })
            }
        }
    }

    /// The accesses of the grant's keys, if they are as many as the state counts, each once.
    fn log(
        &self,
        nodes: &Nodes,
        as_of: Height,
        state: &GrantState,
        shown: &[(FinalityProof, InclusionProof)],
    ) -> Result<Vec<(Place, AccessEntry)>, NotProven> {
        let mut next: BTreeMap<VerifyingKey, u64> =
            state.access.iter().map(|(key, _)| (*key, 0)).collect();
        let mut accesses = Vec::new();
        let mut last = Height::new(0);
        for (finality, inclusion) in shown {
            let header = nodes.header(finality)?;
            let height = header.height;
            if height > as_of {
                return Err(NotProven::Surplus(
                    "an access after the block it is of",
                    height,
                ));
            }
            if height < last {
                return Err(NotProven::Surplus("an access out of order", height));
            }
            last = height;
            let (_, transaction) = self.transaction(header, inclusion, "access")?;
            let Transaction::Access(access) = transaction else {
                return Err(NotProven::AnotherOne {
                    what: "access",
                    height,
                });
            };
            let mut own = 0;
            for entry in access.entries {
                // One transaction may hold accesses under several grants.
                let Some(number) = next.get_mut(&entry.access_key) else {
                    continue;
                };
                // Consensus numbers them without a gap, so another number is one that is shown twice,
                // or after one that is not shown.
                if entry.number.number() != *number {
                    return Err(NotProven::Surplus(
                        "an access whose number is not the next of its key",
                        height,
                    ));
                }
                *number += 1;
                own += 1;
                accesses.push((Place::of(header), entry));
            }
            if own == 0 {
                return Err(NotProven::Surplus("no access under the grant", height));
            }
        }
        for (key, counted) in &state.access {
            let shown = next.get(key).copied().unwrap_or_default();
            if shown != counted.number() {
                return Err(NotProven::Incomplete {
                    height: as_of,
                    key: *key,
                    counted: counted.number(),
                    shown,
                });
            }
        }
        Ok(accesses)
    }

    /// A transaction of a final block, with its users' signatures checked.
    fn transaction(
        &self,
        header: &Header,
        inclusion: &InclusionProof,
        what: &'static str,
    ) -> Result<(TransactionId, Transaction), NotProven> {
        let height = header.height;
        let found = inclusion.verify(header);
        let (id, transaction) = found.map_err(|source| NotProven::NotThere {
            what,
            height,
            source,
        })?;
        check_transaction(&transaction, &self.consortium)
            .map_err(|_| NotProven::Signature(height))?;
        Ok((id, transaction))
    }
}

fn grant(
    header: &Header,
    gid: &GrantId,
    state: &StateProof,
) -> Result<Option<GrantState>, NotProven> {
    let found = state.verify::<GrantState>(header, gid);
    found.map_err(|source| NotProven::NotThere {
        what: "state of the grant",
        height: header.height,
        source,
    })
}

impl Place {
    fn of(header: &Header) -> Self {
        Self {
            height: header.height,
            time: header.time,
        }
    }
}

/// The node sets that a file leads to.
struct Nodes {
    consortium: ConsortiumId,
    certificates: EngineCertificates,
    /// Each by the first validator epoch in which it is; the founders' is 0.
    sets: BTreeMap<ValidatorEpoch, NodeSet>,
}

impl Nodes {
    fn follow(founding: &Genesis, steps: &[NodeSetProof]) -> Result<Self, NotProven> {
        let consortium = founding.consortium();
        let settings = &founding.settings;
        let certificates = EngineCertificates::new(settings.leader_term);
        let mut last = founding.node_set().map_err(|_| NotProven::Founding)?;
        let mut sets = BTreeMap::from([(last.epoch(), last.clone())]);
        for (step, proof) in (1..).zip(steps) {
            let next = proof.verify(&consortium, settings, &last, &certificates);
            last = next.map_err(|source| NotProven::NodeSet { step, source })?;
            sets.insert(last.epoch(), last.clone());
        }
        Ok(Self {
            consortium,
            certificates,
            sets,
        })
    }

    fn header<'a>(&self, finality: &'a FinalityProof) -> Result<&'a Header, NotProven> {
        let height = finality.unverified_header().height;
        let epoch = finality.unverified_header().epoch;
        let set = self.sets.range(..=epoch).next_back();
        let (_, set) = set.expect("the founders' set is that of epoch 0");
        finality
            .verify(&self.consortium, &set.in_epoch(epoch), &self.certificates)
            .map_err(|source| NotProven::NotFinal { height, source })
    }
}

fn finality(from: &mut Decoder<'_>) -> Result<FinalityProof, DecodeError> {
    FinalityProof::decode(from.var("finality proof", FINALITY_BYTES_MAX)?)
}

fn inclusion(from: &mut Decoder<'_>) -> Result<InclusionProof, DecodeError> {
    InclusionProof::decode(from.var("inclusion proof", PART_BYTES_MAX)?)
}

fn invalid(why: &'static str) -> DecodeError {
    let what = "the proof";
    DecodeError::Invalid { what, why }
}
