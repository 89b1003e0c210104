//! A node's interface (the paper's consortium blockchain as its users meet it).

mod grant_events;
mod snapshots;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use chain::{Evidence, FinalView, NodeHandle, NotSubmitted, Submitter};
use client::{GrantEvent, NodeStatus, Octets, Party, Problem, StatusLed, SystemRandom, sentence};
use futures::StreamExt;
use ledger::{
    EncodedBlock, Height, InclusionProof, ReadError, StateProof, TRANSACTION_BYTES_MAX,
    Transaction, TransactionId, View, ViewError, motion_by_number,
};
use parties::{
    AccountingNode, ContainerRequest, FinalChain, GrantPackage, GrantRefusal, GrantRequest,
    NodeKeyStanding, Question, Reply, SearchRequest, ShareAnswer, ShareRefusal, ShareRequest,
    answer_at, grant_is_over,
};
use scheme::{GRANT_BYTES_MAX, GrantId, InstitutionId, SigningKey, ValidatorEpoch};
use serde::Deserialize;
use thiserror::Error;
use tokio::task::JoinSet;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use snapshots::fill_history;

use crate::cloud::{CloudError, Containers};
use crate::epoch_key_files::EpochKeyFiles;
use crate::evidence_files::EvidenceFiles;
use crate::grant_files::GrantFiles;
use crate::http::{
    Events, Interface, Parameters, Peer, Problems, Rates, Raw, Refused, Segment, Server,
    ServerError,
};
use crate::snapshot_files::SnapshotFiles;
use client::now;

/// The longest wait for a receipt or a height in one request; a client that waits longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a request that waits for a height looks again: half of a quick block's time.
const HEIGHT_POLL: Duration = Duration::from_millis(10);
/// How long the node waits before it tries again to write evidence.
const EVIDENCE_AGAIN: Duration = Duration::from_secs(5);

