//! Questions to the chain and what f + 1 nodes agree to.
//!
//! Any node can lie, f can lie together. A client asks all, at one final height, and believes an
//! answer that f + 1 signed alike.

use std::collections::BTreeMap;

use ledger::{
    CENTRE_KEYS_MAX, CentreKeyNumber, CentreKeyStanding, GrantState, Height, KeyHash, KeyStatus,
    KeyUse, Moment, NodeSet, ReadError, Registrant, StateRoot, TransactionId, View,
};
use scheme::{
    BadSignature, ConsortiumId, Context, DecodeError, Decoder, Digest, DoctorId, Encoder, GrantId,
    HpkePublicKey, InstitutionId, NODES_MAX, Signature, SigningKey, Tag, Timestamp, ValidatorEpoch,
    VerifyingKey, WriterEpoch, WriterEpochPublicKey,
};
use thiserror::Error;

/// The longest answer: 4,096 writer epochs of an institution, one a day for eleven years.
const ANSWER_BYTES_MAX: usize = 512 * 1024;
const WRITER_EPOCHS_MAX: usize = 4_096;
/// Tags of one question: those of the largest record.
pub const TAGS_MAX: usize = 1_024;

/// What a client asks of the final state (`spec/formats.md`, M10).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Question {
    /// Whose key this is and whether it is in force.
    UserKey(KeyHash),
    /// All writer epochs of an institution.
    WriterEpochs(InstitutionId),
    /// A grant's entry.
    Grant(GrantId),
    /// The HPKE keys of the accounting nodes of a validator epoch.
    NodeKeys(ValidatorEpoch),
    /// All keys that the registration centre has had.
    CentreKeys,
    /// Which grant names this access key, and its entry: by it a doctor finds the grant that answers a
    /// request.
    GrantOf(VerifyingKey),
    /// Which record each of these index tags of a writer epoch belongs to.
    Records {
        /// Whose.
        institution: InstitutionId,
        /// Under which R.
        epoch: WriterEpoch,
        /// At most [`TAGS_MAX`].
        tags: Vec<Tag>,
    },
}

impl Question {
    /// The bytes that travel and are signed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::UserKey(hash) => out.u8(1).bytes(hash.as_bytes()),
            Self::WriterEpochs(institution) => out.u8(2).u32(institution.number()),
            Self::Grant(gid) => out.u8(3).bytes(gid.as_bytes()),
            Self::NodeKeys(epoch) => out.u8(5).u64(epoch.number()),
            Self::CentreKeys => out.u8(6),
            Self::GrantOf(access_key) => out.u8(7).bytes(access_key.as_bytes()),
            Self::Records {
                institution,
                epoch,
                tags,
            } => {
                out.u8(4)
                    .u32(institution.number())
                    .u32(epoch.number())
                    .u32(tags.len() as u32);
                tags.iter()
                    .fold(&mut out, |out, tag| out.bytes(tag.as_bytes()))
            }
        };
        out.finish()
    }

    /// Decodes a question.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the question";
        let mut from = Decoder::new(bytes);
        let question = match from.u8(WHAT)? {
            1 => Self::UserKey(KeyHash::new(from.array(WHAT)?)),
            2 => Self::WriterEpochs(InstitutionId::new(from.u32(WHAT)?)),
            3 => Self::Grant(GrantId::new(from.array(WHAT)?)),
            4 => {
                let institution = InstitutionId::new(from.u32(WHAT)?);
                let epoch = WriterEpoch::new(from.u32(WHAT)?);
                let count = from.count("the tags asked for", TAGS_MAX)?;
                let tags = (0..count)
                    .map(|_| Ok(Tag::new(from.array(WHAT)?)))
                    .collect::<Result<_, DecodeError>>()?;
                Self::Records {
                    institution,
                    epoch,
                    tags,
                }
            }
            5 => Self::NodeKeys(ValidatorEpoch::new(from.u64(WHAT)?)),
            6 => Self::CentreKeys,
            7 => Self::GrantOf(VerifyingKey::new(from.array(WHAT)?)),
            _ => {
                return Err(DecodeError::Invalid {
                    what: WHAT,
                    why: "it is of an unknown kind",
                });
            }
        };
        from.finish(WHAT)?;
        Ok(question)
    }
}

