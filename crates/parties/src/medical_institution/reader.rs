//! Doctor B: asks, opens a grant, searches, records the access, combines shares, opens.

use std::collections::BTreeMap;

use ledger::{
    Access, AccessEntry, AccessNumber, AccessPad, Height, MaskedTransactionId, NodeSet,
    RequestCommitment, RequestStatement, Transaction, TransactionId,
};
use rand_core::CryptoRng;
use scheme::{
    BadSignature, ClassPlace, CombineError, ConsortiumId, ContentKey, DecodeError, Decoder,
    Degenerate, DoctorPart, Encoder, EpisodeKey, GRANT_BYTES_MAX, Grant, GrantId, Header,
    HpkePrivateKey, InstitutionId, NodeNumber, PartError, ReEncrypted, RecordStatement,
    SectionIndex, ShareStatement, Signature, SigningKey, StatementError, Timestamp, VerifiedGrant,
    VerifiedHeader, VerifyingKey, WrongKey, sha256,
};
use thiserror::Error;

use crate::answer_note::AnswerNote;
use crate::centre_keys::CentreKeys;
use crate::certificate::Certificate;
use crate::consortium_chain::{
    AgreedCentreKeys, AgreedGrant, ContainerRequest, GrantRequest, Hit, Hits, InTransaction,
    ReplyCollector, ReplyFailure, SealedReply, SearchRequest, ShareAnswer, ShareEvidence,
    ShareRequest, WantProof,
};
use crate::medical_institution::Doctor;
use crate::request::{
    AccessRequest, GRANTS_MAX, Member, RequestTerms, UnsignedRequest, VerifiedRequest,
};