/// Why the service does not start or stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeServiceError {
    /// It cannot be listened.
    #[error("the node cannot listen for its users")]
    Listen(#[from] ServerError),
    /// The grants' folder cannot be used.
    #[error("the node's folder of grants cannot be used: {0}; check its disk and permissions")]
    Grants(#[source] io::Error),
    /// The evidence's folder cannot be used.
    #[error("the node's folder of evidence cannot be used: {0}; check its disk and permissions")]
    Evidence(#[source] io::Error),
    /// The state cannot be read.
    #[error("the node's state cannot be read: {0}")]
    State(#[from] ReadError),
    /// The folder of the node's HPKE keys cannot be used.
    #[error("the node's folder of HPKE keys cannot be used: {0}; check its disk and permissions")]
    HpkeKeys(#[source] io::Error),
}

/// What a node serves: its chain, and as an accounting node the grants it holds.
pub struct NodeService {
    handle: NodeHandle,
    institution: InstitutionId,
    key: SigningKey,
    accounting: RwLock<AccountingNode>,
    hpke_keys: EpochKeyFiles,
    grants: GrantFiles,
    /// Grants whose files are still to be watched though the node does not hold them.
    unheld: Mutex<Unheld>,
    evidence: EvidenceFiles,
    listeners: Arc<grant_events::BlockListeners>,
    counts: watched::Counts,
    cloud: Containers,
    snapshots: Option<SnapshotFiles>,
}

/// When a grant's file is tried again that could not be taken up.
struct Again {
    /// From this height on.
    at: Height,
    /// How many blocks after that, if it fails then.
    wait: u64,
}

impl Again {
    /// With the next block, and more and more seldom: a node whose store was put back has the chain again soon,
    /// and a damaged file stays as it is.
    const fn after(height: Height, wait: u64) -> Self {
        Self {
            at: Height::new(height.number().saturating_add(wait)),
            wait,
        }
    }
}

/// The most blocks between two tries of a grant's file.
const AGAIN_BLOCKS_MAX: u64 = 64;

/// Files of grants that the node does not hold.
#[derive(Default)]
struct Unheld {
    /// Over, and their files not removed durably yet.
    to_remove: BTreeSet<GrantId>,
    /// Kept though they could not be taken up: the chain does not say that they are over.
    kept: BTreeMap<GrantId, Again>,
    /// Of HPKE keys that are wiped, and their files not removed durably yet.
    keys_to_remove: BTreeSet<ValidatorEpoch>,
    /// Of HPKE keys that the chain has and this node lacks, as the log says already.
    keys_missed: BTreeSet<ValidatorEpoch>,
}

impl NodeService {
    /// Takes up the keys, the grants and the evidence that lie in their files. A grant's file is removed
    /// only if the chain says that its grant is over; what cannot be taken up otherwise is kept and named
    /// in the log.
    ///
    /// # Errors
    /// [`NodeServiceError`].
    pub fn new(
        handle: NodeHandle,
        institution: InstitutionId,
        key: SigningKey,
        hpke_keys: EpochKeyFiles,
        grants: GrantFiles,
        evidence: EvidenceFiles,
        cloud: impl Into<Containers>,
    ) -> Result<Self, NodeServiceError> {
        evidence
            .take_up(|piece| handle.verify_evidence(piece).is_ok())
            .map_err(NodeServiceError::Evidence)?;
        let mut node = AccountingNode::new(handle.consortium(), institution, key.clone());
        for (epoch, key) in hpke_keys.all().map_err(NodeServiceError::HpkeKeys)? {
            node.add_hpke_key(epoch, key);
        }
        let mut unheld = Unheld::default();
        let chain = NodeChain::now(&handle);
        for gid in grants.list().map_err(NodeServiceError::Grants)? {
            if grant_is_over(&chain, &gid)? {
                unheld.to_remove.insert(gid);
            } else if !take_up(&mut node, &grants, &gid, &chain)? {
                let height = handle.status().tip.height;
                unheld.kept.insert(gid, Again::after(height, 1));
            }
        }
        let service = Self {
            handle,
            institution,
            key,
            accounting: RwLock::new(node),
            hpke_keys,
            grants,
            unheld: Mutex::new(unheld),
            evidence,
            listeners: grant_events::listeners(),
            counts: watched::Counts::default(),
            cloud: cloud.into(),
            snapshots: None,
        };
        service.make_keys()?;
        service.forget_ended();
        Ok(service)
    }

    /// The same, which writes snapshots of the state into this folder and gives them to who begins.
    #[must_use]
    pub fn with_snapshots(self, snapshots: SnapshotFiles) -> Self {
        Self {
            snapshots: Some(snapshots),
            ..self
        }
    }

    /// Writes the evidence durably that the node has found since it started.
    ///
    /// # Errors
    /// [`io::Error`]; what was not written is written when this is called again.
    pub fn keep_evidence(&self) -> io::Result<()> {
        let pieces = self.handle.evidence();
        pieces
            .iter()
            .try_for_each(|piece| self.evidence.keep(piece))
    }

    fn chain(&self) -> NodeChain<'_> {
        NodeChain::now(&self.handle)
    }

    fn node(&self) -> Result<RwLockReadGuard<'_, AccountingNode>, Problem> {
        let node = self.read_node();
        match node.serves() {
            true => Ok(node),
            false => Err(not_accounting()),
        }
    }

    /// Never held while a file is written or removed: searches and shares read it.
    fn read_node(&self) -> RwLockReadGuard<'_, AccountingNode> {
        self.accounting
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken before the node where both are.
    fn unheld(&self) -> MutexGuard<'_, Unheld> {
        self.unheld.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn share_refused(&self, refusal: &ShareRefusal) -> Problem {
        self.counts.share_refused(refusal);
        Problem::from(refusal)
    }

    /// As [`Self::read_node`].
    fn node_mut(&self) -> RwLockWriteGuard<'_, AccountingNode> {
        self.accounting
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the node says of itself.
    fn status(&self) -> NodeStatus {
        let status = self.handle.status();
        NodeStatus {
            institution: self.institution.number(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            rules_known: ledger::RULES_KNOWN,
            epoch: status.epoch.number(),
            height: status.tip.height.number(),
            time: status.tip.time.number(),
            state_root: hex::encode(status.tip.state_root.as_bytes()),
            led: status
                .led
                .iter()
                .map(|led| StatusLed {
                    institution: led.institution.number(),
                    tier: format!("{:?}", led.tier).to_lowercase(),
                    blocks: led.blocks,
                })
                .collect(),
            grants: self.read_node().held(),
            evidence: self.evidence.count(),
            failure: status.failure,
        }
    }

    /// Sees to it that the node's HPKE keys of this validator epoch and the next stand on the chain, if
    /// it accounts in them: makes and keeps what there is none of, and hands in what does not stand.
    /// Called with each block, so what a busy chain did not take is handed in again.
    ///
    /// # Errors
    /// [`NodeServiceError`] if a key cannot be written or the state not read.
    fn make_keys(&self) -> Result<(), NodeServiceError> {
        let chain = self.chain();
        let needed: Vec<_> = {
            let node = self.read_node();
            let epochs = node.needs_keys_of(&chain)?.into_iter();
            epochs
                .map(|epoch| Ok((epoch, node.key_standing(epoch, &chain)?)))
                .collect::<Result<_, ReadError>>()?
        };
        for (epoch, standing) in needed {
            match standing {
                NodeKeyStanding::Announced => continue,
                NodeKeyStanding::NotAnnounced => {}
                NodeKeyStanding::NotMade => {
                    // Kept before anyone can seal to it.
                    let key = self.hpke_keys.make(epoch);
                    let key = key.map_err(NodeServiceError::HpkeKeys)?;
                    self.node_mut().add_hpke_key(epoch, key);
                }
                NodeKeyStanding::AnotherStands { standing } => {
                    if self.unheld().keys_missed.insert(epoch) {
                        tracing::error!(
                            epoch = epoch.number(),
                            standing = hex::encode(standing.as_bytes()),
                            "the node's HPKE key of this validator epoch is not here: grants of the epoch are sealed to it and cannot be served; if its file was moved, put it back and start the node again"
                        );
                    }
                    continue;
                }
            }
            let announced = self.read_node().announce(epoch).map(|key| key.encode());
            // Refused means that it became final in between, or that the chain is busy.
            if let Some(Err(refusal)) =
                announced.map(|key| self.handle.submit(Submitter::new(0), &key))
            {
                tracing::debug!(%refusal, "the node's key is handed in again");
            }
        }
        Ok(())
    }

    /// Takes up what could not be taken up before: the chain may say by now what it did not then.
    ///
    /// # Errors
    /// [`NodeServiceError`] if a file or the state cannot be read.
    fn take_up_again(&self) -> Result<(), NodeServiceError> {
        let chain = self.chain();
        let height = self.handle.status().tip.height;
        let mut unheld = self.unheld();
        let mut node = self.node_mut();
        let mut held = Vec::new();
        for (gid, again) in &mut unheld.kept {
            if again.at > height || node.holds(gid) || grant_is_over(&chain, gid)? {
                continue;
            }
            if take_up(&mut node, &self.grants, gid, &chain)? {
                tracing::info!(
                    gid = hex::encode(gid.as_bytes()),
                    "a grant's file is taken up"
                );
                held.push(*gid);
            } else {
                *again = Again::after(height, (2 * again.wait).min(AGAIN_BLOCKS_MAX));
            }
        }
        for gid in held {
            unheld.kept.remove(&gid);
        }
        Ok(())
    }

    /// Forgets grants that are over and removes their files. A file that cannot be removed now is
    /// tried again with the next block, until it and its name are gone from the disk.
    fn forget_ended(&self) {
        let chain = self.chain();
        let mut unheld = self.unheld();
        let forgotten = self.node_mut().forget_ended(&chain);
        match forgotten {
            Ok(over) => unheld.to_remove.extend(over),
            Err(error) => tracing::error!(%error, "ended grants could not be looked for"),
        }
        let Unheld {
            to_remove,
            kept,
            keys_to_remove,
            ..
        } = &mut *unheld;
        let node = self.read_node();
        kept.retain(|gid, _| match grant_is_over(&chain, gid) {
            // A grant that was sent again since is held like any other.
            Ok(false) => !node.holds(gid),
            Ok(true) => {
                to_remove.insert(*gid);
                false
            }
            Err(error) => {
                tracing::error!(%error, "ended grants could not be looked for");
                true
            }
        });
        // What is held again, as the chain records it, has its file anew.
        to_remove.retain(|gid| !node.holds(gid));
        drop(node);
        to_remove.retain(|gid| match self.grants.remove(gid) {
            Ok(()) => false,
            Err(error) => {
                let gid = hex::encode(gid.as_bytes());
                tracing::error!(%error, gid, "a grant's file could not be removed: tried again with the next block");
                true
            }
        });
        // A grant that could not be taken up may need any of the keys.
        if kept.is_empty() {
            let current = self.handle.status().epoch;
            let ended = self.node_mut().forget_hpke_keys(current, &chain);
            match ended {
                Ok(ended) => keys_to_remove.extend(ended),
                Err(error) => tracing::error!(%error, "ended HPKE keys could not be looked for"),
            }
        }
        keys_to_remove.retain(|epoch| match self.hpke_keys.remove(*epoch) {
            Ok(()) => false,
            Err(error) => {
                tracing::error!(%error, epoch = epoch.number(), "an ended HPKE key could not be removed: tried again with the next block");
                true
            }
        });
    }

    /// Takes a grant and keeps its file before anyone gets the countersigned entry.
    fn keep(&self, package: &GrantPackage) -> Result<Transaction, Problem> {
        self.keep_received(&package.grant, |node, chain| {
            node.receive_grant(package, chain, now())
        })
    }

    /// Takes a grant that the chain has recorded, from whoever has it, and keeps its file.
    fn keep_recorded(&self, grant: &[u8]) -> Result<(), Problem> {
        self.keep_received(grant, |node, chain| {
            Ok((node.receive_recorded_grant(grant, chain)?, ()))
        })
    }

    /// Has the node take a grant, and keeps its file; if that fails, the node holds no more than before.
    fn keep_received<T>(
        &self,
        grant: &[u8],
        receive: impl FnOnce(&mut AccountingNode, &NodeChain<'_>) -> Result<(GrantId, T), GrantRefusal>,
    ) -> Result<T, Problem> {
        drop(self.node()?);
        // No file of it is removed meanwhile.
        let _files = self.unheld();
        let (held_before, received) = {
            let mut node = self.node_mut();
            let held_before = node.held();
            let received = receive(&mut node, &self.chain());
            (
                held_before,
                received.map(|received| (node.held(), received)),
            )
        };
        let (held_now, (gid, result)) = received.map_err(|refusal| Problem::from(&refusal))?;
        if let Err(error) = self.grants.keep(&gid, grant) {
            if held_now > held_before {
                self.node_mut().give_up(&gid);
            }
            return Err(Problem::internal(&error));
        }
        Ok(result)
    }
}

/// Whether the node holds the grant of this file now. If not, the file is kept: that this node cannot
/// read it says nothing of whether the grant is over.
fn take_up(
    node: &mut AccountingNode,
    grants: &GrantFiles,
    gid: &GrantId,
    chain: &NodeChain<'_>,
) -> Result<bool, NodeServiceError> {
    const KEPT: &str = "a grant's file cannot be taken up and is kept, and tried again as the chain grows: if it stays so, mend the disk; a doctor who uses the grant hands it on to this node again";
    let name = hex::encode(gid.as_bytes());
    let bytes = match grants.read(gid) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(gid = name, %error, "{KEPT}");
            return Ok(false);
        }
        Err(error) => return Err(NodeServiceError::Grants(error)),
    };
    let held_before = node.held();
    match node.restore_grant(&bytes, chain) {
        Ok(found) if found == *gid => Ok(true),
        Ok(found) => {
            // Unless its own file was taken up before this one.
            if node.held() > held_before {
                node.give_up(&found);
            }
            tracing::warn!(gid = name, "{KEPT}: it holds another grant");
            Ok(false)
        }
        // The store says nothing about the grant.
        Err(GrantRefusal::Store(error)) => Err(error.into()),
        Err(refusal) => {
            let why = sentence(&refusal);
            tracing::warn!(gid = name, why, "{KEPT}");
            Ok(false)
        }
    }
}

/// Serves the node's interface until `stop` completes.
pub async fn serve_node(service: Arc<NodeService>, server: Server, stop: impl Future<Output = ()>) {
    // Both end with the service.
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_blocks(Arc::clone(&service)));
    tasks.spawn(watch_evidence(Arc::clone(&service)));
    tasks.spawn(snapshots::keep_snapshots(Arc::clone(&service)));
    let listeners = Arc::clone(&service.listeners);
    let stop = async {
        stop.await;
        // Streams of events have no end of their own.
        listeners.close();
    };
    server.serve(router(service), stop).await;
}

/// With each block: forgets the grants and keys that are over, makes the keys that are needed, and tells
/// who listens.
async fn watch_blocks(service: Arc<NodeService>) {
    let mut blocks = service.handle.final_blocks();
    loop {
        let block = match blocks.next().await {
            Ok(block) => Some(block),
            Err(chain::NoBlock::Lost(_)) => None,
            Err(_) => return,
        };
        service.listeners.tell(&());
        let service = Arc::clone(&service);
        // Checking grants against the state reads the disk.
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(block) = &block {
                service.counts.block(&service.handle, block);
            }
            if let Err(error) = service.make_keys() {
                tracing::error!(%error, "the node's HPKE keys could not be seen to: tried again with the next block");
            }
            service.forget_ended();
            if let Err(error) = service.take_up_again() {
                tracing::error!(%error, "grants' files could not be tried again: tried with the next block");
            }
        })
        .await;
    }
}