/// A key as the chain knows it at a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAnswer {
    /// What it is for.
    pub usage: KeyUse,
    /// Whose it is.
    pub registrant: Registrant,
    /// Whether its certificate is in force.
    pub in_force: bool,
}

/// A grant as the chain knows it at a height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantAnswer {
    /// SHA-256 of the grant.
    pub grant: Digest,
    /// Nothing is read before.
    pub not_before: Timestamp,
    /// Nothing is read from here on.
    pub expiry: Timestamp,
    /// When it became final.
    pub recorded: Height,
    /// Whose accounting nodes serve it.
    pub epoch: ValidatorEpoch,
    /// The first master node's institution.
    pub master: InstitutionId,
    /// Whether it is revoked.
    pub revoked: bool,
}

impl GrantAnswer {
    /// `None` if it was not final at that height.
    fn as_of(grant: &GrantState, at: Height) -> Option<Self> {
        let before = |moment: &Moment| moment.height <= at;
        before(&grant.recorded).then(|| Self {
            grant: grant.grant,
            not_before: grant.not_before,
            expiry: grant.expiry,
            recorded: grant.recorded.height,
            epoch: grant.epoch,
            master: grant.master,
            revoked: grant.revoked.as_ref().is_some_and(before),
        })
    }

    fn encode(&self, out: &mut Encoder) {
        out.bytes(self.grant.as_bytes())
            .u64(self.not_before.number())
            .u64(self.expiry.number())
            .u64(self.recorded.number())
            .u64(self.epoch.number())
            .u32(self.master.number())
            .u8(u8::from(self.revoked));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "the answer";
        Ok(Self {
            grant: Digest::new(from.array(WHAT)?),
            not_before: Timestamp::new(from.u64(WHAT)?),
            expiry: Timestamp::new(from.u64(WHAT)?),
            recorded: Height::new(from.u64(WHAT)?),
            epoch: ValidatorEpoch::new(from.u64(WHAT)?),
            master: InstitutionId::new(from.u32(WHAT)?),
            revoked: flag(from, WHAT)?,
        })
    }
}

/// A key of the registration centre as the chain knows it at a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CentreKeyAnswer {
    /// Which.
    pub number: CentreKeyNumber,
    /// The key.
    pub key: VerifyingKey,
    /// When it became the current one.
    pub begun: Height,
    /// How it stands.
    pub standing: CentreKeyStanding,
}

/// An answer, typed (`spec/formats.md`, M11).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Question::UserKey`]; `None` if it was never registered.
    UserKey(Option<KeyAnswer>),
    /// To [`Question::WriterEpochs`], ascending.
    WriterEpochs(Vec<(WriterEpoch, WriterEpochPublicKey)>),
    /// To [`Question::Grant`]; `None` if there is none.
    Grant(Option<GrantAnswer>),
    /// To [`Question::Records`], in its order.
    Records(Vec<Option<TransactionId>>),
    /// To [`Question::NodeKeys`], in the order of the accounting nodes; those that are on the chain.
    NodeKeys(Vec<(InstitutionId, HpkePublicKey)>),
    /// To [`Question::CentreKeys`], by their numbers from 0; the last is the current one.
    CentreKeys(Vec<CentreKeyAnswer>),
    /// To [`Question::GrantOf`]; `None` if no grant names the key.
    GrantOf(Option<(GrantId, GrantAnswer)>),
}