/// Why a reader stops. Nothing of the record is shown.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReaderError {
    /// Bytes are malformed.
    #[error("what came back is malformed")]
    Malformed(#[from] DecodeError),
    /// The grant is not signed by an owner.
    #[error("the grant is not signed by the owner of its episode")]
    ForgedGrant,
    /// The grant on the chain is another one, or has ended.
    #[error("the grant that came is not the one on the chain")]
    NotTheChains,
    /// The grant is not for this request.
    #[error("the grant does not answer this request")]
    NotForUs,
    /// This doctor's part does not open.
    #[error("this doctor's part of the grant does not stand")]
    Part(#[from] PartError),
    /// Too few nodes agree on the result.
    #[error("the search has no agreed result")]
    NoAgreement(#[from] ReplyFailure),
    /// The record is another episode's than the grant's.
    #[error("the record that was found does not belong to the episode of the grant")]
    ForeignRecord,
    /// The author's signature does not stand.
    #[error("the author's signature of the record does not stand")]
    ForgedRecord(#[from] StatementError),
    /// The header is not the one on the chain.
    #[error(
        "the container is not the one whose digest stands on the chain: nothing of it is shown"
    )]
    AlteredContainer,
    /// The header was made by someone else.
    #[error("the container's header was not made by the record's author")]
    ForeignHeader,
    /// The record has no section of this class.
    #[error("the record has no section of that class")]
    NoSuchSection,
    /// The grant has no such class.
    #[error("the grant does not grant that section class")]
    NoSuchClass,
    /// Shares do not combine.
    #[error("the shares do not combine")]
    Combine(#[from] CombineError),
    /// The key does not fit: shares are to be asked for again with proofs.
    #[error("the combined key does not fit the section: shares are asked for again with proofs")]
    AskForProofs,
    /// An access to another record is on its way: hand it in again until it is final or refused.
    #[error("an access to another record is on its way: hand it in again first")]
    AccessPending,
    /// A combination is the identity, which no honest value gives.
    #[error("a combined key is the identity")]
    Degenerate(#[from] Degenerate),
}

/// Records of one grant whose accesses a keystore holds: as many as an answer to a search names.
const KEPT_ACCESSES_MAX: usize = 4_096;

/// One doctor's keys of one request: one-time, destroyed when the grants end.
pub struct Reader {
    consortium: ConsortiumId,
    centre: CentreKeys,
    certificate: Certificate,
    access: Vec<SigningKey>,
    hpke: HpkePrivateKey,
}

impl Reader {
    /// Fresh one-time keys for a doctor: an access key for each of `episodes` grants, at most
    /// [`GRANTS_MAX`].
    pub fn new(
        consortium: ConsortiumId,
        centre: CentreKeys,
        certificate: Certificate,
        episodes: usize,
        rng: &mut impl CryptoRng,
    ) -> Self {
        Self {
            consortium,
            centre,
            certificate,
            access: (0..episodes.clamp(1, GRANTS_MAX))
                .map(|_| SigningKey::random(rng))
                .collect(),
            hpke: HpkePrivateKey::random(rng),
        }
    }

    /// The one-time keys, for the keystore (`spec/formats.md`, M26).
    pub fn keep(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let certificate = self.certificate.encode();
        let mut out = Encoder::of_secrets(4 + certificate.len() + 32 + 1 + 32 * self.access.len());
        out.var(&certificate)
            .bytes(self.hpke.expose_bytes())
            .u8(self.access.len() as u8);
        for key in &self.access {
            out.bytes(key.expose_seed());
        }
        zeroize::Zeroizing::new(out.finish())
    }

    /// What [`Self::keep`] gave.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn restore(
        consortium: ConsortiumId,
        centre: CentreKeys,
        kept: &[u8],
    ) -> Result<Self, DecodeError> {
        const WHAT: &str = "a request's keys";
        let mut from = Decoder::new(kept);
        let certificate =
            Certificate::decode(from.var(WHAT, crate::certificate::CERTIFICATE_BYTES_MAX)?)?;
        let hpke = HpkePrivateKey::from_bytes(from.array(WHAT)?)?;
        let mut access = Vec::new();
        for _ in 0..from.count_u8(WHAT, GRANTS_MAX)? {
            access.push(SigningKey::from_seed(from.array(WHAT)?));
        }
        from.finish(WHAT)?;
        Ok(Self {
            consortium,
            centre,
            certificate,
            access,
            hpke,
        })
    }

    /// A grant that was opened before, from what [`OpenGrant::keep`] gave; it is checked again.
    ///
    /// # Errors
    /// [`ReaderError::Malformed`], [`ReaderError::ForgedGrant`], [`ReaderError::NotForUs`],
    /// [`ReaderError::Part`].
    pub fn restore_grant(&self, kept: &[u8]) -> Result<OpenGrant, ReaderError> {
        const WHAT: &str = "a grant of the keystore";
        let mut from = Decoder::new(kept);
        let bytes = from.var(WHAT, GRANT_BYTES_MAX)?;
        let recorded = Height::new(from.u64(WHAT)?);
        let next = AccessNumber::new(from.u64(WHAT)?);
        let pending = match from.u8(WHAT)? {
            0 => None,
            _ => {
                let record = TransactionId::new(from.array(WHAT)?);
                let transaction = from.var(WHAT, ledger::TRANSACTION_BYTES_MAX)?;
                Some((record, Transaction::decode(transaction)?))
            }
        };
        let mut accesses = BTreeMap::new();
        for _ in 0..from.count(WHAT, KEPT_ACCESSES_MAX)? {
            let record = TransactionId::new(from.array(WHAT)?);
            accesses.insert(record, TransactionId::new(from.array(WHAT)?));
        }
        from.finish(WHAT)?;
        let mut opened = self.opened(bytes, self.verified(bytes)?, recorded)?;
        opened.next = next;
        opened.pending = pending;
        opened.accesses = accesses;
        Ok(opened)
    }

    /// A grant whose owner signed it.
    fn verified(&self, bytes: &[u8]) -> Result<VerifiedGrant, ReaderError> {
        Grant::decode(&self.consortium, bytes)?
            .verify(&self.consortium)
            .map_err(|_| ReaderError::ForgedGrant)
    }

    /// Opens this doctor's part of a grant, as it is before its first access.
    fn opened(
        &self,
        bytes: &[u8],
        grant: VerifiedGrant,
        recorded: Height,
    ) -> Result<OpenGrant, ReaderError> {
        let access = self.access_of(&grant)?;
        let part = grant.open_doctor_part(&self.consortium, &access.verifying_key(), &self.hpke)?;
        Ok(OpenGrant {
            bytes: bytes.to_vec(),
            grant,
            part,
            access,
            recorded,
            next: AccessNumber::new(0),
            pending: None,
            accesses: BTreeMap::new(),
        })
    }

    fn access_of(&self, grant: &VerifiedGrant) -> Result<SigningKey, ReaderError> {
        let named = |key: &&SigningKey| {
            let key = key.verifying_key();
            grant
                .terms()
                .grantees
                .iter()
                .any(|grantee| grantee.access_key == key)
        };
        let found = self.access.iter().find(named);
        found.cloned().ok_or(ReaderError::NotForUs)
    }

    /// Takes what f + 1 nodes say of the registration centre's keys: certificates under one that was
    /// lost to others count no more.
    pub fn follow_centre(&mut self, agreed: &AgreedCentreKeys) {
        self.centre.follow(agreed);
    }

    /// This doctor's part of a request.
    pub fn member(&self) -> Member {
        Member {
            certificate: self.certificate.clone(),
            access_keys: self.access.iter().map(SigningKey::verifying_key).collect(),
            hpke_key: self.hpke.public_key(),
        }
    }

    /// Asks a node for a grant whose entry on the chain names one of this doctor's access keys. `place`
    /// counts the request's grants, from 0.
    ///
    /// # Errors
    /// [`ReaderError::NotForUs`] past the number of access keys.
    pub fn ask_grant(&self, gid: GrantId, place: usize) -> Result<GrantRequest, ReaderError> {
        let key = self.access.get(place).ok_or(ReaderError::NotForUs)?;
        Ok(GrantRequest::sign(&self.consortium, gid, key))
    }

    /// Opens a grant that answers this doctor's request: owner's signature, the chain's entry, the
    /// request, this doctor's part.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn open_grant(
        &self,
        bytes: &[u8],
        request: impl AsRef<[u8]>,
        on_chain: &AgreedGrant,
    ) -> Result<OpenGrant, ReaderError> {
        let grant = self.verified(bytes)?;
        if on_chain.gid != grant.gid()
            || on_chain.state.grant != grant.digest()
            || on_chain.state.revoked
        {
            return Err(ReaderError::NotTheChains);
        }
        if grant.terms().request != request.as_ref() {
            return Err(ReaderError::NotForUs);
        }
        self.opened(bytes, grant, on_chain.state.recorded)
    }

    /// Opens what the patient's or agent's device says of this doctor's request: a hint, whose grants
    /// are to be looked up on the chain.
    ///
    /// # Errors
    /// [`ReaderError::NotForUs`] if it does not open, [`ReaderError::Malformed`].
    pub fn open_note(
        &self,
        request: RequestCommitment,
        sealed: &[u8],
    ) -> Result<AnswerNote, ReaderError> {
        let opened = AnswerNote::open(&self.consortium, request, &self.hpke, sealed);
        Ok(opened.ok_or(ReaderError::NotForUs)??)
    }

    /// A search at a final height not below the grant's.
    pub fn search(&self, grant: &OpenGrant, height: Height) -> SearchRequest {
        SearchRequest::sign(
            &self.consortium,
            grant.grant.gid(),
            height.max(grant.recorded),
            &grant.access,
        )
    }

    /// Opens the nodes' sealed replies and takes what f + 1 say alike. A reply that does not open
    /// or does not count is left out.
    ///
    /// # Errors
    /// [`ReaderError::NoAgreement`].
    pub fn agree(
        &self,
        request: &SearchRequest,
        replies: &[SealedReply],
        nodes: &NodeSet,
    ) -> Result<Hits, ReaderError> {
        let mut collector = ReplyCollector::new(self.consortium, nodes, request.encode());
        for sealed in replies {
            if let Ok(reply) = sealed.open(&self.consortium, &request.gid, &self.hpke) {
                // A bad reply does not count; the failure says how many agree.
                let _ = collector.add(reply);
            }
        }
        let agreed = collector.agreed()?;
        if agreed.height != request.height {
            return Err(ReaderError::NotTheChains);
        }
        Ok(Hits::decode(&agreed.answer)?)
    }

    /// The entry of the access log for one record, for the chain. Until it is known to be final
    /// ([`OpenGrant::access_is_final`]) or refused ([`OpenGrant::access_was_refused`]) the same
    /// transaction comes back for the same record, to be handed in again byte for byte: another one of
    /// the same number could be taken in its place, and one of the next number before it never is.
    ///
    /// # Errors
    /// [`ReaderError::AccessPending`] while an access to another record is not decided.
    pub fn record_access(
        &self,
        grant: &mut OpenGrant,
        hit: &Hit,
        rng: &mut impl CryptoRng,
    ) -> Result<Transaction, ReaderError> {
        if let Some((record, transaction)) = &grant.pending {
            return if *record == hit.transaction {
                Ok(transaction.clone())
            } else {
                Err(ReaderError::AccessPending)
            };
        }
        let number = grant.next;
        let mut pad = [0; 16];
        rng.fill_bytes(&mut pad);
        let masked = grant.part.log_key.mask(
            &self.consortium,
            &grant.access.verifying_key(),
            number.number(),
            &pad,
            &hit.transaction.digest(),
        );
        let transaction = Transaction::Access(Access {
            entries: vec![AccessEntry::sign(
                &self.consortium,
                &grant.access,
                number,
                AccessPad::new(pad),
                MaskedTransactionId::new(*masked.as_bytes()),
            )],
        });
        grant.pending = Some((hit.transaction, transaction.clone()));
        Ok(transaction)
    }

    /// Asks a node for its shares of these classes.
    pub fn ask_shares(
        &self,
        grant: &OpenGrant,
        of: InTransaction,
        classes: Vec<ClassPlace>,
        proof: WantProof,
    ) -> ShareRequest {
        ShareRequest::sign(
            &self.consortium,
            grant.grant.gid(),
            of,
            classes,
            proof,
            &grant.access,
        )
    }

    /// Asks the master node for the container.
    pub fn ask_container(&self, grant: &OpenGrant, of: InTransaction) -> ContainerRequest {
        ContainerRequest::sign(&self.consortium, grant.grant.gid(), of, &grant.access)
    }

    /// B's own checks of a container's beginning: the record belongs to the grant's episode, its
    /// author signed it, the header is the one on the chain and its maker knew r.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn check_header(
        &self,
        grant: &OpenGrant,
        hit: &Hit,
        statement: &RecordStatement,
        doctor: &Signature,
        container_start: &[u8],
    ) -> Result<VerifiedHeader, ReaderError> {
        statement.verify(&self.consortium, doctor)?;
        if TransactionId::from(statement.id(&self.consortium)) != hit.transaction {
            return Err(ReaderError::ForeignRecord);
        }
        let episode: EpisodeKey = statement.owner_key.unblind(&hit.locator.delta)?;
        if episode != grant.grant.terms().episode_key {
            return Err(ReaderError::ForeignRecord);
        }
        // What is no header cannot be the one on the chain either.
        let (header, length) = Header::decode(&self.consortium, container_start)
            .map_err(|_| ReaderError::AlteredContainer)?;
        if sha256(&container_start[..length]) != statement.header_digest {
            return Err(ReaderError::AlteredContainer);
        }
        if header.author() != statement.author || header.institution() != statement.institution {
            return Err(ReaderError::ForeignHeader);
        }
        header.verify().map_err(|_| ReaderError::ForeignHeader)
    }

    /// A request of a single doctor for one patient's inbox, signed, and its statement for the chain.
    ///
    /// # Errors
    /// [`ReaderError`] if its terms are out of range.
    pub fn request(
        &self,
        doctor: &Doctor,
        terms: RequestTerms,
        now: Timestamp,
    ) -> Result<VerifiedRequest, ReaderError> {
        let unsigned = UnsignedRequest::new(terms, vec![self.member()])?;
        let signature = unsigned.sign(&self.consortium, doctor.signing());
        let request: AccessRequest = unsigned.complete(vec![signature])?;
        request
            .verify(&self.consortium, &self.centre, now)
            .map_err(|_| ReaderError::NotForUs)
    }

    /// What the chain holds of a request, signed by the doctor; the hospital's server countersigns.
    pub fn request_statement(
        &self,
        doctor: &Doctor,
        request: &VerifiedRequest,
        time: Timestamp,
    ) -> (RequestStatement, Signature) {
        let statement = RequestStatement {
            commitment: request.commitment(),
            author: doctor.public_keys().signing,
            institution: request.terms().institution,
            time,
        };
        let signature = statement.sign(&self.consortium, doctor.signing());
        (statement, signature)
    }
}