/// Keeps evidence as the node finds it.
async fn watch_evidence(service: Arc<NodeService>) {
    let mut known = 0;
    loop {
        let found = service.handle.evidence_beyond(known).await;
        let keeping = Arc::clone(&service);
        match tokio::task::spawn_blocking(move || keeping.keep_evidence()).await {
            Ok(Ok(())) => known = found,
            Ok(Err(error)) => {
                tracing::error!(%error, "evidence could not be written: tried again in 5 s");
                tokio::time::sleep(EVIDENCE_AGAIN).await;
            }
            // The process stops.
            Err(_) => return,
        }
    }
}

fn router(service: Arc<NodeService>) -> Router {
    interface().build(paths().with_state(service))
}

fn interface() -> Interface {
    Interface {
        title: "willis node",
        description: "A hospital's node: takes transactions, answers what stands on the chain with proofs, and as an accounting node serves grants.",
        calls: None,
        answers: None,
        rates: Rates {
            burst: 2_000,
            interval: Duration::from_millis(2),
        },
    }
}

/// The OpenAPI document of a node.
pub fn node_openapi() -> OpenApi {
    interface().describe(paths().into_openapi())
}

fn paths() -> OpenApiRouter<Arc<NodeService>> {
    // A package holds a grant and its entry.
    let grants = DefaultBodyLimit::max(GRANT_BYTES_MAX + TRANSACTION_BYTES_MAX);
    OpenApiRouter::new()
        // everyone
        .routes(routes!(status))
        .routes(routes!(question))
        .routes(routes!(proof))
        .routes(routes!(headers))
        .routes(routes!(node_sets))
        .routes(routes!(motions))
        .routes(routes!(state))
        .routes(routes!(block))
        .routes(routes!(final_blocks))
        .routes(routes!(snapshots::snapshots))
        .routes(routes!(snapshots::snapshot))
        .routes(routes!(evidence))
        // hospitals' servers, the registration centre, patients
        .routes(routes!(submit))
        .routes(routes!(receipt))
        // doctors who wait for a grant or have one
        .routes(routes!(grant_events))
        .routes(routes!(give_grant))
        .routes(routes!(search))
        .routes(routes!(shares))
        .routes(routes!(container))
        .layer(DefaultBodyLimit::max(TRANSACTION_BYTES_MAX))
        // patients, agents, and doctors whom a node cannot serve that was away
        .merge(
            OpenApiRouter::new()
                .routes(routes!(take_grant))
                .routes(routes!(take_recorded_grant))
                .layer(grants),
        )
}