/// Answers a question from a node's final state, as of height `at`, which must not be above the
/// state's own.
///
/// # Errors
/// [`ReadError`] if the store fails.
pub fn answer_at(view: &dyn View, question: &Question, at: Height) -> Result<Answer, ReadError> {
    let before = |moment: &Moment| moment.height <= at;
    Ok(match question {
        Question::UserKey(hash) => Answer::UserKey(
            ledger::user_key(view, *hash)?
                .filter(|key| before(&key.registered))
                .map(|key| KeyAnswer {
                    usage: key.usage,
                    registrant: key.registrant,
                    in_force: match key.status {
                        KeyStatus::InForce => true,
                        KeyStatus::RevokedSince(moment) => !before(&moment),
                    },
                }),
        ),
        Question::WriterEpochs(institution) => Answer::WriterEpochs(
            ledger::writer_epochs(view, *institution)?
                .into_iter()
                .filter(|state| before(&state.begun))
                .take(WRITER_EPOCHS_MAX)
                .map(|state| (state.epoch, state.key))
                .collect(),
        ),
        Question::NodeKeys(epoch) => {
            let mut found = Vec::new();
            if let Some(set) = ledger::node_set(view, *epoch)? {
                for node in set.accounting() {
                    let key = ledger::serving_node_key(view, *epoch, node)?;
                    let key = key.filter(|key| before(&key.recorded));
                    found.extend(key.map(|key| (node.institution, key.key)));
                }
            }
            Answer::NodeKeys(found)
        }
        Question::Records {
            institution,
            epoch,
            tags,
        } => Answer::Records(
            tags.iter()
                .map(|tag| {
                    let record = ledger::record_by_tag(view, *institution, *epoch, tag)?;
                    let record = record.filter(|record| record.position.height <= at);
                    Ok(record.map(|record| record.transaction))
                })
                .collect::<Result<_, ReadError>>()?,
        ),
        Question::Grant(gid) => Answer::Grant(grant_at(view, *gid, at)?),
        Question::GrantOf(access_key) => {
            Answer::GrantOf(match ledger::grant_of(view, access_key)? {
                None => None,
                Some(gid) => grant_at(view, gid, at)?.map(|grant| (gid, grant)),
            })
        }
        Question::CentreKeys => Answer::CentreKeys(
            ledger::centre_keys(view)?
                .as_of(at)
                .map(|(key, standing)| CentreKeyAnswer {
                    number: key.number,
                    key: key.key,
                    begun: key.begun.height,
                    standing,
                })
                .collect(),
        ),
    })
}

fn grant_at(view: &dyn View, gid: GrantId, at: Height) -> Result<Option<GrantAnswer>, ReadError> {
    let grant = ledger::grant(view, gid)?;
    Ok(grant.and_then(|grant| GrantAnswer::as_of(&grant, at)))
}

