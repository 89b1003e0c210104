//! A node's interface (the paper's consortium blockchain as its users meet it).

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use chain::{FinalView, NodeHandle, NotSubmitted, Submitter};
use futures::StreamExt;
use ledger::{
    EncodedBlock, Height, InclusionProof, ReadError, TRANSACTION_BYTES_MAX, Transaction,
    TransactionId, View, ViewError,
};
use parties::{
    AccountingNode, ContainerRequest, FinalChain, GrantPackage, GrantRefusal, GrantRequest,
    NodeKeyStanding, Question, Reply, SearchRequest, ShareAnswer, ShareRefusal, ShareRequest,
    answer_at, grant_is_over,
};
use scheme::{GRANT_BYTES_MAX, GrantId, InstitutionId, SigningKey, Timestamp};
use serde::Deserialize;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::cloud::{CloudError, CloudFolder};
use crate::consortium_client::{NodeStatus, StatusLed};
use crate::grant_files::GrantFiles;
use crate::problem::Problem;
use crate::randomness::SystemRandom;

/// The longest wait for a receipt or a height in one request; a client that waits longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How long the node waits before it looks whether its key is on the chain.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(500);
/// How often a request that waits for a height looks again: half of a quick block's time.
const HEIGHT_POLL: Duration = Duration::from_millis(10);

/// Why the service does not start or stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeServiceError {
    /// The address cannot be listened on.
    #[error(
        "the node cannot listen for its users: {0}; choose another address (serve in the node's file)"
    )]
    Listen(#[source] io::Error),
    /// The grants' folder cannot be used.
    #[error("the node's folder of grants cannot be used: {0}; check its disk and permissions")]
    Grants(#[source] io::Error),
    /// The state cannot be read.
    #[error("the node's state cannot be read: {0}")]
    State(#[from] ReadError),
    /// Another HPKE key than the node's stands on the chain for its institution and validator epoch.
    /// Grants are sealed to that one; none of their files is touched.
    #[error(
        "the node's HPKE key is {own}, and {standing} stands on the chain for its institution: put the private key back to which the chain's belongs (hpke_key in the node's file), since every grant is sealed to it"
    )]
    OtherHpkeKey {
        /// The public key that belongs to the node's private one.
        own: String,
        /// The chain's.
        standing: String,
    },
}

/// What a node serves: its chain, and as an accounting node the grants it holds.
pub struct NodeService {
    handle: NodeHandle,
    institution: InstitutionId,
    key: SigningKey,
    /// `None` at a verification node, which serves no grants.
    accounting: Option<RwLock<AccountingNode>>,
    grants: GrantFiles,
    /// Grants whose files are still to be watched though the node does not hold them.
    unheld: Mutex<Unheld>,
    cloud: CloudFolder,
}

/// Files of grants that the node does not hold.
#[derive(Default)]
struct Unheld {
    /// Over, and their files not removed durably yet.
    to_remove: BTreeSet<GrantId>,
    /// Kept though they could not be taken up: the chain does not say that they are over.
    kept: BTreeSet<GrantId>,
}

impl NodeService {
    /// Takes up the grants that lie in their files. A file is removed only if the chain says that its
    /// grant is over; what cannot be taken up otherwise is kept and named in the log.
    ///
    /// # Errors
    /// [`NodeServiceError`]; [`NodeServiceError::OtherHpkeKey`] if the node could open no grant.
    pub fn new(
        handle: NodeHandle,
        institution: InstitutionId,
        key: SigningKey,
        mut accounting: Option<AccountingNode>,
        grants: GrantFiles,
        cloud: CloudFolder,
    ) -> Result<Self, NodeServiceError> {
        let mut unheld = Unheld::default();
        if let Some(node) = &mut accounting {
            let chain = NodeChain::now(&handle);
            check_key(node, &chain)?;
            for gid in grants.list().map_err(NodeServiceError::Grants)? {
                if grant_is_over(&chain, &gid)? {
                    unheld.to_remove.insert(gid);
                } else if !take_up(node, &grants, &gid, &chain)? {
                    unheld.kept.insert(gid);
                }
            }
        }
        let service = Self {
            handle,
            institution,
            key,
            accounting: accounting.map(RwLock::new),
            grants,
            unheld: Mutex::new(unheld),
            cloud,
        };
        service.forget_ended();
        Ok(service)
    }