type Service = State<Arc<NodeService>>;

#[utoipa::path(
    get,
    path = "/v1/status",
    operation_id = "status",
    summary = "What the node says of itself.",
    responses((status = 200, body = NodeStatus), Problems),
)]
async fn status(State(service): Service) -> Result<Json<NodeStatus>, Refused> {
    blocking(move || Ok(Json(service.status()))).await
}

#[utoipa::path(
    post,
    path = "/v1/transactions",
    operation_id = "submit",
    summary = "Takes a transaction and carries it to the accounting nodes until it is final. Safe to repeat.",
    request_body(content = Octets, content_type = "application/octet-stream", description = "A transaction (spec/formats.md)."),
    responses((status = 202, description = "The transaction's id in hexadecimal", body = String), Problems),
)]
async fn submit(
    State(service): Service,
    Caller(submitter): Caller,
    Raw(body): Raw,
) -> Result<Response, Refused> {
    match service.handle.submit(submitter, &body) {
        Ok(submitted) => {
            Ok((StatusCode::ACCEPTED, hex::encode(submitted.id().as_bytes())).into_response())
        }
        Err(NotSubmitted::Busy(_)) => refuse(Problem::busy(
            "the node is busy: hand the same transaction in again after a second",
        )),
        Err(NotSubmitted::Stopped(_)) => refuse(Problem::busy(
            "the node stopped taking part: hand the same transaction to another node",
        )),
        Err(NotSubmitted::Invalid(error)) => refuse(Problem::invalid(&error)),
        Err(NotSubmitted::Refused(refusal)) => refuse(Problem::refused(&refusal)),
        Err(error) => refuse(Problem::internal(&error)),
    }
}