impl Answer {
    /// The bytes that travel and are signed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::UserKey(None) | Self::Grant(None) | Self::GrantOf(None) => {
                out.u8(0);
            }
            Self::UserKey(Some(key)) => {
                out.u8(1).u8(usage_code(key.usage));
                match key.registrant {
                    Registrant::Patient => out.u8(0),
                    Registrant::Doctor {
                        institution,
                        doctor,
                    } => out.u8(1).u32(institution.number()).u64(doctor.number()),
                    Registrant::Agent => out.u8(2),
                    // Decoding refuses it: a client that does not know a kind accepts no key of it.
                    _ => out.u8(u8::MAX),
                };
                out.u8(u8::from(key.in_force));
            }
            Self::NodeKeys(keys) => {
                out.u8(keys.len() as u8);
                for (institution, key) in keys {
                    out.u32(institution.number()).bytes(key.as_bytes());
                }
            }
            Self::Records(records) => {
                out.u32(records.len() as u32);
                for record in records {
                    match record {
                        None => out.u8(0),
                        Some(id) => out.u8(1).bytes(id.as_bytes()),
                    };
                }
            }
            Self::WriterEpochs(epochs) => {
                out.u32(epochs.len() as u32);
                for (epoch, key) in epochs {
                    out.u32(epoch.number()).bytes(key.as_bytes());
                }
            }
            Self::Grant(Some(grant)) => grant.encode(out.u8(1)),
            Self::GrantOf(Some((gid, grant))) => grant.encode(out.u8(1).bytes(gid.as_bytes())),
            Self::CentreKeys(keys) => {
                out.u8(keys.len() as u8);
                for key in keys {
                    out.bytes(key.key.as_bytes())
                        .u64(key.begun.number())
                        .u8(standing_code(key.standing));
                }
            }
        }
        out.finish()
    }

    /// Decodes the answer to a question.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none to it.
    pub fn decode(question: &Question, bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the answer";
        let mut from = Decoder::new(bytes);
        let answer = match question {
            Question::UserKey(_) => Self::UserKey(match flag(&mut from, WHAT)? {
                false => None,
                true => Some(KeyAnswer {
                    usage: usage_from(from.u8(WHAT)?)?,
                    registrant: match from.u8(WHAT)? {
                        0 => Registrant::Patient,
                        1 => Registrant::Doctor {
                            institution: InstitutionId::new(from.u32(WHAT)?),
                            doctor: DoctorId::new(from.u64(WHAT)?),
                        },
                        2 => Registrant::Agent,
                        _ => {
                            return Err(DecodeError::Invalid {
                                what: WHAT,
                                why: "its registrant is unknown",
                            });
                        }
                    },
                    in_force: flag(&mut from, WHAT)?,
                }),
            }),
            Question::WriterEpochs(_) => {
                let count = from.count("the writer epochs", WRITER_EPOCHS_MAX)?;
                let epochs = (0..count)
                    .map(|_| {
                        let epoch = WriterEpoch::new(from.u32(WHAT)?);
                        Ok((epoch, WriterEpochPublicKey::from_bytes(&from.array(WHAT)?)?))
                    })
                    .collect::<Result<Vec<_>, DecodeError>>()?;
                if !epochs.is_sorted_by(|(one, _), (other, _)| one < other) {
                    return Err(DecodeError::Invalid {
                        what: WHAT,
                        why: "its writer epochs do not ascend",
                    });
                }
                Self::WriterEpochs(epochs)
            }
            Question::NodeKeys(_) => {
                let count = from.count_u8("the node keys", NODES_MAX)?;
                Self::NodeKeys(
                    (0..count)
                        .map(|_| {
                            let institution = InstitutionId::new(from.u32(WHAT)?);
                            Ok((institution, HpkePublicKey::new(from.array(WHAT)?)))
                        })
                        .collect::<Result<_, DecodeError>>()?,
                )
            }
            Question::Records { tags, .. } => {
                let count = from.count("the records", TAGS_MAX)?;
                if count != tags.len() {
                    return Err(DecodeError::Invalid {
                        what: WHAT,
                        why: "it is not to as many tags as were asked for",
                    });
                }
                Self::Records(
                    (0..count)
                        .map(|_| match flag(&mut from, WHAT)? {
                            false => Ok(None),
                            true => Ok(Some(TransactionId::new(from.array(WHAT)?))),
                        })
                        .collect::<Result<_, DecodeError>>()?,
                )
            }
            Question::Grant(_) => Self::Grant(match flag(&mut from, WHAT)? {
                false => None,
                true => Some(GrantAnswer::decode(&mut from)?),
            }),
            Question::GrantOf(_) => Self::GrantOf(match flag(&mut from, WHAT)? {
                false => None,
                true => {
                    let gid = GrantId::new(from.array(WHAT)?);
                    Some((gid, GrantAnswer::decode(&mut from)?))
                }
            }),
            Question::CentreKeys => {
                let count = from.count_u8("the centre's keys", CENTRE_KEYS_MAX)?;
                let keys = (0..count as u8)
                    .map(|number| {
                        Ok(CentreKeyAnswer {
                            number: CentreKeyNumber::new(number),
                            key: VerifyingKey::new(from.array(WHAT)?),
                            begun: Height::new(from.u64(WHAT)?),
                            standing: standing_from(from.u8(WHAT)?)?,
                        })
                    })
                    .collect::<Result<Vec<_>, DecodeError>>()?;
                let current = |key: &CentreKeyAnswer| key.standing == CentreKeyStanding::Current;
                if keys.iter().position(current) != keys.len().checked_sub(1) || keys.is_empty() {
                    return Err(DecodeError::Invalid {
                        what: WHAT,
                        why: "the centre's current key is not the last one",
                    });
                }
                if !keys.is_sorted_by_key(|key| key.begun) {
                    return Err(DecodeError::Invalid {
                        what: WHAT,
                        why: "the heights of the centre's keys fall",
                    });
                }
                Self::CentreKeys(keys)
            }
        };
        from.finish(WHAT)?;
        Ok(answer)
    }
}