/// A grant that this doctor opened.
pub struct OpenGrant {
    bytes: Vec<u8>,
    grant: VerifiedGrant,
    part: DoctorPart,
    access: SigningKey,
    recorded: Height,
    next: AccessNumber,
    /// The record and transaction of an access that is not decided yet.
    pending: Option<(TransactionId, Transaction)>,
    accesses: BTreeMap<TransactionId, TransactionId>,
}

impl OpenGrant {
    /// For the keystore (`spec/formats.md`, M26): restored by [`Reader::restore_grant`].
    pub fn keep(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.var(&self.bytes)
            .u64(self.recorded.number())
            .u64(self.next.number());
        match &self.pending {
            None => out.u8(0),
            Some((record, transaction)) => out
                .u8(1)
                .bytes(record.as_bytes())
                .var(&transaction.encode()),
        };
        out.u32(self.accesses.len() as u32);
        for (record, access) in &self.accesses {
            out.bytes(record.as_bytes()).bytes(access.as_bytes());
        }
        out.finish()
    }

    /// The grant.
    pub fn grant(&self) -> &VerifiedGrant {
        &self.grant
    }

    /// gid.
    pub fn gid(&self) -> GrantId {
        self.grant.gid()
    }

    /// The key that signs this grant's accesses.
    pub fn access_key(&self) -> VerifyingKey {
        self.access.verifying_key()
    }