/// Whose share of the pool a transaction is counted in: each institution and each other party has its
/// own, users share one by their address.
struct Caller(Submitter);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let peer = parts.extensions.get::<Peer>();
        let number = match peer.map(|peer| (peer.party, peer.address.ip().to_canonical())) {
            Some((Some(Party::Institution(institution)), _)) => u64::from(institution.number()),
            Some((Some(Party::Centre), _)) => PARTIES,
            Some((Some(Party::Query), _)) => PARTIES + 1,
            Some((Some(Party::Cloud), _)) => PARTIES + 2,
            Some((None, IpAddr::V4(address))) => USERS + u64::from(address.to_bits()),
            // A site of IPv6 has 64 bits of its own.
            Some((None, IpAddr::V6(address))) => {
                let site = u64::try_from(address.to_bits() >> 64).unwrap_or_default();
                USERS.saturating_add(site >> 1)
            }
            None => USERS,
        };
        Ok(Self(Submitter::new(number)))
    }
}

/// Institutions have their own numbers, of 32 bits.
const PARTIES: u64 = 1 << 32;
const USERS: u64 = 1 << 62;

#[derive(Deserialize)]
struct Wait {
    /// Milliseconds to wait, at most [`WAIT_MAX`].
    #[serde(default)]
    wait: u64,
}

#[utoipa::path(
    get,
    path = "/v1/receipts/{id}",
    operation_id = "receipt",
    summary = "The node's signed receipt, once the transaction is final here.",
    params(("id" = String, Path, description = "The transaction's id, 64 hexadecimal digits"), ("wait" = Option<u64>, Query, description = "Milliseconds to wait, at most 10,000")),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn receipt(
    State(service): Service,
    Segment(id): Segment<String>,
    Parameters(wait): Parameters<Wait>,
) -> Result<Vec<u8>, Refused> {
    let id = transaction_id(&id)?;
    let bound = Duration::from_millis(wait.wait).min(WAIT_MAX);
    match service.handle.wait_for_receipt(&id, bound).await {
        Ok(receipt) => Ok(receipt.encode()),
        Err(chain::NoReceipt::TimedOut) => refuse(Problem::not_found(
            "the transaction is not final here yet: ask again, or send it again",
        )),
        Err(chain::NoReceipt::Busy) => refuse(Problem::busy(
            "too many callers wait at this node: ask again",
        )),
        Err(error) => refuse(Problem::invalid(&error)),
    }
}

#[derive(Deserialize)]
struct At {
    height: u64,
}

/// Waits, within a bound, until the node has the block that the caller has seen final: a node a block
/// behind would otherwise refuse what the caller knows to stand.
struct After;

#[derive(Deserialize)]
struct Seen {
    #[serde(default)]
    after: u64,
}

impl FromRequestParts<Arc<NodeService>> for After {
    type Rejection = Refused;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<NodeService>,
    ) -> Result<Self, Refused> {
        let Parameters(seen) = Parameters::<Seen>::from_request_parts(parts, service).await?;
        reach(&service.handle, Height::new(seen.after)).await?;
        Ok(Self)
    }
}

#[utoipa::path(
    post,
    path = "/v1/questions",
    operation_id = "question",
    summary = "Answers a question about the state at a final height, signed.",
    params(("height" = u64, Query, description = "The final height to answer at")),
    request_body(content = Octets, content_type = "application/octet-stream", description = "A question (spec/formats.md)."),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn question(
    State(service): Service,
    Parameters(at): Parameters<At>,
    Raw(body): Raw,
) -> Result<Vec<u8>, Refused> {
    let question = Question::decode(&body).map_err(|error| Problem::malformed(&error))?;
    let height = Height::new(at.height);
    reach(&service.handle, height).await?;
    blocking(move || {
        let chain = service.chain();
        let answer = answer_at(chain.view(), &question, height)
            .map_err(|error| Problem::internal(&error))?;
        let header = chain
            .block(height)
            .map_err(|error| Problem::internal(&error))?
            .ok_or_else(|| Problem::not_found("this node has no block at that height"))?
            .header()
            .map_err(|error| Problem::internal(&error))?;
        let reply = Reply::sign(
            &service.handle.consortium(),
            service.institution,
            &service.key,
            &body,
            height,
            header.state_root,
            answer.encode(),
        );
        Ok(reply.encode())
    })
    .await
}

#[utoipa::path(
    get,
    path = "/v1/proofs/{id}",
    operation_id = "proof",
    summary = "A transaction with its proofs of inclusion and finality.",
    params(("id" = String, Path, description = "The transaction's id, 64 hexadecimal digits")),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn proof(State(service): Service, Segment(id): Segment<String>) -> Result<Vec<u8>, Refused> {
    let id = transaction_id(&id)?;
    blocking(move || {
        let chain = service.chain();
        let position = ledger::transaction(chain.view(), id)
            .map_err(|error| Problem::internal(&error))?
            .ok_or_else(|| Problem::not_found("the transaction is not final here"))?;
        let handle = &service.handle;
        let not_here = || Problem::not_found(NO_CERTIFICATE_YET);
        let finality = handle
            .finality(position.height)
            .map_err(|error| Problem::internal(&error))?
            .ok_or_else(not_here)?;
        let found = handle
            .block(position.height)
            .map_err(|error| Problem::internal(&error))?
            .ok_or_else(not_here)?;
        let inclusion = InclusionProof::new(&found.block, position.index).ok_or_else(not_here)?;
        Ok(scheme::Encoder::new()
            .var(&finality.encode())
            .var(&inclusion.encode())
            .finish())
    })
    .await
}