/// A node's signed answer (`spec/formats.md`, M12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whose node.
    pub node: InstitutionId,
    /// As of which height.
    pub height: Height,
    /// The state root of that height.
    pub state_root: StateRoot,
    /// The answer's bytes.
    pub answer: Vec<u8>,
    /// By the node's consensus key.
    pub signature: Signature,
}

impl Reply {
    /// A node signs its answer to the question's bytes.
    pub fn sign(
        consortium: &ConsortiumId,
        node: InstitutionId,
        key: &SigningKey,
        question: &[u8],
        height: Height,
        state_root: StateRoot,
        answer: Vec<u8>,
    ) -> Self {
        let signature = parts(question, height, &state_root, &answer, |parts| {
            key.sign(Context::Reply, consortium, parts)
        });
        Self {
            node,
            height,
            state_root,
            answer,
            signature,
        }
    }

    /// Checks the node's signature.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
        question: &[u8],
    ) -> Result<(), BadSignature> {
        parts(
            question,
            self.height,
            &self.state_root,
            &self.answer,
            |parts| key.verify(Context::Reply, consortium, parts, &self.signature),
        )
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .u32(self.node.number())
            .u64(self.height.number())
            .bytes(self.state_root.as_bytes())
            .var(&self.answer)
            .bytes(self.signature.as_bytes())
            .finish()
    }

    /// Decodes a reply.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the reply";
        let mut from = Decoder::new(bytes);
        let reply = Self {
            node: InstitutionId::new(from.u32(WHAT)?),
            height: Height::new(from.u64(WHAT)?),
            state_root: StateRoot::new(from.array(WHAT)?),
            answer: from.var(WHAT, ANSWER_BYTES_MAX)?.to_vec(),
            signature: Signature::new(from.array(WHAT)?),
        };
        from.finish(WHAT)?;
        Ok(reply)
    }
}

/// A reply that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadReply {
    /// The institution has no node.
    #[error("the reply is from institution {0}, which has no node")]
    NotANode(InstitutionId),
    /// The node answered before.
    #[error("the node of institution {0} answered twice")]
    Twice(InstitutionId),
    /// The signature does not stand.
    #[error("the reply is not signed by the node of institution {0}")]
    Forged(InstitutionId),
}

/// Fewer than f + 1 nodes answered alike.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{agreeing} of {answered} nodes that answered agree, {needed} are needed: try again")]
pub struct ReplyFailure {
    /// How many answered.
    pub answered: usize,
    /// The largest number that agree.
    pub agreeing: usize,
    /// f + 1.
    pub needed: usize,
}

/// Collects replies to one question until f + 1 are equal.
pub struct ReplyCollector<'a> {
    consortium: ConsortiumId,
    nodes: &'a NodeSet,
    question: Vec<u8>,
    replies: BTreeMap<InstitutionId, Reply>,
}

impl<'a> ReplyCollector<'a> {
    /// For the question with these bytes.
    pub fn new(consortium: ConsortiumId, nodes: &'a NodeSet, question: Vec<u8>) -> Self {
        Self {
            consortium,
            nodes,
            question,
            replies: BTreeMap::new(),
        }
    }

    /// Takes a reply.
    ///
    /// # Errors
    /// [`BadReply`]; it does not count.
    pub fn add(&mut self, reply: Reply) -> Result<(), BadReply> {
        let node = self
            .nodes
            .by_institution(reply.node)
            .ok_or(BadReply::NotANode(reply.node))?;
        if self.replies.contains_key(&reply.node) {
            return Err(BadReply::Twice(reply.node));
        }
        reply
            .verify(&self.consortium, &node.key, &self.question)
            .map_err(|_| BadReply::Forged(reply.node))?;
        self.replies.insert(reply.node, reply);
        Ok(())
    }