    /// The number that the next access will have.
    pub fn next_access(&self) -> AccessNumber {
        self.next
    }

    /// The access that is not decided yet, to be handed in again: after a crash nobody knows how far it
    /// came.
    pub fn pending_access(&self) -> Option<(TransactionId, &Transaction)> {
        let (record, transaction) = self.pending.as_ref()?;
        Some((*record, transaction))
    }

    /// The pending access became final under this id: shares can be asked for in it, and the next one
    /// has the next number.
    pub fn access_is_final(&mut self, id: TransactionId) -> Option<InTransaction> {
        let (record, _) = self.pending.take()?;
        self.next = self.next.next();
        self.accesses.insert(record, id);
        Some(InTransaction { access: id, record })
    }

    /// The pending access was refused by f + 1 nodes: it is not on the chain, and its number is free.
    pub fn access_was_refused(&mut self) {
        self.pending = None;
    }

    /// Goes on at the number that the chain counts next for this key, on a device that opened the
    /// grant anew: a state proof of the grant shows it (`spec/chain.md` section 9).
    pub fn resume_at(&mut self, next: AccessNumber) {
        self.next = next;
        self.pending = None;
    }

    /// The last access to a record that is final.
    pub fn last_access(&self, record: TransactionId) -> Option<InTransaction> {
        let access = *self.accesses.get(&record)?;
        Some(InTransaction { access, record })
    }