/// Headers of final blocks from a height on, with the certificate that proves all of them.
#[utoipa::path(
    get,
    path = "/v1/headers",
    operation_id = "headers",
    summary = "Headers of final blocks from a height on, with the certificate that proves all of them.",
    params(("height" = u64, Query, description = "The first height")),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn headers(
    State(service): Service,
    Parameters(from): Parameters<At>,
) -> Result<Vec<u8>, Refused> {
    blocking(move || {
        service
            .handle
            .finality_from(Height::new(from.height))
            .map_err(|error| Problem::internal(&error))?
            .map(|proof| proof.encode())
            .ok_or_else(|| Problem::not_found(NO_CERTIFICATE_YET))
    })
    .await
}

/// What the state says under a key, with its proofs.
#[utoipa::path(
    get,
    path = "/v1/states/{key}",
    operation_id = "state",
    summary = "What the newest state says under a key of its accountable part, with the proofs that it does.",
    params(("key" = String, Path, description = "The key (spec/chain.md, 3.3), 1 to 80 bytes in hexadecimal")),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn state(State(service): Service, Segment(key): Segment<String>) -> Result<Vec<u8>, Refused> {
    let key = hex::decode(&key)
        .ok()
        .filter(|key| (1..=STATE_KEY_BYTES_MAX).contains(&key.len()));
    let Some(key) = key else {
        return refuse(Problem::invalid(&NoStateKey));
    };
    blocking(move || {
        let proved = service.handle.proved_view();
        let proved = proved
            .map_err(|error| Problem::internal(&error))?
            .ok_or_else(|| Problem::not_found(NO_CERTIFICATE_YET))?;
        let proof = StateProof::of_key(proved.view.as_ref(), &key);
        let proof = proof.map_err(|error| Problem::internal(&error))?;
        Ok(scheme::Encoder::new()
            .var(&proved.finality.encode())
            .var(&proof.encode())
            .finish())
    })
    .await
}

/// The longest key of the accountable part has 38 bytes.
const STATE_KEY_BYTES_MAX: usize = 80;

#[derive(Debug, Error)]
#[error("the key is not 1 to 80 bytes in hexadecimal: see the chain's specification for the keys")]
struct NoStateKey;

#[derive(Deserialize)]
struct Trusted {
    after: u64,
}

/// What leads who trusts the nodes of a validator epoch to those of later ones.
#[utoipa::path(
    get,
    path = "/v1/node-sets",
    operation_id = "node_sets",
    summary = "Proofs of the node sets after a validator epoch: one for each epoch whose nodes are not those before, at most 16.",
    params(("after" = u64, Query, description = "The validator epoch whose nodes are known")),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn node_sets(
    State(service): Service,
    Parameters(known): Parameters<Trusted>,
) -> Result<Vec<u8>, Refused> {
    blocking(move || {
        let after = ValidatorEpoch::new(known.after);
        let proofs = service
            .handle
            .node_set_proofs(after, client::NODE_SET_PROOFS_MAX)
            .map_err(|error| Problem::internal(&error))?;
        Ok(client::encode_node_set_proofs(&proofs))
    })
    .await
}

