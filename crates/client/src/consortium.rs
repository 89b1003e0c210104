//! A client of the consortium: asks all nodes and believes what f + 1 say alike.

mod blocks;
mod grants;
mod membership;
mod pace;
mod proofs;
mod snapshots;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chain::{EngineCertificates, Evidence};
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use ledger::{
    Accountable, Block, FinalityProof, Genesis, Header, Height, InclusionProof, KeyHash, Limits,
    NoReceipt, NodeSet, Outcome, Receipt, ReceiptCollector, StateProof, Transaction, TransactionId,
};
use parties::{
    AgreedCentreKeys, AgreedGrant, AgreedKey, AgreedNodeKeys, AgreedWriterEpochs, Answer,
    ContainerRequest, GrantPackage, GrantRequest, Question, Reply, ReplyCollector, SealedReply,
    SearchRequest, ShareAnswer, ShareRequest,
};
use reqwest::Method;
use scheme::{
    ConsortiumId, DecodeError, Decoder, Digest, DigestStream, GrantId, InstitutionId,
    ValidatorEpoch, VerifiedGrant, VerifyingKey,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::directory::{DirectoryError, ServiceName};
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::founding::Founding;
use crate::problem::Problem;
use crate::service::problem_of;
use crate::tls::TlsIdentity;

pub use self::blocks::{FINAL_BLOCKS_BYTES, FINAL_BLOCKS_MAX, encode_final_blocks};
pub use self::grants::{FollowedGrant, GrantEvent, GrantStanding};
use self::membership::Membership;
pub use self::membership::{
    MOTIONS_MAX, NODE_SET_PROOFS_MAX, encode_motions, encode_node_set_proofs,
};
use self::pace::Pace;
pub use self::snapshots::{AgreedSnapshot, SNAPSHOT_PIECE_BYTES, encode_snapshot_statements};

/// How long one request may take before the node counts as silent.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one call waits for a receipt at a node; the client asks again until its own bound.
const RECEIPT_WAIT: Duration = Duration::from_secs(2);
/// How long a transaction that no node took waits until it is handed in again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a key that was just registered may be unknown at an agreed height: two heartbeats by default.
const JUST_FINAL: Duration = Duration::from_secs(2);
/// By how many blocks a proved state may be behind the height that one correct node has reached: a block's
/// certificate may come with the next one.
const LAST_BLOCKS: u64 = 2;
/// The longest reply but a container: 4,096 hits, 512 KiB of writer epochs, or a grant of 4 MiB.
const REPLY_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Pieces of evidence in one reply: 16 of each of 255 nodes, 1.5 MiB.
const EVIDENCE_MAX: usize = 4_096;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Whose node.
    pub institution: u32,
    /// The release that it runs.
    pub release: String,
    /// The latest rules of the chain that this release knows.
    pub rules_known: u16,
    /// The validator epoch that it works in.
    pub epoch: u64,
    /// Its last final height.
    pub height: u64,
    /// That block's time, in ms since 1970.
    pub time: u64,
    /// The state root there, in hexadecimal.
    pub state_root: String,
    /// Who led how many final blocks.
    pub led: Vec<StatusLed>,
    /// How many grants it holds.
    pub grants: usize,
    /// How many pieces of evidence of misbehaving nodes it keeps.
    pub evidence: usize,
    /// Why it stopped, if it did.
    pub failure: Option<String>,
}

/// How many blocks an institution's node led.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusLed {
    /// The institution.
    pub institution: u32,
    /// Its tier.
    pub tier: String,
    /// Final blocks.
    pub blocks: u64,
}

/// A transaction that f + 1 nodes acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Which.
    pub id: TransactionId,
    /// Where it is final.
    pub outcome: Outcome,
    /// The equal receipts, for keeping.
    pub receipts: Vec<Receipt>,
}

/// A transaction with its proofs of inclusion and finality, checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalTransaction {
    /// The transaction.
    pub transaction: Transaction,
    /// Its block's height.
    pub height: Height,
}

/// A client of all nodes.
pub struct ConsortiumClient {
    consortium: ConsortiumId,
    certificates: EngineCertificates,
    limits: Limits,
    membership: Membership,
    /// The highest block that f + 1 receipts named: what is asked later is asked at or after it, since
    /// the nodes that answer first need not be those that gave the receipts.
    seen: AtomicU64,
    told: Option<Box<TellConfirmed>>,
}

/// Who is told of each transaction that was confirmed.
type TellConfirmed = dyn Fn(&Confirmed) + Send + Sync;