    /// The granted classes whose sections this container has, with their places in both.
    pub fn granted_sections(&self, header: &VerifiedHeader) -> Vec<(ClassPlace, SectionIndex)> {
        self.part
            .label_keys
            .iter()
            .enumerate()
            .filter_map(|(place, key)| {
                Some((ClassPlace::new(place as u8), header.header().find(key)?))
            })
            .collect()
    }
}

/// A section whose key fits.
pub struct OpenedSection {
    /// Its place in the container.
    pub index: SectionIndex,
    /// Opens its payload.
    pub key: ContentKey,
}

/// What a second round of shares, with proofs, comes to.
pub struct ShareJudgement {
    /// Nodes whose proof does not hold: their shares do not come from what they were given, and what
    /// they signed is evidence. Nobody else is named.
    pub lying: Vec<InstitutionId>,
    /// What they signed, for keeping, in the same order: anyone can check it against the chain.
    pub evidence: Vec<ShareEvidence>,
    /// Nodes that gave no proof, silent or restarted in between: nothing is said of them.
    pub unproved: Vec<InstitutionId>,
    /// What follows from the proofs that hold.
    pub outcome: ShareOutcome,
}

/// What follows from the shares whose proofs hold.
pub enum ShareOutcome {
    /// t of them give the section's key.
    Opened(OpenedSection),
    /// t of them hold and the key does not fit: the author or the granter is at fault, no node.
    AuthorOrGranter,
    /// Fewer than t hold, so nothing follows: ask other nodes, or the same again.
    TooFew {
        /// Proofs that hold.
        found: usize,
        /// t.
        needed: usize,
    },
}

/// Collects the shares of one section until t are there.
pub struct SectionShares<'a> {
    consortium: ConsortiumId,
    grant: &'a OpenGrant,
    header: &'a VerifiedHeader,
    gid: GrantId,
    record: scheme::Digest,
    header_digest: scheme::Digest,
    class: ClassPlace,
    shares: BTreeMap<NodeNumber, ShareAnswer>,
}

impl<'a> SectionShares<'a> {
    /// For one granted class of one record.
    pub fn new(
        consortium: ConsortiumId,
        grant: &'a OpenGrant,
        header: &'a VerifiedHeader,
        record: TransactionId,
        class: ClassPlace,
    ) -> Self {
        let header_digest = header.header().digest();
        Self {
            consortium,
            grant,
            header,
            gid: grant.gid(),
            record: record.digest(),
            header_digest,
            class,
            shares: BTreeMap::new(),
        }
    }

