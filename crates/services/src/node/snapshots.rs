//! A node writes the state down from time to time, gives it to who begins, and fills in the blocks that it
//! has not got because it began so itself.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use chain::{NodeHandle, NotFilled, snapshot_after};
use client::{ConsortiumClient, Octets, Problem, encode_snapshot_statements, sentence};
use ledger::{Height, Settings};
use scheme::ValidatorEpoch;
use serde::Deserialize;

use super::{NodeService, Service, blocking};
use crate::http::{Parameters, Problems, Refused};
use crate::snapshot_files::SnapshotFiles;

/// Blocks that are asked for at one time while older ones are filled in.
const WINDOW: u64 = 256;
/// After how long other nodes are asked again when none gave what was missing.
const AGAIN: Duration = Duration::from_secs(10);

/// The last height at or below `tip` after which a snapshot is taken.
fn last_taken(settings: &Settings, tip: Height) -> Option<Height> {
    let mut epoch = settings.epoch_of(tip.next()).number();
    while epoch > 0 {
        epoch -= 1;
        let height = settings.last_of(ValidatorEpoch::new(epoch));
        if snapshot_after(settings, height) {
            return Some(height);
        }
    }
    None
}

impl NodeService {
    /// Writes the state after a block down, if it can still be read: one that passed while the node was
    /// away is written by the others.
    fn write_snapshot(&self, files: &SnapshotFiles, height: Height) {
        let Some(view) = self.handle.view_at(height) else {
            return;
        };
        match files.write(view.as_ref(), &self.handle.consortium(), &self.key) {
            Ok(statement) => {
                tracing::info!(%height, bytes = statement.bytes, "wrote a snapshot of the state");
            }
            Err(error) => tracing::error!(
                %height,
                error = sentence(&error),
                "no snapshot was written: see the room on the node's disk"
            ),
        }
    }
}

#[utoipa::path(
    get,
    path = "/v1/snapshots",
    operation_id = "snapshots",
    summary = "The node's signed statements of the snapshots that it holds, the newest first: what they are of, their digests and lengths.",
    responses((status = 200, description = "Canonical bytes (spec/formats.md)", body = Octets, content_type = "application/octet-stream"), Problems),
)]
pub(super) async fn snapshots(State(service): Service) -> Result<Vec<u8>, Refused> {
    blocking(move || {
        let Some(files) = &service.snapshots else {
            return Ok(encode_snapshot_statements(&[]));
        };
        let found = files.statements();
        let found = found.map_err(|error| Problem::internal(&error))?;
        Ok(encode_snapshot_statements(&found))
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct Piece {
    height: u64,
    offset: u64,
}

#[utoipa::path(
    get,
    path = "/v1/snapshot",
    operation_id = "snapshot",
    summary = "A piece of the state after a block, 1 MiB at most: what a node begins with when the chain is long.",
    params(("height" = u64, Query, description = "The block's height, as a statement names it"), ("offset" = u64, Query, description = "The first byte")),
    responses((status = 200, description = "Bytes of the snapshot (spec/formats.md); none at its end", body = Octets, content_type = "application/octet-stream"), Problems),
)]
pub(super) async fn snapshot(
    State(service): Service,
    Parameters(asked): Parameters<Piece>,
) -> Result<Vec<u8>, Refused> {
    blocking(move || {
        let height = Height::new(asked.height);
        let files = service.snapshots.as_ref();
        let piece = files.map(|files| files.piece(height, asked.offset));
        let piece = piece.transpose().map_err(|error| Problem::internal(&error))?;
        piece.flatten().ok_or_else(|| {
            Problem::not_found(
                "this node holds no snapshot after that block: ask for its statements, or another node",
            )
        })
    })
    .await
}

/// Fills in the blocks before the snapshot with which this node began, from other nodes, until none is
/// missing. Each is checked against the hash that the one after it names, so it does not matter who gives
/// it.
pub async fn fill_history(handle: NodeHandle, client: ConsortiumClient) {
    let mut filled = false;
    loop {
        match handle.begins_at() {
            Ok(begins) if begins.number() == 0 => {
                if filled {
                    tracing::info!("no block is missing any more");
                }
                return;
            }
            Ok(begins) => {
                filled = true;
                if fill_before(&handle, &client, begins).await {
                    continue;
                }
                tracing::warn!(
                    before = %begins,
                    "blocks before the snapshot are missing and no node gave them: tried again"
                );
            }
            Err(error) => {
                tracing::error!(
                    error = sentence(&error),
                    "where the chain begins cannot be read"
                );
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether it got further.
async fn fill_before(handle: &NodeHandle, client: &ConsortiumClient, begins: Height) -> bool {
    let _ = client.follow().await;
    let mut window = WINDOW;
    while window > 0 {
        let from = begins.number().saturating_sub(window).max(1);
        for node in client.node_institutions() {
            let Ok(header) = handle.first_header() else {
                return false;
            };
            let Ok(blocks) = client.blocks_before(node, Height::new(from), &header).await else {
                continue;
            };
            let filling = handle.clone();
            let filled = tokio::task::spawn_blocking(move || {
                blocks
                    .iter()
                    .rev()
                    .try_for_each(|stored| filling.fill(stored).map(drop))
            });
            match filled.await {
                Ok(Ok(())) => return true,
                Ok(Err(NotFilled::Another)) => {}
                Ok(Err(error)) => {
                    tracing::error!(error = sentence(&error), "a block was not filled in");
                    return false;
                }
                Err(_) => return false,
            }
        }
        // One page may not hold so many large blocks.
        window /= 4;
    }
    false
}

/// Keeps writing snapshots while the chain goes on. Each is tried once: what a full disk does not take, the
/// others have.
pub(super) async fn keep_snapshots(service: Arc<NodeService>) {
    let Some(files) = service.snapshots.clone() else {
        return;
    };
    let settings = service.handle.settings();
    let mut blocks = service.handle.final_blocks();
    let mut tried = files.newest();
    loop {
        let tip = service.handle.view().tip().height;
        let due = last_taken(&settings, tip);
        if let Some(height) = due
            && due > tried
        {
            tried = due;
            let (writing, files) = (Arc::clone(&service), files.clone());
            let write = move || writing.write_snapshot(&files, height);
            let _ = tokio::task::spawn_blocking(write).await;
        }
        match blocks.next().await {
            Ok(_) | Err(chain::NoBlock::Lost(_)) => {}
            Err(_) => return,
        }
    }
}
