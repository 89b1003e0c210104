//! Receipts: a node's signed word that a transaction is final, and those who wait for one.
//!
//! A receipt says nothing that the stored chain does not say, so it is signed when it is asked for
//! and never stored. The client believes f + 1 equal ones.

use std::collections::BTreeMap;

use ledger::{Header, Outcome, Receipt, TransactionId};
use scheme::{ConsortiumId, SigningKey};
use tokio::sync::oneshot;

/// What a waiter is told.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    Final(Receipt),
    Refused(String),
}

/// Signs receipts in the name of one node.
pub(crate) struct ReceiptSigner {
    key: SigningKey,
    consortium: ConsortiumId,
}

impl ReceiptSigner {
    pub(crate) fn new(key: SigningKey, consortium: ConsortiumId) -> Self {
        Self { key, consortium }
    }

    /// The receipt for a transaction of the final block with this header.
    pub(crate) fn sign(&self, transaction: TransactionId, header: &Header) -> Receipt {
        let outcome = Outcome {
            block: header.id(),
            height: header.height,
            state_root: header.state_root,
        };
        Receipt::sign(&self.consortium, transaction, outcome, &self.key)
    }
}

/// Callers that wait for the outcome of a transaction, at most `limit` of them.
#[derive(Debug)]
pub(crate) struct Waiters {
    limit: usize,
    held: usize,
    waiting: BTreeMap<TransactionId, Vec<oneshot::Sender<Told>>>,
}

impl Waiters {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            held: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// Waits for `transaction`; `None` if too many wait.
    pub(crate) fn wait(&mut self, transaction: TransactionId) -> Option<oneshot::Receiver<Told>> {
        if self.held >= self.limit {
            self.forget_gone();
        }
        if self.held >= self.limit {
            return None;
        }
        let (tell, told) = oneshot::channel();
        self.waiting.entry(transaction).or_default().push(tell);
        self.held += 1;
        Some(told)
    }

    /// Whether someone waits for `transaction`.
    pub(crate) fn awaits(&self, transaction: &TransactionId) -> bool {
        self.waiting.contains_key(transaction)
    }

    /// Tells all who wait for `transaction`.
    pub(crate) fn tell(&mut self, transaction: &TransactionId, outcome: &Told) {
        for waiter in self.waiting.remove(transaction).unwrap_or_default() {
            self.held -= 1;
            // A waiter that is gone needs no answer.
            let _ = waiter.send(outcome.clone());
        }
    }

    fn forget_gone(&mut self) {
        self.waiting.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        self.held = self.waiting.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> TransactionId {
        TransactionId::new([n; 32])
    }

    #[test]
    fn all_who_wait_are_told_once() {
        let mut waiters = Waiters::new(3);
        let mut first = waiters.wait(id(1)).expect("room");
        let mut second = waiters.wait(id(1)).expect("room");
        let mut other = waiters.wait(id(2)).expect("room");
        waiters.tell(&id(1), &Told::Refused("why".to_owned()));
        assert!(matches!(first.try_recv(), Ok(Told::Refused(why)) if why == "why"));
        assert!(second.try_recv().is_ok());
        assert!(other.try_recv().is_err());
        assert!(!waiters.awaits(&id(1)) && waiters.awaits(&id(2)));
        assert_eq!(waiters.held, 1);
    }

    #[test]
    fn who_went_away_makes_room() {
        let mut waiters = Waiters::new(2);
        let gone = waiters.wait(id(1)).expect("room");
        let _stays = waiters.wait(id(2)).expect("room");
        assert!(waiters.wait(id(3)).is_none());
        drop(gone);
        let _came = waiters.wait(id(3)).expect("room");
        assert!(waiters.wait(id(4)).is_none());
    }
}