impl ConsortiumClient {
    /// For the consortium of a founding document, with each institution's node.
    ///
    /// # Errors
    /// [`ClientError::Nobody`] if the document names no usable node set.
    pub fn new(
        genesis: &Genesis,
        nodes: impl IntoIterator<Item = (InstitutionId, Endpoint)>,
    ) -> Result<Self, ClientError> {
        Self::with_identity(genesis, nodes, None)
    }

    fn with_identity(
        genesis: &Genesis,
        nodes: impl IntoIterator<Item = (InstitutionId, Endpoint)>,
        identity: Option<&TlsIdentity>,
    ) -> Result<Self, ClientError> {
        let founders = genesis.node_set().map_err(|_| ClientError::Nobody)?;
        let certificates = EngineCertificates::new(genesis.settings.leader_term);
        Ok(Self {
            consortium: genesis.consortium(),
            certificates,
            limits: genesis.settings.limits(),
            membership: Membership::new(
                genesis.consortium(),
                genesis.settings,
                founders,
                nodes.into_iter().collect(),
                identity.cloned(),
            ),
            seen: AtomicU64::new(0),
            told: None,
        })
    }

    /// The same, which tells `listener` of each transaction that f + 1 receipts confirm, before the call
    /// returns that handed it in.
    #[must_use]
    pub fn telling(mut self, listener: impl Fn(&Confirmed) + Send + Sync + 'static) -> Self {
        self.told = Some(Box::new(listener));
        self
    }

    /// For the consortium of a founding, with nodes where its directory says, showing `identity` if there
    /// is one.
    ///
    /// # Errors
    /// [`ClientError::Directory`]; as [`Self::new`].
    pub fn of(founding: &Founding, identity: Option<&TlsIdentity>) -> Result<Self, ClientError> {
        let institutions = founding.genesis.institutions.iter();
        let nodes = institutions
            .map(|institution| {
                let node = ServiceName::Node(institution.id);
                Ok((institution.id, founding.directory.endpoint(node, identity)?))
            })
            .collect::<Result<Vec<_>, DirectoryError>>()?;
        Self::with_identity(&founding.genesis, nodes, identity)
    }

    /// Likewise, with nodes at loopback addresses, which are reached without TLS.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] for any other address; as [`Self::new`].
    pub fn on_loopback(
        genesis: &Genesis,
        nodes: &BTreeMap<InstitutionId, String>,
    ) -> Result<Self, ClientError> {
        let endpoints = nodes
            .iter()
            .map(|(id, address)| {
                let endpoint = Endpoint::new(ServiceName::Node(*id), address, None, None)?;
                Ok((*id, endpoint))
            })
            .collect::<Result<Vec<_>, ClientError>>()?;
        Self::new(genesis, endpoints)
    }

    /// The nodes of the present validator epoch, as far as this client has followed.
    pub fn nodes(&self) -> NodeSet {
        self.membership.nodes()
    }

    /// The nodes of a validator epoch, as far as this client has followed.
    pub fn nodes_of(&self, epoch: ValidatorEpoch) -> NodeSet {
        self.membership.nodes_of(epoch)
    }