    /// Takes a node's share if its signature stands. A later one of the same node, with its proof,
    /// replaces the first.
    ///
    /// # Errors
    /// [`BadSignature`] if the node did not sign it for this section.
    pub fn add(&mut self, answer: ShareAnswer) -> Result<(), BadSignature> {
        let node = self
            .grant
            .grant
            .terms()
            .nodes
            .get(usize::from(answer.node.number()) - 1)
            .filter(|_| answer.class == self.class)
            .ok_or(BadSignature)?;
        answer.verify(&self.statement(&answer), self.header, &node.key)?;
        self.shares.insert(answer.node, answer);
        Ok(())
    }

    /// How many nodes gave a share.
    pub fn count(&self) -> usize {
        self.shares.len()
    }

    /// Equations (15) and (16): combines t shares, unmasks, and checks the key commitment.
    ///
    /// # Errors
    /// [`ReaderError::Combine`] with too few, [`ReaderError::AskForProofs`] if the key does not fit.
    pub fn open(&self) -> Result<OpenedSection, ReaderError> {
        let threshold = self.grant.grant.terms().threshold;
        let shares: Vec<_> = self
            .shares
            .iter()
            .map(|(node, answer)| (*node, &answer.share))
            .collect();
        let w = ReEncrypted::combine(threshold, &shares)?;
        let label = self
            .grant
            .part
            .label_keys
            .get(self.class.place())
            .ok_or(ReaderError::NoSuchClass)?;
        let header = self.header.header();
        let index = header.find(label).ok_or(ReaderError::NoSuchSection)?;
        let secret = w.open(
            &self.consortium,
            &self.grant.gid(),
            &self.grant.part.seed,
            self.class,
            header.encapsulation(),
        )?;
        match secret.content_key(header, index) {
            Ok(key) => Ok(OpenedSection { index, key }),
            Err(WrongKey) => Err(ReaderError::AskForProofs),
        }
    }

    /// After [`ReaderError::AskForProofs`], once nodes answered again with proofs: keeps the shares
    /// whose proofs hold and says what follows. Only a node whose proof fails is named.
    ///
    /// # Errors
    /// [`ReaderError::NoSuchClass`], [`ReaderError::NoSuchSection`].
    pub fn judge(&mut self, nodes: &NodeSet) -> Result<ShareJudgement, ReaderError> {
        let commitments = self
            .grant
            .grant
            .commitments(self.class)
            .ok_or(ReaderError::NoSuchClass)?;
        let (mut lying, mut unproved) = (Vec::new(), Vec::new());
        let mut evidence = Vec::new();
        let numbers: Vec<NodeNumber> = self.shares.keys().copied().collect();
        for number in numbers {
            let answer = &self.shares[&number];
            let named = match &answer.proof {
                None => &mut unproved,
                Some(proof) => {
                    let statement = self.statement(answer);
                    if proof.verify(&statement, self.header, commitments).is_ok() {
                        continue;
                    }
                    &mut lying
                }
            };
            let key = self.grant.grant.terms().nodes[usize::from(number.number()) - 1].key;
            let node = nodes.by_key(&key).map(|node| node.institution);
            named.extend(node);
            if let Some(answer) = self.shares.remove(&number)
                && answer.proof.is_some()
                && node.is_some()
            {
                evidence.push(ShareEvidence::new(
                    TransactionId::from(self.record),
                    self.grant.grant.encode(&self.consortium),
                    self.header.header().encode(),
                    answer,
                ));
            }
        }
        let needed = self.grant.grant.terms().threshold.count();
        let outcome = if self.shares.len() < needed {
            let found = self.shares.len();
            ShareOutcome::TooFew { found, needed }
        } else {
            match self.open() {
                Ok(opened) => ShareOutcome::Opened(opened),
                Err(ReaderError::AskForProofs | ReaderError::Degenerate(_)) => {
                    ShareOutcome::AuthorOrGranter
                }
                Err(error) => return Err(error),
            }
        };
        Ok(ShareJudgement {
            lying,
            evidence,
            unproved,
            outcome,
        })
    }

    fn statement<'s>(&'s self, answer: &'s ShareAnswer) -> ShareStatement<'s> {
        ShareStatement {
            consortium: &self.consortium,
            gid: &self.gid,
            transaction: &self.record,
            header_digest: &self.header_digest,
            class: self.class,
            node: answer.node,
            share: &answer.share,
        }
    }
}
