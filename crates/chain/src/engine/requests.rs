//! Requests on their way: from the node that took them to the accounting nodes, on a channel of
//! their own. What is held, resent and refused is the pool's matter; here it is sent and received.
//!
//! A message is a kind and what belongs to it: a batch of requests, or the greeting by which a node
//! that starts learns who is there and whether they are in company too. Agreement starts once enough
//! are, because a block proposed to nobody costs a leader timer.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::IoBuf;
use futures::future::{Either, select};
use ledger::{CheckedTransaction, Role, Transaction};
use scheme::VerifyingKey;
use tracing::{debug, warn};

use super::{PublicKey, Runtime, keys};
use crate::{
    node::{Presence, Shared, lock},
    pool::{Admission, Source, split_batch},
};

/// Sends and receives requests until the network closes.
pub(crate) async fn carry<E, S, R>(runtime: E, shared: Arc<Shared>, mut sender: S, mut receiver: R)
where
    E: Runtime,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let mut housekeeping = runtime.current() + HOUSEKEEPING;
    let mut greeting = Some(runtime.current());
    // No batch goes out before this, so that a backlog does not exceed the channel's quota.
    let mut sendable = runtime.current();
    loop {
        // A permit is kept if a request was submitted while this task was busy.
        let submitted = pin!(shared.submitted.notified());
        let now = runtime.current();
        let due = lock(&shared.pool)
            .next_due()
            .map(|due| (now + shared.until(due)).max(sendable));
        let deadline = [due, greeting]
            .into_iter()
            .flatten()
            .fold(housekeeping, SystemTime::min);
        let timer = pin!(runtime.sleep_until(deadline.max(now)));
        let received = pin!(receiver.recv());
        match select(select(timer, submitted), received).await {
            Either::Left(_) => {}
            Either::Right((Ok((peer, message)), _)) => {
                if receive(&shared, keys::verifying(&peer), message.as_ref()) == Reply::Welcome {
                    let welcome = IoBuf::from(vec![WELCOME, presence_code(shared.presence())]);
                    let _ = sender.send(Recipients::One(peer), welcome, true);
                }
            }
            Either::Right((Err(closed), _)) => {
                debug!(%closed, "the network is closed");
                return;
            }
        }
        let now = runtime.current();
        if now >= sendable {
            let batches = lock(&shared.pool).take_due(shared.clock.now());
            if !batches.is_empty() {
                sendable = now + shared.config.pool.gather;
            }
            for batch in batches {
                // Whoever does not get it now gets it with the next resending.
                let to = Recipients::Some(accounting(&shared));
                let _ = sender.send(
                    to,
                    IoBuf::from([&[BATCH], batch.as_slice()].concat()),
                    false,
                );
            }
        }
        if greeting.is_some_and(|at| now >= at) {
            let hello = IoBuf::from(vec![HELLO, presence_code(shared.presence())]);
            let _ = sender.send(Recipients::All, hello, true);
            // The last greeting tells the others that this node is in company.
            greeting = (!shared.all_set()).then(|| now + GREETING);
        }
        if now >= housekeeping {
            housekeeping = now + HOUSEKEEPING;
            tidy(&shared);
        }
    }
}

/// The other accounting nodes of the validator epoch.
fn accounting(shared: &Shared) -> Vec<PublicKey> {
    let me = shared.key.verifying_key();
    shared
        .seats()
        .nodes
        .accounting()
        .filter(|node| node.key != me)
        .filter_map(|node| keys::public(&node.key))
        .collect()
}

/// What a message is answered with.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Nothing,
    Welcome,
}

fn receive(shared: &Shared, peer: VerifyingKey, message: &[u8]) -> Reply {
    match message {
        [HELLO, code] => {
            shared.heard_of(peer, presence(*code));
            return Reply::Welcome;
        }
        [WELCOME, code] => shared.heard_of(peer, presence(*code)),
        [BATCH, batch @ ..] => receive_batch(shared, peer, batch),
        _ => warn!(%peer, "a peer sent a message that cannot be read"),
    }
    Reply::Nothing
}

/// Takes the requests of a batch that a peer forwarded.
fn receive_batch(shared: &Shared, peer: VerifyingKey, batch: &[u8]) {
    if !accounts(shared) {
        return;
    }
    // The channel carries whole blocks; a batch of requests is far smaller.
    let longest = LENGTH_BYTES + ledger::TRANSACTION_BYTES_MAX;
    if batch.len() > shared.config.pool.batch_bytes.max(longest) {
        warn!(%peer, bytes = batch.len(), "a peer sent a batch that is too long");
        return;
    }
    let Some(requests) = split_batch(batch, ledger::TRANSACTION_BYTES_MAX) else {
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
    // What is held already costs one hash, no point and no signature: every resending comes by here.
    if lock(&shared.pool).holds_bytes(bytes) {
        return Ok(());
    }
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
    shared
        .judge(shared.view().as_ref(), &request)
        .map_err(|_| "the state refuses it")?;
    match shared.keep(Source::Peer(peer), request) {
        Admission::Held | Admission::AlreadyHeld => Ok(()),
        Admission::Busy(_) => Err("the pool is full"),
    }
}

/// Once a second: gives up what expired and what the final state came to refuse, so that whoever
/// waits for it is told.
fn tidy(shared: &Shared) {
    let expired = lock(&shared.pool).expire(shared.clock.now());
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

fn presence_code(presence: Presence) -> u8 {
    match presence {
        Presence::There => 0,
        Presence::InCompany => 1,
    }
}

fn presence(code: u8) -> Presence {
    if code == 1 {
        Presence::InCompany
    } else {
        Presence::There
    }
}

fn accounts(shared: &Shared) -> bool {
    let me = shared.key.verifying_key();
    shared
        .seats()
        .nodes
        .by_key(&me)
        .is_some_and(|node| node.tier.role() == Role::Accounting)
}

/// The first byte of a message. A change of these breaks the wire.
const BATCH: u8 = 0;
const HELLO: u8 = 1;
const WELCOME: u8 = 2;

/// The length before each request of a batch.
const LENGTH_BYTES: usize = 4;

/// How often a node that starts greets until enough others answered.
const GREETING: Duration = Duration::from_millis(100);

/// How often the pool is tidied.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Requests judged anew by the final state at one time: at some 20 us each, 5 ms a second.
const TIDIED: usize = 256;