    /// The reply that f + 1 nodes gave alike: same height, state root and answer.
    ///
    /// # Errors
    /// [`ReplyFailure`] if there is none yet.
    pub fn agreed(&self) -> Result<&Reply, ReplyFailure> {
        let needed = self.nodes.quorum().one_correct();
        let count = |reply: &Reply| {
            self.replies
                .values()
                .filter(|other| {
                    (other.height, other.state_root, &other.answer)
                        == (reply.height, reply.state_root, &reply.answer)
                })
                .count()
        };
        let best = self.replies.values().max_by_key(|reply| count(reply));
        match best {
            Some(reply) if count(reply) >= needed => Ok(reply),
            _ => Err(ReplyFailure {
                answered: self.replies.len(),
                agreeing: best.map_or(0, count),
                needed,
            }),
        }
    }
}

/// A key that f + 1 nodes say is in force: only [`AgreedKey::from_reply`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgreedKey {
    hash: KeyHash,
    answer: KeyAnswer,
}

impl AgreedKey {
    /// From what a collector for this key agreed on; `None` if the key is not in force.
    ///
    /// # Errors
    /// [`DecodeError`] if the agreed answer is malformed.
    pub fn from_reply(hash: KeyHash, agreed: &Reply) -> Result<Option<Self>, DecodeError> {
        match Answer::decode(&Question::UserKey(hash), &agreed.answer)? {
            Answer::UserKey(Some(answer)) if answer.in_force => Ok(Some(Self { hash, answer })),
            _ => Ok(None),
        }
    }

    /// The key's hash.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    /// What it is for.
    pub fn usage(&self) -> KeyUse {
        self.answer.usage
    }

    /// Whose it is.
    pub fn registrant(&self) -> Registrant {
        self.answer.registrant
    }
}

/// The writer epochs of an institution that f + 1 nodes agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreedWriterEpochs {
    /// Whose.
    pub institution: InstitutionId,
    /// Ascending.
    pub epochs: Vec<(WriterEpoch, WriterEpochPublicKey)>,
}

impl AgreedWriterEpochs {
    /// From what a collector for this institution agreed on.
    ///
    /// # Errors
    /// [`DecodeError`] if the agreed answer is malformed.
    pub fn from_reply(institution: InstitutionId, agreed: &Reply) -> Result<Self, DecodeError> {
        match Answer::decode(&Question::WriterEpochs(institution), &agreed.answer)? {
            Answer::WriterEpochs(epochs) => Ok(Self {
                institution,
                epochs,
            }),
            _ => Err(DecodeError::Invalid {
                what: "the answer",
                why: "it is to another question",
            }),
        }
    }

    /// The current one.
    pub fn current(&self) -> Option<&(WriterEpoch, WriterEpochPublicKey)> {
        self.epochs.last()
    }
}

/// The HPKE keys of a validator epoch's accounting nodes that f + 1 nodes agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreedNodeKeys {
    /// Which validator epoch.
    pub epoch: ValidatorEpoch,
    /// By institution; only those that are on the chain.
    pub keys: Vec<(InstitutionId, HpkePublicKey)>,
}

impl AgreedNodeKeys {
    /// From what a collector for this validator epoch agreed on.
    ///
    /// # Errors
    /// [`DecodeError`] if the agreed answer is malformed.
    pub fn from_reply(epoch: ValidatorEpoch, agreed: &Reply) -> Result<Self, DecodeError> {
        match Answer::decode(&Question::NodeKeys(epoch), &agreed.answer)? {
            Answer::NodeKeys(keys) => Ok(Self { epoch, keys }),
            _ => Err(DecodeError::Invalid {
                what: "the answer",
                why: "it is to another question",
            }),
        }
    }
}

/// A grant's entry that f + 1 nodes agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreedGrant {
    /// Which grant.
    pub gid: GrantId,
    /// Its entry.
    pub state: GrantAnswer,
}

