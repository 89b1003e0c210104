//! Requests on their way: from the node that took them to the accounting nodes, on a channel of
//! their own. What is held, resent and refused is the pool's matter; here it is sent and received.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::IoBuf;
use commonware_utils::SystemTimeExt as _;
use futures::future::{Either, select};
use ledger::{CheckedTransaction, Role, Transaction, admit};
use scheme::{Timestamp, VerifyingKey};
use tracing::{debug, warn};

use super::{PublicKey, Runtime, keys};
use crate::{
    node::{Shared, lock},
    pool::{Admission, Source, split_batch},
};

/// Sends and receives requests until the network closes.
pub(crate) async fn carry<E, S, R>(runtime: E, shared: Arc<Shared>, mut sender: S, mut receiver: R)
where
    E: Runtime,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let me = shared.key.verifying_key();
    let accounting: Vec<PublicKey> = shared
        .nodes
        .accounting()
        .filter(|node| node.key != me)
        .filter_map(|node| keys::public(&node.key))
        .collect();
    let mut housekeeping = runtime.current() + HOUSEKEEPING;
    loop {
        // A permit is kept if a request was submitted while this task was busy.
        let submitted = pin!(shared.submitted.notified());
        let now = runtime.current();
        let due = lock(&shared.pool).next_due().map(instant);
        let deadline = due
            .map_or(housekeeping, |due| due.min(housekeeping))
            .max(now);
        let timer = pin!(runtime.sleep_until(deadline));
        let received = pin!(receiver.recv());
        match select(select(timer, submitted), received).await {
            Either::Left(_) => {}
            Either::Right((Ok((peer, batch)), _)) => receive(&shared, &peer, &batch),
            Either::Right((Err(closed), _)) => {
                debug!(%closed, "the network is closed");
                return;
            }
        }
        let now = runtime.current();
        let batches = lock(&shared.pool).take_due(Timestamp::new(now.epoch_millis()));
        if !accounting.is_empty() {
            for batch in batches {
                // Whoever does not get it now gets it with the next resending.
                let _ = sender.send(
                    Recipients::Some(accounting.clone()),
                    IoBuf::from(batch),
                    false,
                );
            }
        }
        if now >= housekeeping {
            housekeeping = now + HOUSEKEEPING;
            tidy(&shared, now);
        }
    }
}

/// Takes the requests of a batch that a peer forwarded.
fn receive(shared: &Shared, peer: &PublicKey, batch: &IoBuf) {
    let peer = keys::verifying(peer);
    if !accounts(shared) {
        return;
    }
    let Some(requests) = split_batch(batch.as_ref(), ledger::TRANSACTION_BYTES_MAX) else {
        warn!(%peer, "a peer sent a batch that cannot be read");
        return;
    };
    for bytes in requests {
        if let Err(why) = take(shared, peer, bytes) {
            debug!(%peer, why, "a forwarded request was not taken");
        }
    }
}

fn take(shared: &Shared, peer: VerifyingKey, bytes: &[u8]) -> Result<(), &'static str> {
    // What is held already costs no signature check: every resending comes by here.
    let transaction = Transaction::decode(bytes).map_err(|_| "it is no transaction")?;
    let id = transaction.id(&shared.consortium);
    if lock(&shared.pool).contains(&id) {
        return Ok(());
    }
    if shared
        .store
        .position(&id)
        .map_err(|_| "the store cannot be read")?
        .is_some()
    {
        return Ok(());
    }
    let request = CheckedTransaction::new(transaction, &shared.consortium);
    let request = request.map_err(|_| "it is not valid")?;
    let view = shared.view();
    let time = shared.clock.now().max(view.tip().time);
    admit(view.as_ref(), &request, time).map_err(|_| "the state refuses it")?;
    match shared.keep(Source::Peer(peer), request) {
        Admission::Held | Admission::AlreadyHeld => Ok(()),
        Admission::Busy(_) => Err("the pool is full"),
    }
}

/// Once a second: gives up what expired and what the final state came to refuse, so that whoever
/// waits for it is told.
fn tidy(shared: &Shared, now: SystemTime) {
    let expired = lock(&shared.pool).expire(Timestamp::new(now.epoch_millis()));
    if !expired.is_empty() {
        warn!(
            requests = expired.len(),
            "requests expired before they were final"
        );
    }
    let submitted = {
        let pool = lock(&shared.pool);
        pool.submitted().take(TIDIED).map(|(id, _)| *id).collect()
    };
    shared.drop_refused(&submitted);
}

fn accounts(shared: &Shared) -> bool {
    let me = shared.key.verifying_key();
    shared
        .nodes
        .by_key(&me)
        .is_some_and(|node| node.tier.role() == Role::Accounting)
}

fn instant(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.number())
}

/// How often the pool is tidied.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Requests judged anew by the final state at one time: at some 20 us each, 5 ms a second.
const TIDIED: usize = 256;