    fn chain(&self) -> NodeChain<'_> {
        NodeChain::now(&self.handle)
    }

    fn node(&self) -> Result<RwLockReadGuard<'_, AccountingNode>, Problem> {
        let node = self.accounting.as_ref().ok_or_else(not_accounting)?;
        Ok(node.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn node_mut(&self) -> Result<RwLockWriteGuard<'_, AccountingNode>, Problem> {
        let node = self.accounting.as_ref().ok_or_else(not_accounting)?;
        Ok(node.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts the node's HPKE key on the chain, once; a busy or silent chain is asked again.
    ///
    /// # Errors
    /// [`NodeServiceError::OtherHpkeKey`] if another one comes to stand there: a node that began with
    /// an empty state learns of it only now.
    async fn announce(&self) -> Result<(), NodeServiceError> {
        let Some(node) = &self.accounting else {
            return Ok(());
        };
        loop {
            let (announced, transaction) = {
                let node = node.read().unwrap_or_else(PoisonError::into_inner);
                (check_key(&node, &self.chain()), node.announce())
            };
            match announced {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    // Refused means that it became final in between, or that the chain is busy.
                    if let Err(refusal) =
                        self.handle.submit(Submitter::new(0), &transaction.encode())
                    {
                        tracing::debug!(%refusal, "the node's key is announced again");
                    }
                }
                Err(error @ NodeServiceError::OtherHpkeKey { .. }) => return Err(error),
                Err(error) => tracing::error!(%error, "the node's key could not be looked for"),
            }
            tokio::time::sleep(ANNOUNCE_AGAIN).await;
        }
    }

    /// Forgets grants that are over and removes their files. A file that cannot be removed now is
    /// tried again with the next block, until it and its name are gone from the disk.
    fn forget_ended(&self) {
        let Ok(mut node) = self.node_mut() else {
            return;
        };
        let chain = self.chain();
        let mut unheld = self.unheld.lock().unwrap_or_else(PoisonError::into_inner);
        match node.forget_ended(&chain) {
            Ok(over) => unheld.to_remove.extend(over),
            Err(error) => tracing::error!(%error, "ended grants could not be looked for"),
        }
        let Unheld { to_remove, kept } = &mut *unheld;
        kept.retain(|gid| match grant_is_over(&chain, gid) {
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
        to_remove.retain(|gid| match self.grants.remove(gid) {
            Ok(()) => false,
            Err(error) => {
                let gid = hex::encode(gid.as_bytes());
                tracing::error!(%error, gid, "a grant's file could not be removed: tried again with the next block");
                true
            }
        });
    }

    /// Takes a grant and keeps its file before anyone gets the countersigned entry.
    fn keep(&self, package: &GrantPackage) -> Result<Transaction, Problem> {
        let mut node = self.node_mut()?;
        let gid = GrantId::of(&self.handle.consortium(), &package.entry.revocation_key);
        let held_before = node.holds(&gid);
        let (gid, transaction) = node
            .receive_grant(package, &self.chain(), now())
            .map_err(|refusal| Problem::from(&refusal))?;
        if let Err(error) = self.grants.keep(&gid, &package.grant) {
            if !held_before {
                node.give_up(&gid);
            }
            return Err(Problem::internal(&error));
        }
        Ok(transaction)
    }
}

/// Whether the node's HPKE key stands on the chain.
///
/// # Errors
/// [`NodeServiceError::OtherHpkeKey`] if another one does.
fn check_key(node: &AccountingNode, chain: &NodeChain<'_>) -> Result<bool, NodeServiceError> {
    match node.key_standing(chain)? {
        NodeKeyStanding::Announced => Ok(true),
        NodeKeyStanding::NotAnnounced => Ok(false),
        NodeKeyStanding::AnotherStands { own, standing } => Err(NodeServiceError::OtherHpkeKey {
            own: hex::encode(own.as_bytes()),
            standing: hex::encode(standing.as_bytes()),
        }),
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
    const KEPT: &str = "a grant's file cannot be taken up and is kept: mend the disk, or ask the patient to send the grant again";
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
            let why = crate::problem::sentence(&refusal);
            tracing::warn!(gid = name, why, "{KEPT}");
            Ok(false)
        }
    }
}

/// Serves the node's interface until the process ends.
///
/// # Errors
/// [`NodeServiceError::Listen`], [`NodeServiceError::OtherHpkeKey`].
pub async fn serve_node(
    service: Arc<NodeService>,
    listen: SocketAddr,
) -> Result<(), NodeServiceError> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(NodeServiceError::Listen)?;
    let announcing = Arc::clone(&service);
    let announced = async move {
        match announcing.announce().await {
            // Once it stands there is nothing more to do.
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let watched = Arc::clone(&service);
    tokio::spawn(async move {
        let mut blocks = watched.handle.final_blocks();
        loop {
            match blocks.next().await {
                Ok(_) | Err(chain::NoBlock::Lost(_)) => {
                    let service = Arc::clone(&watched);
                    // Checking grants against the state reads the disk.
                    let _ = tokio::task::spawn_blocking(move || service.forget_ended()).await;
                }
                Err(_) => return,
            }
        }
    });
    tokio::select! {
        served = axum::serve(listener, router(service)).into_future() => {
            served.map_err(NodeServiceError::Listen)
        }
        error = announced => Err(error),
    }
}

fn router(service: Arc<NodeService>) -> Router {
    let small = DefaultBodyLimit::max(TRANSACTION_BYTES_MAX);
    // A package holds a grant and its entry.
    let grants = DefaultBodyLimit::max(GRANT_BYTES_MAX + TRANSACTION_BYTES_MAX);
    Router::new()
        // everyone
        .route("/v1/status", get(status))
        .route("/v1/questions", post(question))
        .route("/v1/proofs/{id}", get(proof))
        .route("/v1/headers", get(headers))
        // hospitals' servers, the registration centre, patients
        .route("/v1/transactions", post(submit))
        .route("/v1/receipts/{id}", get(receipt))
        // patients and agents
        .route("/v1/grants", post(take_grant).layer(grants))
        // doctors with a grant
        .route("/v1/grants/read", post(give_grant))
        .route("/v1/searches", post(search))
        .route("/v1/shares", post(shares))
        .route("/v1/containers", post(container))
        .layer(small)
        .with_state(service)
}

type Service = State<Arc<NodeService>>;

async fn status(State(service): Service) -> Json<NodeStatus> {
    let status = service.handle.status();
    Json(NodeStatus {
        institution: service.institution.number(),
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
        grants: service.node().map_or(0, |node| node.held()),
        failure: status.failure,
    })
}

async fn submit(State(service): Service, body: Bytes) -> Result<Response, Problem> {
    match service.handle.submit(Submitter::new(0), &body) {
        Ok(submitted) => {
            Ok((StatusCode::ACCEPTED, hex::encode(submitted.id().as_bytes())).into_response())
        }
        Err(NotSubmitted::Busy(_)) => Err(Problem::busy(
            "the node is busy: hand the same transaction in again after a second",
        )),
        Err(NotSubmitted::Stopped(_)) => Err(Problem::busy(
            "the node stopped taking part: hand the same transaction to another node",
        )),
        Err(NotSubmitted::Invalid(error)) => Err(Problem::invalid(&error)),
        Err(NotSubmitted::Refused(refusal)) => Err(Problem::refused(&refusal)),
        Err(error) => Err(Problem::internal(&error)),
    }
}

#[derive(Deserialize)]
struct Wait {
    /// Milliseconds to wait, at most [`WAIT_MAX`].
    #[serde(default)]
    wait: u64,
}

async fn receipt(
    State(service): Service,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<Vec<u8>, Problem> {
    let id = transaction_id(&id)?;
    let bound = Duration::from_millis(wait.wait).min(WAIT_MAX);
    match service.handle.wait_for_receipt(&id, bound).await {
        Ok(receipt) => Ok(receipt.encode()),
        Err(chain::NoReceipt::TimedOut) => Err(Problem::not_found(
            "the transaction is not final here yet: ask again, or send it again",
        )),
        Err(chain::NoReceipt::Busy) => Err(Problem::busy(
            "too many callers wait at this node: ask again",
        )),
        Err(error) => Err(Problem::invalid(&error)),
    }
}

#[derive(Deserialize)]
struct At {
    height: u64,
}

async fn question(
    State(service): Service,
    Query(at): Query<At>,
    body: Bytes,
) -> Result<Vec<u8>, Problem> {
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

async fn proof(State(service): Service, Path(id): Path<String>) -> Result<Vec<u8>, Problem> {
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
async fn headers(State(service): Service, Query(from): Query<At>) -> Result<Vec<u8>, Problem> {
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

/// Takes a grant, keeps it in its file, and answers with the countersigned transaction, which the
/// sender hands in: so any of the accounting nodes can be the one that does it.
async fn take_grant(State(service): Service, body: Bytes) -> Result<Vec<u8>, Problem> {
    blocking(move || {
        let package = GrantPackage::decode(&body).map_err(|error| Problem::malformed(&error))?;
        Ok(service.keep(&package)?.encode())
    })
    .await
}

async fn give_grant(State(service): Service, body: Bytes) -> Result<Vec<u8>, Problem> {
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

async fn search(State(service): Service, body: Bytes) -> Result<Vec<u8>, Problem> {
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

async fn shares(State(service): Service, body: Bytes) -> Result<Vec<u8>, Problem> {
    let request = ShareRequest::decode(&body).map_err(|error| Problem::malformed(&error))?;
    let first = Arc::clone(&service);
    let asked = request.clone();
    let pending = blocking(move || {
        first
            .node()?
            .begin_shares(&asked, &first.chain())
            .map_err(|refusal| Problem::from(&refusal))
    })
    .await?;
    let start = service
        .cloud
        .start(pending.address, pending.header_bytes_max)
        .await
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
        answers
            .map(|answers| ShareAnswer::encode_all(&answers))
            .map_err(|refusal| Problem::from(&refusal))
    })
    .await
}

/// The master node's two-step verification: the whole container is read and hashed before the first
/// byte of it goes out, and read again to be sent, so that memory stays constant.
async fn container(State(service): Service, body: Bytes) -> Result<Response, Problem> {
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
    service
        .node()?
        .release_container(
            &pending,
            &request.access_key,
            found,
            &doctor,
            &service.chain(),
        )
        .map_err(|refusal| Problem::from(&refusal))?;
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
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Problem::internal(&error)),
    }
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
        error => Problem::busy(&error.to_string()),
    }
}

const NO_CERTIFICATE_YET: &str =
    "this node has no certificate at or soon after that block yet: ask again, or ask another node";

fn not_accounting() -> Problem {
    Problem::not_found(
        "this is a verification node, which serves no grants: ask an accounting node",
    )
}

/// The wall clock: only for what a request claims of itself. What is granted ends by the chain's time.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