impl AgreedGrant {
    /// From what a collector for this grant agreed on; `None` if there is no such grant.
    ///
    /// # Errors
    /// [`DecodeError`] if the agreed answer is malformed.
    pub fn from_reply(gid: GrantId, agreed: &Reply) -> Result<Option<Self>, DecodeError> {
        match Answer::decode(&Question::Grant(gid), &agreed.answer)? {
            Answer::Grant(state) => Ok(state.map(|state| Self { gid, state })),
            _ => Err(DecodeError::Invalid {
                what: "the answer",
                why: "it is to another question",
            }),
        }
    }

    /// From what a collector for the grant of this access key agreed on; `None` if no grant names it.
    ///
    /// # Errors
    /// [`DecodeError`] if the agreed answer is malformed.
    pub fn from_reply_of(
        access_key: VerifyingKey,
        agreed: &Reply,
    ) -> Result<Option<Self>, DecodeError> {
        match Answer::decode(&Question::GrantOf(access_key), &agreed.answer)? {
            Answer::GrantOf(found) => Ok(found.map(|(gid, state)| Self { gid, state })),
            _ => Err(DecodeError::Invalid {
                what: "the answer",
                why: "it is to another question",
            }),
        }
    }
}

/// The registration centre's keys that f + 1 nodes agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreedCentreKeys {
    /// As of which height.
    pub height: Height,
    /// By their numbers from 0; the last is the current one.
    pub keys: Vec<CentreKeyAnswer>,
}

impl AgreedCentreKeys {
    /// From what a collector for the centre's keys agreed on.
    ///
    /// # Errors
    /// [`DecodeError`] if the agreed answer is malformed.
    pub fn from_reply(agreed: &Reply) -> Result<Self, DecodeError> {
        let height = agreed.height;
        match Answer::decode(&Question::CentreKeys, &agreed.answer)? {
            Answer::CentreKeys(keys) => Ok(Self { height, keys }),
            _ => Err(DecodeError::Invalid {
                what: "the answer",
                why: "it is to another question",
            }),
        }
    }
}

/// One byte, 0 or 1, so that a value has one encoding.
pub(super) fn flag(from: &mut Decoder<'_>, what: &'static str) -> Result<bool, DecodeError> {
    match from.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid {
            what,
            why: "a flag is neither 0 nor 1",
        }),
    }
}

fn parts<T>(
    question: &[u8],
    height: Height,
    state_root: &StateRoot,
    answer: &[u8],
    then: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    then(&[
        question,
        &height.number().to_be_bytes(),
        state_root.as_bytes(),
        answer,
    ])
}

fn standing_code(standing: CentreKeyStanding) -> u8 {
    match standing {
        CentreKeyStanding::Current => 0,
        CentreKeyStanding::Retired => 1,
        CentreKeyStanding::Compromised => 2,
    }
}

fn standing_from(code: u8) -> Result<CentreKeyStanding, DecodeError> {
    match code {
        0 => Ok(CentreKeyStanding::Current),
        1 => Ok(CentreKeyStanding::Retired),
        2 => Ok(CentreKeyStanding::Compromised),
        _ => Err(DecodeError::Invalid {
            what: "how a key of the centre stands",
            why: "it is unknown here",
        }),
    }
}

fn usage_code(usage: KeyUse) -> u8 {
    match usage {
        KeyUse::Encryption => 1,
        KeyUse::Search => 2,
        KeyUse::Ownership => 3,
        KeyUse::Signature => 4,
        KeyUse::Hpke => 5,
        // A use that this version does not know is answered as none that it accepts.
        _ => 0,
    }
}

fn usage_from(code: u8) -> Result<KeyUse, DecodeError> {
    match code {
        1 => Ok(KeyUse::Encryption),
        2 => Ok(KeyUse::Search),
        3 => Ok(KeyUse::Ownership),
        4 => Ok(KeyUse::Signature),
        5 => Ok(KeyUse::Hpke),
        _ => Err(DecodeError::Invalid {
            what: "the use of a key",
            why: "it is unknown here",
        }),
    }
}