    /// What a node says of itself.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self, node: InstitutionId) -> Result<NodeStatus, ClientError> {
        let bytes = self.get(node, "/v1/status").await?;
        serde_json::from_slice(&bytes).map_err(|_| {
            ClientError::Malformed(DecodeError::Invalid {
                what: "the node's status",
                why: "it is no such document",
            })
        })
    }

    /// Hands a transaction to nodes and waits until f + 1 receipts are equal. The first round goes to
    /// one node that takes it; a later one begins with the next node and goes to f + 1, of which one
    /// is correct, since a node can take a transaction and not carry it. Safe to call again with the
    /// same transaction.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if f + 1 nodes refuse it; [`ClientError::Shortfall`] if the time is
    /// up, with who answered what.
    pub async fn submit(
        &self,
        transaction: &Transaction,
        bound: Duration,
    ) -> Result<Confirmed, ClientError> {
        let end = Instant::now() + bound;
        let id = transaction.id(&self.consortium);
        let bytes = transaction.encode();
        let mut set = self.nodes();
        let mut collector = ReceiptCollector::new(self.consortium, id, set.clone());
        let mut order = self.membership.voters();
        let mut wanted = 1;
        while Instant::now() < end {
            let one_correct = set.quorum().one_correct();
            let (mut taken, mut refused, mut reason) = (0, 0, None);
            for node in &order {
                match self.post(*node, "/v1/transactions", bytes.clone()).await {
                    Ok(_) => {
                        taken += 1;
                        self.note(&mut collector, *node, NoReceipt::Pending);
                    }
                    Err(ClientError::Refused(problem)) => {
                        let answer = without_receipt(&problem);
                        self.note(&mut collector, *node, answer);
                        if answer == NoReceipt::Refused {
                            refused += 1;
                            reason = Some(problem);
                        }
                    }
                    // Silent, or what it says cannot be read: the shortfall counts it as silent.
                    Err(_) => {}
                }
                if taken == wanted {
                    break;
                }
            }
            if let Some(problem) = reason.filter(|_| taken == 0 && refused >= one_correct) {
                return Err(ClientError::Refused(problem));
            }
            if let Some(confirmed) = self.receipts(id, &mut collector).await {
                if let Some(told) = &self.told {
                    told(&confirmed);
                }
                return Ok(confirmed);
            }
            if taken == 0 {
                // Nobody took it, so nobody waits for a receipt either.
                tokio::time::sleep(AGAIN).await;
            }
            // A client that knows no node has none to go on with.
            let next = order.len().min(1);
            order.rotate_left(next);
            wanted = one_correct;
            // Nodes may have joined or left since.
            let _ = self.height_now().await;
            let now = self.nodes();
            if now.nodes() != set.nodes() {
                collector = ReceiptCollector::new(self.consortium, id, now.clone());
                order = self.membership.voters();
            }
            set = now;
        }
        Err(ClientError::Shortfall(Box::new(collector.shortfall())))
    }

    /// A question to all nodes at one final height, answered alike by f + 1.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&self, question: &Question) -> Result<Reply, ClientError> {
        let height = self.height().await?;
        self.ask_at(question, height).await
    }

    async fn ask_at(&self, question: &Question, height: Height) -> Result<Reply, ClientError> {
        let bytes = question.encode();
        let path = format!("/v1/questions?height={}", height.number());
        let mut waiting: FuturesUnordered<_> = self
            .membership
            .voters()
            .into_iter()
            .map(|node| self.post(node, &path, bytes.clone()))
            .collect();
        let set = self.nodes();
        let mut collector = ReplyCollector::new(self.consortium, &set, bytes.clone());
        while let Some(answer) = waiting.next().await {
            let Some(reply) = answer.ok().and_then(|bytes| Reply::decode(&bytes).ok()) else {
                continue;
            };
            // One that does not count is left out; the failure says how many agree.
            if collector.add(reply).is_ok() && collector.agreed().is_ok() {
                break;
            }
        }
        Ok(collector.agreed()?.clone())
    }

    /// A key, if it is in force.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agreed_key(&self, hash: KeyHash) -> Result<Option<AgreedKey>, ClientError> {
        let reply = self.ask(&Question::UserKey(hash)).await?;
        Ok(AgreedKey::from_reply(hash, &reply)?)
    }

    /// A key, if it is in force, asked for again for a moment if it is not: the height that f + 1 nodes
    /// have reached can lie below a registration that is only just final.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agreed_key_soon(&self, hash: KeyHash) -> Result<Option<AgreedKey>, ClientError> {
        let end = Instant::now() + JUST_FINAL;
        loop {
            match self.agreed_key(hash).await? {
                None if Instant::now() < end => tokio::time::sleep(AGAIN).await,
                found => return Ok(found),
            }
        }
    }

    /// An institution's writer epochs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn writer_epochs(
        &self,
        institution: InstitutionId,
    ) -> Result<AgreedWriterEpochs, ClientError> {
        let reply = self.ask(&Question::WriterEpochs(institution)).await?;
        Ok(AgreedWriterEpochs::from_reply(institution, &reply)?)
    }

    /// A grant's entry.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agreed_grant(&self, gid: GrantId) -> Result<Option<AgreedGrant>, ClientError> {
        let reply = self.ask(&Question::Grant(gid)).await?;
        Ok(AgreedGrant::from_reply(gid, &reply)?)
    }

    /// The grant that names an access key, and its entry: so a doctor finds the one that answers a
    /// request.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grant_of(
        &self,
        access_key: VerifyingKey,
    ) -> Result<Option<AgreedGrant>, ClientError> {
        let reply = self.ask(&Question::GrantOf(access_key)).await?;
        Ok(AgreedGrant::from_reply_of(access_key, &reply)?)
    }

    /// The registration centre's keys.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn centre_keys(&self) -> Result<AgreedCentreKeys, ClientError> {
        let reply = self.ask(&Question::CentreKeys).await?;
        Ok(AgreedCentreKeys::from_reply(&reply)?)
    }

    /// Which records these tags lead to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn records(
        &self,
        question: &Question,
    ) -> Result<Vec<Option<TransactionId>>, ClientError> {
        let reply = self.ask(question).await?;
        match Answer::decode(question, &reply.answer)? {
            Answer::Records(records) => Ok(records),
            _ => Err(DecodeError::Invalid {
                what: "the answer",
                why: "it is to another question",
            }
            .into()),
        }
    }

    /// A height that one correct node has reached, at or after every block that this client has seen
    /// confirmed.
    ///
    /// # Errors
    /// [`ClientError::Nobody`] if fewer answer.
    pub async fn height(&self) -> Result<Height, ClientError> {
        let (height, epoch) = self.height_and_epoch().await?;
        if self.membership.is_at(epoch) {
            // Who they are in the new epoch matters to whom is asked next.
            self.follow().await?;
        }
        Ok(height)
    }

    /// Waits until one correct node has reached a height that somebody else was told of; whether it has
    /// within the bound. From then on nothing is asked of a state before it, so that what is final there is
    /// found.
    ///
    /// # Errors
    /// [`ClientError::Nobody`] if too few nodes answer.
    pub async fn reaches(&self, height: Height, bound: Duration) -> Result<bool, ClientError> {
        let end = Instant::now() + bound;
        while self.height().await? < height {
            if Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(AGAIN).await;
        }
        self.seen.fetch_max(height.number(), Ordering::Relaxed);
        Ok(true)
    }

    /// The same, of the nodes that are known now.
    async fn height_now(&self) -> Result<Height, ClientError> {
        Ok(self.height_and_epoch().await?.0)
    }

    async fn height_and_epoch(&self) -> Result<(Height, ValidatorEpoch), ClientError> {
        let quorum = self.nodes().quorum();
        let mut waiting: FuturesUnordered<_> = self
            .membership
            .voters()
            .into_iter()
            .map(|node| self.status(node))
            .collect();
        let (mut heights, mut epochs) = (Vec::new(), Vec::new());
        // As many as are sure to answer, so that one that hangs costs nothing.
        while heights.len() < quorum.certificate() {
            match waiting.next().await {
                Some(Ok(status)) => {
                    heights.push(status.height);
                    epochs.push(status.epoch);
                }
                Some(Err(_)) => {}
                None => break,
            }
        }
        // One correct node says as much, or more.
        let reached = |mut said: Vec<u64>| {
            said.sort_unstable_by(|one, other| other.cmp(one));
            said.get(quorum.one_correct() - 1).copied()
        };
        match (reached(heights), reached(epochs)) {
            (Some(height), Some(epoch)) => Ok((
                Height::new(height).max(self.seen()),
                ValidatorEpoch::new(epoch),
            )),
            _ => Err(ClientError::Nobody),
        }
    }

    /// The accounting nodes' HPKE keys that stand on the chain.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn node_keys(&self) -> Result<AgreedNodeKeys, ClientError> {
        // The question's own look at the height may find that a later one has begun.
        self.height().await?;
        let epoch = self.nodes().epoch();
        let reply = self.ask(&Question::NodeKeys(epoch)).await?;
        Ok(AgreedNodeKeys::from_reply(epoch, &reply)?)
    }

    /// Sends a grant to every accounting node, and its countersigned entry to the chain once `holders`
    /// of them have it: the grant's t, since fewer could never serve it.
    ///
    /// # Errors
    /// [`ClientError::TooFewHolders`], with a node's reason; then nothing is on the chain and the same
    /// grant can be sent again. Otherwise those of [`Self::submit`].
    pub async fn give(
        &self,
        package: &GrantPackage,
        holders: usize,
        bound: Duration,
    ) -> Result<Confirmed, ClientError> {
        let bytes = package.encode();
        let accounting = self.membership.accounting(package.entry.epoch);
        let all = join_all(accounting.into_iter().map(|node| {
            let bytes = bytes.clone();
            async move { self.post(node, &self.after("/v1/grants"), bytes).await }
        }))
        .await;
        let mut last = ClientError::Nobody;
        let mut countersigned = Vec::new();
        for answer in all {
            let transaction = answer.and_then(|bytes| Ok(Transaction::decode(&bytes)?));
            match transaction {
                // A node could send another transaction back, which would then be handed in here.
                Ok(Transaction::Grant(grant))
                    if grant.entry == package.entry && grant.signature == package.signature =>
                {
                    countersigned.push(Transaction::Grant(grant));
                }
                Ok(_) => {}
                Err(error) => last = worse(last, error),
            }
        }
        let found = countersigned.len();
        if found < holders {
            return Err(ClientError::TooFewHolders {
                found,
                needed: holders,
                reason: Box::new(last),
            });
        }
        for transaction in countersigned {
            match self.submit(&transaction, bound).await {
                // Its node may lie, or have signed under a key that it has no more: any other one's will do.
                Err(refused @ ClientError::Refused(_)) => last = refused,
                ended => return ended,
            }
        }
        Err(last)
    }

    /// A grant's bytes, from the first accounting node whose answer `open` can use.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grant<T>(
        &self,
        request: &GrantRequest,
        mut open: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T, ClientError> {
        let mut last = ClientError::Nobody;
        for node in self.membership.holders() {
            match self
                .post(node, &self.after("/v1/grants/read"), request.encode())
                .await
            {
                Ok(grant) => match open(&grant) {
                    Some(opened) => return Ok(opened),
                    None => last = worse(last, ClientError::Unusable(node.number())),
                },
                Err(error) => last = worse(last, error),
            }
        }
        Err(last)
    }

    /// Sends a search to all accounting nodes and hands each sealed reply to `take` as it comes, until
    /// that says that enough agree. A node that lacks the grant is handed it first. Gives the refusals that
    /// came.
    pub async fn search(
        &self,
        request: &SearchRequest,
        grant: &VerifiedGrant,
        mut take: impl FnMut(SealedReply) -> ControlFlow<()>,
    ) -> Vec<ClientError> {
        let bytes = request.encode();
        let mut waiting: FuturesUnordered<_> = self
            .membership
            .holders()
            .into_iter()
            .map(|node| self.post_under(node, "/v1/searches".to_owned(), &bytes, grant))
            .collect();
        let mut errors = Vec::new();
        while let Some(answer) = waiting.next().await {
            match answer {
                Ok(bytes) => {
                    if take(SealedReply(bytes)).is_break() {
                        break;
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Asks all accounting nodes for their shares and hands each node's answer to `take` as it comes,
    /// until that says that it has enough: a slow or silent node is passed over, and one whose answer
    /// does not count costs nothing. A node that lacks the grant is handed it first. Gives the refusals that
    /// came.
    pub async fn shares(
        &self,
        request: &ShareRequest,
        grant: &VerifiedGrant,
        mut take: impl FnMut(Vec<ShareAnswer>) -> ControlFlow<()>,
    ) -> Vec<ClientError> {
        let bytes = request.encode();
        let mut waiting: FuturesUnordered<_> = self
            .membership
            .holders()
            .into_iter()
            .map(|node| self.post_under(node, self.after("/v1/shares"), &bytes, grant))
            .collect();
        let mut errors = Vec::new();
        while let Some(answer) = waiting.next().await {
            match answer.and_then(|bytes| Ok(ShareAnswer::decode_all(&bytes)?)) {
                Ok(shares) => {
                    if take(shares).is_break() {
                        break;
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Asks one node something under a grant. One that was away when the grant was given does not hold it:
    /// it is handed the grant, which the chain has, and asked again. Otherwise fewer than t nodes might
    /// hold it for good, though all run. A hospital for which the grant was not cut learns nothing of it.
    async fn post_under(
        &self,
        node: InstitutionId,
        path: String,
        body: &[u8],
        grant: &VerifiedGrant,
    ) -> Result<Vec<u8>, ClientError> {
        let refused = match self.post(node, &path, body.to_vec()).await {
            Err(error) if error.is_not_found() => error,
            answer => return answer,
        };
        let terms = grant.terms();
        let seated = self.nodes_of(terms.validator_epoch);
        let seat = seated.by_institution(node);
        if !seat.is_some_and(|seat| terms.nodes.iter().any(|named| named.key == seat.key)) {
            return Err(refused);
        }
        let handed = self.after("/v1/grants/recorded");
        let handed = self.post(node, &handed, grant.encode(&self.consortium));
        if handed.await.is_err() {
            return Err(refused);
        }
        self.post(node, &path, body.to_vec()).await
    }

    /// The container of an access, from the master node of the grant or the next in the rotation;
    /// `take` gets it piece by piece and is told to start anew if a node breaks off, gives less than
    /// 256 KiB in 10 s, or its bytes are not those of `digest`, which stands on the chain. If all that
    /// give it are so slow, the way here may be, and each is given its time.
    ///
    /// # Errors
    /// [`ClientError`]: a node's reason, if one gave any.
    pub async fn container(
        &self,
        request: &ContainerRequest,
        master: InstitutionId,
        digest: Digest,
        take: &mut (dyn FnMut(Option<&[u8]>) + Send),
    ) -> Result<InstitutionId, ClientError> {
        let mut order = self.membership.holders();
        let first = order.iter().position(|node| *node == master).unwrap_or(0);
        order.rotate_left(first);
        let mut last = ClientError::Nobody;
        let mut slow = Vec::new();
        for node in order {
            let pace = Some(Pace::new());
            match self.container_of(node, request, pace, digest, take).await {
                Ok(()) => return Ok(node),
                Err(error) => {
                    if matches!(error, ClientError::Slow(_)) {
                        slow.push(node);
                    }
                    last = worse(last, error);
                }
            }
        }
        for node in slow {
            match self.container_of(node, request, None, digest, take).await {
                Ok(()) => return Ok(node),
                Err(error) => last = worse(last, error),
            }
        }
        Err(last)
    }

    /// The container as one node gives it, at this pace if there is one.
    async fn container_of(
        &self,
        node: InstitutionId,
        request: &ContainerRequest,
        mut pace: Option<Pace>,
        digest: Digest,
        take: &mut (dyn FnMut(Option<&[u8]>) + Send),
    ) -> Result<(), ClientError> {
        take(None);
        let mut found = DigestStream::new();
        let mut too_slow = false;
        let path = self.after("/v1/containers");
        self.stream(node, &path, request.encode(), &mut |piece| {
            found.update(piece);
            take(Some(piece));
            let now = Instant::now();
            too_slow = pace
                .as_mut()
                .is_some_and(|pace| pace.is_too_slow_after(piece.len(), now));
            !too_slow
        })
        .await?;
        // Who was slow with the last piece has given it all the same.
        if found.finish() == digest {
            Ok(())
        } else if too_slow {
            Err(ClientError::Slow(ServiceName::Node(node)))
        } else {
            Err(ClientError::Unusable(node.number()))
        }
    }

    /// A transaction with proofs of inclusion and finality that are checked here, so that one node's
    /// answer is enough.
    ///
    /// # Errors
    /// [`ClientError`] of the last node tried.
    pub async fn transaction(&self, id: TransactionId) -> Result<FinalTransaction, ClientError> {
        let path = format!("/v1/proofs/{}", hex::encode(id.as_bytes()));
        let found = self
            .proved_by_whom_there_is(&path, |bytes| self.check_proof(id, bytes))
            .await?;
        // A state before it would contradict what is proved.
        self.seen
            .fetch_max(found.height.number(), Ordering::Relaxed);
        Ok(found)
    }

    /// What the state says under a key of its accountable part, with proofs that are checked here, so that
    /// one node's answer is enough: at a height that one correct node has reached or but for the last two
    /// blocks, and not below what this client has seen confirmed.
    ///
    /// # Errors
    /// [`ClientError`] of the last node tried.
    pub async fn state<T: Accountable>(&self, key: &T::Key) -> Result<Option<T>, ClientError> {
        let height = self.height().await?;
        self.state_near(key, height).await
    }

    /// The same near a height that one correct node has reached.
    async fn state_near<T: Accountable>(
        &self,
        key: &T::Key,
        height: Height,
    ) -> Result<Option<T>, ClientError> {
        let least = Height::new(height.number().saturating_sub(LAST_BLOCKS)).max(self.seen());
        let path = format!("/v1/states/{}", hex::encode(T::state_key(key)));
        let end = Instant::now() + JUST_FINAL;
        loop {
            let found = self
                .proved(&path, |bytes| self.check_state::<T>(key, least, bytes))
                .await;
            // A node a block behind, or one whose certificate is on its way, has it in a moment.
            match found {
                Err(ClientError::Malformed(_) | ClientError::Refused(_))
                    if Instant::now() < end =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                found => return found,
            }
        }
    }

    fn check_state<T: Accountable>(
        &self,
        key: &T::Key,
        least: Height,
        bytes: &[u8],
    ) -> Result<Option<T>, ClientError> {
        let mut from = Decoder::new(bytes);
        let finality = FinalityProof::decode(from.var("the finality proof", REPLY_BYTES_MAX)?)?;
        let state = StateProof::decode(from.var("the state proof", REPLY_BYTES_MAX)?)?;
        from.finish("the proved state")?;
        let set = self.nodes_of(finality.unverified_header().epoch);
        let header = finality.verify(&self.consortium, &set, &self.certificates)?;
        if header.height < least {
            return Err(DecodeError::Invalid {
                what: "the proved state",
                why: "it is older than what is known",
            }
            .into());
        }
        Ok(state.verify::<T>(header, key)?)
    }

    /// Headers of final blocks from this height on, lowest first, proved by one certificate that is
    /// checked here: as many as one answer holds ([`FinalityProof::HEADERS_MAX`]), at least one.
    ///
    /// # Errors
    /// [`ClientError`] of the last node tried.
    pub async fn headers(&self, from: Height) -> Result<Vec<Header>, ClientError> {
        let path = format!("/v1/headers?height={}", from.number());
        self.proved_by_whom_there_is(&path, |bytes| self.check_headers(from, bytes))
            .await
    }

    /// The block of a header that is proved final.
    ///
    /// # Errors
    /// [`ClientError`] of the last node tried.
    pub async fn block(&self, header: &Header) -> Result<Block, ClientError> {
        let path = format!("/v1/blocks?height={}", header.height.number());
        self.proved(&path, |bytes| {
            let block = Block::decode(bytes, &self.limits)?;
            if block.header() == header && block.holds_its_body() {
                Ok(block)
            } else {
                Err(DecodeError::Invalid {
                    what: "the block",
                    why: "it is not the one of the header that is proved final",
                }
                .into())
            }
        })
        .await
    }

    /// Evidence of misbehaving nodes, as all nodes that answer keep it, by node and view. Each piece is
    /// checked here, so that one node's answer is enough and none can accuse an honest node.
    ///
    /// # Errors
    /// [`ClientError`] if no node answers.
    pub async fn evidence(&self) -> Result<Vec<Evidence>, ClientError> {
        let mut waiting: FuturesUnordered<_> = self
            .membership
            .voters()
            .into_iter()
            .map(|node| self.get(node, "/v1/evidence"))
            .collect();
        let mut found = BTreeMap::new();
        let (mut answered, mut last) = (false, ClientError::Nobody);
        while let Some(answer) = waiting.next().await {
            let pieces = answer.and_then(|bytes| Ok(Evidence::decode_all(&bytes, EVIDENCE_MAX)?));
            let pieces = match pieces {
                Ok(pieces) => pieces,
                Err(error) => {
                    last = worse(last, error);
                    continue;
                }
            };
            answered = true;
            for piece in pieces {
                let known = (piece.node, piece.epoch, piece.view, piece.offence);
                let stands = || {
                    let set = self.nodes_of(piece.epoch);
                    let stands = self
                        .certificates
                        .verify_evidence(&self.consortium, &set, &piece);
                    stands.is_ok()
                };
                if !found.contains_key(&known) && stands() {
                    found.insert(known, piece);
                }
            }
        }
        if answered {
            Ok(found.into_values().collect())
        } else {
            Err(last)
        }
    }

    /// As [`Self::proved`]. If no proof stands among the nodes that are known, there may be others by now:
    /// a client that asks nothing else never learns of the validator epochs since the founding.
    async fn proved_by_whom_there_is<T>(
        &self,
        path: &str,
        check: impl Fn(&[u8]) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        match self.proved(path, &check).await {
            Err(ClientError::Proof(_)) => {
                self.follow().await?;
                self.proved(path, &check).await
            }
            found => found,
        }
    }

    /// What the first node whose answer passes the check gives at this path.
    async fn proved<T>(
        &self,
        path: &str,
        check: impl Fn(&[u8]) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut last = ClientError::Nobody;
        for node in self.membership.voters() {
            match self.get(node, path).await.and_then(|bytes| check(&bytes)) {
                Ok(found) => return Ok(found),
                Err(error) => last = worse(last, error),
            }
        }
        Err(last)
    }

    fn check_headers(&self, from: Height, bytes: &[u8]) -> Result<Vec<Header>, ClientError> {
        let proof = FinalityProof::decode(bytes)?;
        let set = self.nodes_of(proof.unverified_header().epoch);
        let headers = proof.verify_run(&self.consortium, &set, &self.certificates)?;
        if proof.unverified_header().height != from {
            return Err(DecodeError::Invalid {
                what: "the headers",
                why: "they begin at another height",
            }
            .into());
        }
        Ok(headers.into_iter().copied().collect())
    }

    fn check_proof(
        &self,
        id: TransactionId,
        bytes: &[u8],
    ) -> Result<FinalTransaction, ClientError> {
        let mut from = Decoder::new(bytes);
        let finality = FinalityProof::decode(from.var("the finality proof", REPLY_BYTES_MAX)?)?;
        let inclusion = InclusionProof::decode(from.var("the inclusion proof", REPLY_BYTES_MAX)?)?;
        from.finish("the proof")?;
        let set = self.nodes_of(finality.unverified_header().epoch);
        let header = finality.verify(&self.consortium, &set, &self.certificates)?;
        let (found, transaction) = inclusion.verify(header)?;
        if found != id {
            return Err(DecodeError::Invalid {
                what: "the proof",
                why: "it is of another transaction",
            }
            .into());
        }
        Ok(FinalTransaction {
            transaction,
            height: header.height,
        })
    }

    async fn receipts(
        &self,
        id: TransactionId,
        collector: &mut ReceiptCollector,
    ) -> Option<Confirmed> {
        let path = format!(
            "/v1/receipts/{}?wait={}",
            hex::encode(id.as_bytes()),
            RECEIPT_WAIT.as_millis()
        );
        let path = &path;
        let mut waiting: FuturesUnordered<_> = self
            .membership
            .voters()
            .into_iter()
            .map(|node| async move { (node, self.get(node, path).await) })
            .collect();
        while let Some((node, answer)) = waiting.next().await {
            let bytes = match answer {
                Ok(bytes) => bytes,
                Err(ClientError::Refused(problem)) => {
                    self.note(collector, node, without_receipt(&problem));
                    continue;
                }
                Err(_) => continue,
            };
            let Ok(receipt) = Receipt::decode(&bytes) else {
                continue;
            };
            if let Ok(Some(outcome)) = collector.receive(receipt) {
                self.seen
                    .fetch_max(outcome.height.number(), Ordering::Relaxed);
                return Some(Confirmed {
                    id,
                    outcome,
                    receipts: collector.receipts(),
                });
            }
        }
        None
    }

    fn note(&self, collector: &mut ReceiptCollector, node: InstitutionId, answer: NoReceipt) {
        if let Some(node) = self.nodes().by_institution(node) {
            // A node of the set is never refused here.
            let _ = collector.note(node.key, answer);
        }
    }

    fn seen(&self) -> Height {
        Height::new(self.seen.load(Ordering::Relaxed))
    }

    /// The path, to be answered from the state after what this client has seen.
    fn after(&self, path: &str) -> String {
        format!("{path}?after={}", self.seen().number())
    }

    async fn get(&self, node: InstitutionId, path: &str) -> Result<Vec<u8>, ClientError> {
        self.get_within(node, path, REPLY_BYTES_MAX).await
    }

    async fn get_within(
        &self,
        node: InstitutionId,
        path: &str,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ClientError> {
        let request = self.request(node, Method::GET, path);
        let request = request.map(|request| request.timeout(REQUEST_TIMEOUT));
        self.collect(node, request, bytes_max).await
    }

    async fn post(
        &self,
        node: InstitutionId,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ClientError> {
        let request = self.request(node, Method::POST, path);
        let request = request.map(|request| request.body(body).timeout(REQUEST_TIMEOUT));
        self.collect(node, request, REPLY_BYTES_MAX).await
    }

    async fn collect(
        &self,
        node: InstitutionId,
        request: Option<reqwest::RequestBuilder>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        let mut too_long = false;
        self.send(node, request, &mut |piece| {
            too_long |= body.len() + piece.len() > bytes_max;
            if !too_long {
                body.extend_from_slice(piece);
            }
            !too_long
        })
        .await?;
        if too_long {
            Err(ClientError::TooLong)
        } else {
            Ok(body)
        }
    }

    async fn stream(
        &self,
        node: InstitutionId,
        path: &str,
        body: Vec<u8>,
        take: &mut (dyn FnMut(&[u8]) -> bool + Send),
    ) -> Result<(), ClientError> {
        let request = self.request(node, Method::POST, path);
        let request = request.map(|request| request.body(body));
        self.send(node, request, take).await
    }

    async fn send(
        &self,
        node: InstitutionId,
        request: Option<reqwest::RequestBuilder>,
        take: &mut (dyn FnMut(&[u8]) -> bool + Send),
    ) -> Result<(), ClientError> {
        // A node without an address is one that does not answer.
        let request = request.ok_or(ClientError::Nobody)?;
        let silent = |error| ClientError::unanswered(ServiceName::Node(node), error);
        let response = request.send().await.map_err(silent)?;
        if !response.status().is_success() {
            return Err(ClientError::Refused(problem_of(response).await));
        }
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            if !take(&piece.map_err(silent)?) {
                break;
            }
        }
        Ok(())
    }

    fn request(
        &self,
        node: InstitutionId,
        method: Method,
        target: &str,
    ) -> Option<reqwest::RequestBuilder> {
        let endpoint = self.membership.endpoint(node)?;
        let request = endpoint.http.request(method, endpoint.url(target));
        Some(crate::service::traced(request))
    }
}

/// What a node's problem document says of a transaction. Only a refusal by the chain's rules is one;
/// anything else (not final yet, a failure of the node) leaves it open.
fn without_receipt(problem: &Problem) -> NoReceipt {
    match problem.status() {
        409 | 422 | 400 => NoReceipt::Refused,
        503 => NoReceipt::Busy,
        _ => NoReceipt::Pending,
    }
}

/// Which of two failures to report: a node's reason tells more than another node's silence, and a proof
/// that does not stand among the nodes that are known more than either, since there may be others by now.
fn worse(one: ClientError, other: ClientError) -> ClientError {
    let tells = |error: &ClientError| match error {
        ClientError::Proof(_) => 2,
        ClientError::Nobody | ClientError::Silent(..) | ClientError::Slow(_) => 0,
        _ => 1,
    };
    if tells(&one) > tells(&other) {
        one
    } else {
        other
    }
}