/// A final block, which headers from [`headers`] prove.
#[utoipa::path(
    get,
    path = "/v1/blocks",
    operation_id = "block",
    summary = "A final block; a header that is proved final says whether it is the right one.",
    params(("height" = u64, Query, description = "Its height")),
    responses((status = 200, description = "Canonical bytes (spec/chain.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn block(
    State(service): Service,
    Parameters(at): Parameters<At>,
) -> Result<Vec<u8>, Refused> {
    blocking(move || {
        let height = Height::new(at.height);
        service
            .handle
            .encoded_block(height)
            .map_err(|error| Problem::internal(&error))?
            .map(|block| block.as_bytes().to_vec())
            .ok_or_else(|| Problem::not_found("this node has no block at that height yet"))
    })
    .await
}

#[derive(Deserialize)]
struct FromMotion {
    from: u32,
}

#[utoipa::path(
    get,
    path = "/v1/motions",
    operation_id = "motions",
    summary = "The ids of motions from a number on, in the order in which they were put: at most 1,024. How many there are, and each motion with its approvals, is proved by states.",
    params(("from" = u32, Query, description = "How many to leave out")),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn motions(
    State(service): Service,
    Parameters(asked): Parameters<FromMotion>,
) -> Result<Vec<u8>, Refused> {
    blocking(move || {
        let view = service.handle.view();
        let mut ids = Vec::new();
        for number in (asked.from..=u32::MAX).take(client::MOTIONS_MAX) {
            let found = motion_by_number(view.as_ref(), number);
            match found.map_err(|error| Problem::internal(&error))? {
                Some(id) => ids.push(id),
                None => break,
            }
        }
        Ok(client::encode_motions(&ids))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/v1/final-blocks",
    operation_id = "final_blocks",
    summary = "Final blocks from a height on, each with its certificate if it has one of its own: at most 256 and some 4 MiB. What a backup of the chain is made of.",
    params(("height" = u64, Query, description = "The first height")),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn final_blocks(
    State(service): Service,
    Parameters(from): Parameters<At>,
) -> Result<Vec<u8>, Refused> {
    blocking(move || {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        let mut height = Height::new(from.height);
        while blocks.len() < client::FINAL_BLOCKS_MAX && bytes < client::FINAL_BLOCKS_BYTES {
            let stored = service
                .handle
                .stored_block(height)
                .map_err(|error| Problem::internal(&error))?;
            let Some(stored) = stored else { break };
            bytes += stored.block.len();
            blocks.push(stored);
            height = height.next();
        }
        if blocks.is_empty() {
            return Err(Problem::not_found(
                "this node has no block at that height yet",
            ));
        }
        Ok(client::encode_final_blocks(&blocks))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/v1/evidence",
    operation_id = "evidence",
    summary = "Evidence of misbehaving nodes that this node keeps. Each piece can be checked without trust in this node.",
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn evidence(State(service): Service) -> Vec<u8> {
    Evidence::encode_all(&service.evidence.pieces())
}

#[derive(Deserialize)]
struct Followed {
    access_keys: String,
}

/// What becomes of the grants that name these access keys. The chain says it to everyone.
#[utoipa::path(
    get,
    path = "/v1/grants/events",
    operation_id = "grant_events",
    summary = "Tells at once that a grant that names one of these access keys was recorded, was revoked or has expired: what stands, then what comes. A hint, which f + 1 nodes confirm.",
    params(("access_keys" = String, Query, description = "1 to 8 access keys, 64 hexadecimal digits each, with commas between them")),
    responses((status = 200, description = "Events named grant", body = GrantEvent, content_type = "text/event-stream"), Problems),
)]
async fn grant_events(
    State(service): Service,
    Caller(listener): Caller,
    Parameters(followed): Parameters<Followed>,
) -> Result<Events, Refused> {
    let keys = grant_events::access_keys(&followed.access_keys)?;
    grant_events::events(service, listener, keys).await
}

/// Takes a grant, keeps it in its file, and answers with the countersigned transaction, which the
/// sender hands in: so any of the accounting nodes can be the one that does it.
#[utoipa::path(
    post,
    path = "/v1/grants",
    operation_id = "take_grant",
    summary = "Takes a grant, keeps it in its file, and gives the countersigned entry back.",
    params(("after" = Option<u64>, Query, description = "A height that the caller has seen final: the node waits for it, 10 s at most")),
    request_body(content = Octets, content_type = "application/octet-stream", description = "A package: a grant and its entry (spec/formats.md)."),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn take_grant(State(service): Service, _: After, Raw(body): Raw) -> Result<Vec<u8>, Refused> {
    blocking(move || {
        let package = GrantPackage::decode(&body).map_err(|error| Problem::malformed(&error))?;
        Ok(service.keep(&package)?.encode())
    })
    .await
}

/// Takes a grant that stands on the chain, and keeps it in its file: a node that was away when it was given
/// gets it from the doctor, whom it could not serve otherwise.
#[utoipa::path(
    post,
    path = "/v1/grants/recorded",
    operation_id = "take_recorded_grant",
    summary = "Takes a grant whose digest stands on the chain, from whoever has it, and keeps it in its file. Safe to repeat.",
    params(("after" = Option<u64>, Query, description = "A height that the caller has seen final: the node waits for it, 10 s at most")),
    request_body(content = Octets, content_type = "application/octet-stream", description = "A grant's bytes (spec/scheme.md, E29)."),
    responses((status = 204, description = "It is held"), Problems),
)]
async fn take_recorded_grant(
    State(service): Service,
    _: After,
    Raw(body): Raw,
) -> Result<StatusCode, Refused> {
    blocking(move || {
        service.keep_recorded(&body)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

#[utoipa::path(
    post,
    path = "/v1/grants/read",
    operation_id = "give_grant",
    summary = "Gives a grant to one of its doctors.",
    params(("after" = Option<u64>, Query, description = "A height that the caller has seen final: the node waits for it, 10 s at most")),
    request_body(content = Octets, content_type = "application/octet-stream", description = "A request signed under the grant's access key."),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn give_grant(State(service): Service, _: After, Raw(body): Raw) -> Result<Vec<u8>, Refused> {
    let request = GrantRequest::decode(&body).map_err(|error| Problem::malformed(&error))?;
    blocking(move || {
        service
            .node()?
            .may_fetch(&request, &service.chain())
            .map_err(|refusal| Problem::from(&refusal))?;
        service
            .grants
            .read(&request.gid)
            .map_err(|error| Problem::internal(&error))?
            .ok_or_else(|| Problem::from(&ShareRefusal::NoSuchGrant))
    })
    .await
}

#[utoipa::path(
    post,
    path = "/v1/searches",
    operation_id = "search",
    summary = "Equation (13): the records that the grant's trapdoors find at a final height, sealed to the doctor.",
    request_body(content = Octets, content_type = "application/octet-stream", description = "A search signed under the grant's access key."),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn search(State(service): Service, Raw(body): Raw) -> Result<Vec<u8>, Refused> {
    let request = SearchRequest::decode(&body).map_err(|error| Problem::malformed(&error))?;
    reach(&service.handle, request.height).await?;
    blocking(move || {
        let reply = service
            .node()?
            .search(&request, &service.chain(), &mut SystemRandom);
        reply
            .map(|sealed| sealed.0)
            .map_err(|refusal| Problem::from(&refusal))
    })
    .await
}

#[utoipa::path(
    post,
    path = "/v1/shares",
    operation_id = "shares",
    summary = "Equation (15): the node's shares of the sections asked for, once the access is final.",
    params(("after" = Option<u64>, Query, description = "A height that the caller has seen final: the node waits for it, 10 s at most")),
    request_body(content = Octets, content_type = "application/octet-stream", description = "A share request signed under the grant's access key."),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn shares(State(service): Service, _: After, Raw(body): Raw) -> Result<Vec<u8>, Refused> {
    let request = ShareRequest::decode(&body).map_err(|error| Problem::malformed(&error))?;
    let first = Arc::clone(&service);
    let asked = request.clone();
    let pending = blocking(move || {
        first
            .node()?
            .begin_shares(&asked, &first.chain())
            .map_err(|refusal| first.share_refused(&refusal))
    })
    .await?;
    let start = service
        .cloud
        .start(pending.address, pending.header_bytes_max)
        .await
        .inspect_err(|_| service.counts.header_unread())
        .map_err(cloud)?;
    blocking(move || {
        let chain = service.chain();
        let node = service.node()?;
        let answers = node.shares(
            &pending,
            &request.access_key,
            &start,
            &chain,
            &mut SystemRandom,
        );
        let answers = answers.map_err(|refusal| service.share_refused(&refusal))?;
        service.counts.shares_given(answers.len());
        Ok(ShareAnswer::encode_all(&answers))
    })
    .await
}

/// The master node's two-step verification: the whole container is read and hashed before the first
/// byte of it goes out, and read again to be sent, so that memory stays constant.
#[utoipa::path(
    post,
    path = "/v1/containers",
    operation_id = "container",
    summary = "The container of an access, verified before its first byte goes out.",
    params(("after" = Option<u64>, Query, description = "A height that the caller has seen final: the node waits for it, 10 s at most")),
    request_body(content = Octets, content_type = "application/octet-stream", description = "A container request signed under the grant's access key."),
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn container(State(service): Service, _: After, Raw(body): Raw) -> Result<Response, Refused> {
    let request = ContainerRequest::decode(&body).map_err(|error| Problem::malformed(&error))?;
    let first = Arc::clone(&service);
    let (pending, doctor) = blocking(move || {
        let (node, chain) = (first.node()?, first.chain());
        let pending = node
            .begin_container(&request, &chain)
            .map_err(|refusal| Problem::from(&refusal))?;
        let doctor = node
            .author_signature(&pending, &chain)
            .map_err(|refusal| Problem::from(&refusal))?;
        Ok((pending, doctor))
    })
    .await?;
    let address = pending.address;
    let found = service.cloud.digest(address).await.map_err(cloud)?;
    let again = Arc::clone(&service);
    blocking(move || {
        let (node, chain) = (again.node()?, again.chain());
        node.release_container(&pending, &request.access_key, found, &doctor, &chain)
            .map_err(|refusal| Problem::from(&refusal))
    })
    .await?;
    let pieces = service.cloud.read(address).await.map_err(cloud)?;
    let kind = (header::CONTENT_TYPE, "application/octet-stream");
    Ok((
        [kind],
        Body::from_stream(pieces.map(|piece| piece.map_err(io::Error::other))),
    )
        .into_response())
}

/// A node's final chain at one moment, as the parties read it.
pub struct NodeChain<'a> {
    handle: &'a NodeHandle,
    view: Arc<dyn FinalView>,
}

impl<'a> NodeChain<'a> {
    /// As it stands at this moment.
    pub fn now(handle: &'a NodeHandle) -> Self {
        Self {
            handle,
            view: handle.view(),
        }
    }
}

impl View for NodeChain<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.view.get(key)
    }
}

impl FinalChain for NodeChain<'_> {
    fn view(&self) -> &dyn View {
        self
    }

    fn block(&self, height: Height) -> Result<Option<EncodedBlock>, ReadError> {
        self.handle
            .encoded_block(height)
            .map_err(|error| ReadError::View(ViewError::new(error)))
    }
}

/// Waits, within a bound, until the node is at this height.
async fn reach(handle: &NodeHandle, height: Height) -> Result<(), Problem> {
    let waited = tokio::time::timeout(WAIT_MAX, async {
        while handle.view().tip().height < height {
            tokio::time::sleep(HEIGHT_POLL).await;
        }
    });
    waited
        .await
        .map_err(|_| Problem::from(&ShareRefusal::Height(height)))
}

/// Runs what computes on curves or reads the disk where it holds no task up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => refuse(Problem::internal(&error)),
    }
}

fn refuse<T>(problem: Problem) -> Result<T, Refused> {
    Err(Refused(problem))
}

fn transaction_id(text: &str) -> Result<TransactionId, Problem> {
    let bytes = hex::decode(text).map_err(|error| Problem::malformed(&error))?;
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| {
        Problem::not_found("an id has 64 hexadecimal digits: there is nothing under this one")
    })?;
    Ok(TransactionId::new(bytes))
}

fn cloud(error: CloudError) -> Problem {
    match error {
        CloudError::NotFound => Problem::from(&ShareRefusal::NoContainer),
        error => crate::cloud::problem(&error),
    }
}

const NO_CERTIFICATE_YET: &str =
    "this node has no certificate at or soon after that block yet: ask again, or ask another node";

fn not_accounting() -> Problem {
    Problem::not_found(
        "this is a verification node, which serves no grants: ask an accounting node",
    )
}
