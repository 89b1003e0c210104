//! The request pool: what a node holds between taking a request and seeing it final.
//!
//! A value that is fed and drained; it owns no socket, clock or task (time is an argument).
//! - A request comes from a submitter of this node or from a peer. It is held once per id, however
//!   often it comes.
//! - The node that took a request from a submitter forwards it to the accounting nodes and does so
//!   again every [`PoolLimits::resend`] until it is final or expired, because the network drops
//!   messages to nodes that are away without saying so.
//! - The proposer reads the waiting requests in order of arrival, skipping those that stand in
//!   unfinalised ancestors of its block.
//! - Nothing grows without bound: requests and bytes are limited in all, per source, and for all peers
//!   together, so that neither one peer or submitter displaces the others nor do all peers displace
//!   the submitters of this node; above a limit the answer is "busy".

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use scheme::{Digest, Timestamp, VerifyingKey, sha256};

/// Who authenticated a submitter is the service's business; to the pool it is a number by which
/// shares of the pool are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Submitter(u64);

impl Submitter {
    /// From the number by which the service tells its callers apart.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Handed to this node, which therefore forwards it until it is final.
    Submitter(Submitter),
    /// Forwarded by another node, which does the resending.
    Peer(VerifyingKey),
}

/// The bounds and intervals of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLimits {
    /// Requests held in all.
    pub requests: usize,
    /// Bytes of requests held in all.
    pub bytes: usize,
    /// Requests held of one source.
    pub source_requests: usize,
    /// Bytes held of one source.
    pub source_bytes: usize,
    /// How long a request is held before it is given up; the submitter may hand it in again. A node
    /// holds it longer if the consortium's cut waits long ([`NodeConfig::expiry`](crate::NodeConfig)).
    pub expiry: Duration,
    /// How long a forwarded request may stay unseen in a final block before it is sent again.
    pub resend: Duration,
    /// How long fresh requests are gathered into one batch.
    pub gather: Duration,
    /// Bytes of a batch, lengths included. A larger request travels alone.
    pub batch_bytes: usize,
    /// Batches made at one time. With one call per `gather`, the quota of the channel is
    /// `batches / gather` messages a second.
    pub batches: usize,
}

impl Default for PoolLimits {
    /// 16,384 requests or 32 MiB in all (a record with 32 entries is about 2 KB, so the count binds
    /// first and the pool stays below 35 MB), a quarter of either for one source and three quarters for
    /// all peers, 60 s, 1 s, 15 ms,
    /// 60,000 bytes, 3 batches a call (3 / 15 ms = 200 messages/s, below the quota of 256/s).
    fn default() -> Self {
        Self {
            requests: 16_384,
            bytes: 32 << 20,
            source_requests: 4_096,
            source_bytes: 8 << 20,
            expiry: Duration::from_secs(60),
            resend: Duration::from_secs(1),
            gather: Duration::from_millis(15),
            batch_bytes: 60_000,
            batches: 3,
        }
    }
}

/// What became of a request that was offered to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is held now.
    Held,
    /// It was held already.
    AlreadyHeld,
    /// A limit is reached. Offer it again after a while.
    Busy(Busy),
}

/// The limit that a full pool ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// The node as a whole holds as much as it may.
    Node,
    /// This source holds as much as it may; others are still served.
    Source,
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Requests held.
    pub requests: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// A request that was decoded and checked. Clones share its contents.
pub trait Request: Clone {
    /// Its bytes as they are forwarded.
    fn bytes(&self) -> &[u8];
}

/// Requests on their way into a block; `Id` names a request.
#[derive(Debug)]
pub struct Pool<Id, R> {
    limits: PoolLimits,
    entries: BTreeMap<Id, Entry<R>>,
    /// SHA-256 of the bytes of what is held.
    digests: BTreeSet<Digest>,
    /// Arrival numbers of what is held, so that the oldest is proposed first.
    arrivals: BTreeMap<u64, Id>,
    /// When which of this node's own requests is to be sent.
    due: BTreeSet<(Timestamp, u64)>,
    usage: PoolUsage,
    sources: BTreeMap<Source, PoolUsage>,
    /// What all peers together hold.
    peers: PoolUsage,
    next_arrival: u64,
}

impl<Id: Copy + Ord, R: Request> Pool<Id, R> {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            digests: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            due: BTreeSet::new(),
            usage: PoolUsage::default(),
            sources: BTreeMap::new(),
            peers: PoolUsage::default(),
            next_arrival: 0,
        }
    }

    /// Offers a request that was checked.
    pub fn insert(&mut self, now: Timestamp, source: Source, id: Id, request: R) -> Admission {
        let size = request.bytes().len();
        if let Some(held) = self.entries.get(&id) {
            let adopts = matches!(
                (held.source, source),
                (Source::Peer(_), Source::Submitter(_))
            );
            if !adopts {
                return Admission::AlreadyHeld;
            }
            // A submitter relies on this node now, so it has to forward what so far was a peer's.
            if !self.source_has_room(source, held.request.bytes().len()) {
                return Admission::Busy(Busy::Source);
            }
            // What is held stays: two encodings of one id differ only in their signatures, and the
            // first was checked and counted.
            let request = held.request.clone();
            self.remove(&id);
            self.hold(now, source, id, request);
            return Admission::AlreadyHeld;
        }
        if self.usage.requests >= self.limits.requests
            || size > self.limits.bytes.saturating_sub(self.usage.bytes)
        {
            return Admission::Busy(Busy::Node);
        }
        if !self.source_has_room(source, size) {
            return Admission::Busy(Busy::Source);
        }
        if matches!(source, Source::Peer(_)) && !self.peers_have_room(size) {
            return Admission::Busy(Busy::Node);
        }
        self.hold(now, source, id, request);
        Admission::Held
    }

    /// The bounds.
    pub fn limits(&self) -> &PoolLimits {
        &self.limits
    }

    /// Whether a request is held.
    pub fn contains(&self, id: &Id) -> bool {
        self.entries.contains_key(id)
    }

    /// Whether a request of just these bytes is held. It costs one hash and no decoding.
    pub fn holds_bytes(&self, bytes: &[u8]) -> bool {
        self.digests.contains(&sha256(bytes))
    }

    /// A request that is held.
    pub fn request(&self, id: &Id) -> Option<&R> {
        self.entries.get(id).map(|entry| &entry.request)
    }

    /// What waits for a block, oldest first, without `skip`.
    pub fn waiting<'a>(
        &'a self,
        skip: &'a BTreeSet<Id>,
    ) -> impl Iterator<Item = (&'a Id, &'a R)> + 'a {
        self.waiting_entries(skip)
            .map(|(id, entry)| (id, &entry.request))
    }

    /// When the oldest request that waits for a block came, without `skip`.
    pub fn waiting_since(&self, skip: &BTreeSet<Id>) -> Option<Timestamp> {
        self.waiting_entries(skip)
            .next()
            .map(|(_, entry)| entry.arrived)
    }

    /// This node's own requests, which it forwards and whose submitters it answers.
    pub fn submitted(&self) -> impl Iterator<Item = (&Id, &R)> + '_ {
        self.arrivals.values().filter_map(|id| {
            let entry = self.entries.get(id)?;
            matches!(entry.source, Source::Submitter(_)).then_some((id, &entry.request))
        })
    }

    /// Lets go of a request that is final or refused. Returns whether it was held.
    pub fn remove(&mut self, id: &Id) -> bool {
        let Some(entry) = self.entries.remove(id) else {
            return false;
        };
        self.arrivals.remove(&entry.arrival);
        self.digests.remove(&sha256(entry.request.bytes()));
        if let Some(due) = entry.due {
            self.due.remove(&(due, entry.arrival));
        }
        let size = entry.request.bytes().len();
        self.usage.requests -= 1;
        self.usage.bytes -= size;
        if matches!(entry.source, Source::Peer(_)) {
            self.peers.requests -= 1;
            self.peers.bytes -= size;
        }
        let emptied = self.sources.get_mut(&entry.source).is_some_and(|usage| {
            usage.requests -= 1;
            usage.bytes -= size;
            usage.requests == 0
        });
        if emptied {
            self.sources.remove(&entry.source);
        }
        true
    }

    /// Lets go of what was held for [`PoolLimits::expiry`] and returns its ids, oldest first.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Id> {
        let limit = millis(self.limits.expiry);
        let expired: Vec<Id> = self
            .arrivals
            .values()
            .filter(|id| {
                self.entries.get(id).is_some_and(|entry| {
                    now.number().saturating_sub(entry.arrived.number()) >= limit
                })
            })
            .copied()
            .collect();
        for id in &expired {
            self.remove(id);
        }
        expired
    }

    /// When [`Pool::take_due`] has something to send, at the earliest.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The batches to send to the accounting nodes now: what was never sent, and what was sent
    /// [`PoolLimits::resend`] ago and is still held. What does not fit stays due.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Vec<u8>> {
        // A request that becomes due within the gathering time travels with those that are.
        let horizon = later(now, self.limits.gather);
        let mut batches: Vec<Vec<u8>> = Vec::new();
        let mut taken = Vec::new();
        if self.next_due().is_none_or(|due| due > now) {
            return batches;
        }
        for (due, arrival) in &self.due {
            if *due > horizon {
                break;
            }
            let Some(entry) = self
                .arrivals
                .get(arrival)
                .and_then(|id| self.entries.get(id))
            else {
                continue;
            };
            let needed = LENGTH_BYTES + entry.request.bytes().len();
            let fits = batches
                .last()
                .is_some_and(|batch| batch.len() + needed <= self.limits.batch_bytes);
            if !fits {
                if batches.len() == self.limits.batches {
                    break;
                }
                batches.push(Vec::with_capacity(needed));
            }
            if let Some(batch) = batches.last_mut() {
                append(batch, entry.request.bytes());
            }
            taken.push((*due, *arrival));
        }
        let again = later(now, self.limits.resend);
        for (due, arrival) in taken {
            self.due.remove(&(due, arrival));
            self.due.insert((again, arrival));
            let id = self.arrivals.get(&arrival).copied();
            if let Some(entry) = id.and_then(|id| self.entries.get_mut(&id)) {
                entry.due = Some(again);
            }
        }
        batches
    }

    /// How full the pool is.
    pub fn usage(&self) -> PoolUsage {
        self.usage
    }

    fn waiting_entries<'a>(
        &'a self,
        skip: &'a BTreeSet<Id>,
    ) -> impl Iterator<Item = (&'a Id, &'a Entry<R>)> + 'a {
        self.arrivals
            .values()
            .filter(|id| !skip.contains(id))
            .filter_map(|id| self.entries.get(id).map(|entry| (id, entry)))
    }

    fn source_has_room(&self, source: Source, size: usize) -> bool {
        let usage = self.sources.get(&source).copied().unwrap_or_default();
        usage.requests < self.limits.source_requests
            && size <= self.limits.source_bytes.saturating_sub(usage.bytes)
    }

    fn peers_have_room(&self, size: usize) -> bool {
        let most = |all: usize| all - all / SUBMITTERS_PART;
        self.peers.requests < most(self.limits.requests)
            && size <= most(self.limits.bytes).saturating_sub(self.peers.bytes)
    }

    fn hold(&mut self, now: Timestamp, source: Source, id: Id, request: R) {
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        let size = request.bytes().len();
        let due = matches!(source, Source::Submitter(_)).then(|| later(now, self.limits.gather));
        if let Some(due) = due {
            self.due.insert((due, arrival));
        }
        self.usage.requests += 1;
        self.usage.bytes += size;
        if matches!(source, Source::Peer(_)) {
            self.peers.requests += 1;
            self.peers.bytes += size;
        }
        self.digests.insert(sha256(request.bytes()));
        let usage = self.sources.entry(source).or_default();
        usage.requests += 1;
        usage.bytes += size;
        self.arrivals.insert(arrival, id);
        self.entries.insert(
            id,
            Entry {
                arrival,
                arrived: now,
                source,
                request,
                due,
            },
        );
    }
}

/// The requests of a batch that a peer sent, or `None` if it is not a batch. A peer that sends
/// anything else is faulty, so nothing of a broken batch is taken.
pub fn split_batch(batch: &[u8], request_bytes: usize) -> Option<Vec<&[u8]>> {
    let mut requests = Vec::new();
    let mut rest = batch;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if length == 0 || length > request_bytes {
            return None;
        }
        let (request, tail) = tail.split_at_checked(length)?;
        requests.push(request);
        rest = tail;
    }
    Some(requests)
}

#[derive(Debug)]
struct Entry<R> {
    arrival: u64,
    arrived: Timestamp,
    source: Source,
    request: R,
    due: Option<Timestamp>,
}

fn append(batch: &mut Vec<u8>, request: &[u8]) {
    let length = u32::try_from(request.len()).expect("requests are held below 32 MiB in all");
    batch.extend_from_slice(&length.to_be_bytes());
    batch.extend_from_slice(request);
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp::new(now.number().saturating_add(millis(by)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One in so many requests and bytes is kept free of what peers forward. With a quarter for a source,
/// four faulty peers could otherwise fill the pool of a node, and its own hospital would be told
/// "busy".
const SUBMITTERS_PART: usize = 4;

/// The u32 big-endian length before each request of a batch.
const LENGTH_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALICE: Source = Source::Submitter(Submitter::new(1));
    const BOB: Source = Source::Submitter(Submitter::new(2));

    fn peer(n: u8) -> Source {
        Source::Peer(VerifyingKey::new([n; 32]))
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::new(ms)
    }

    impl Request for Vec<u8> {
        fn bytes(&self) -> &[u8] {
            self
        }
    }

    fn small() -> Pool<u32, Vec<u8>> {
        Pool::new(PoolLimits {
            requests: 6,
            bytes: 600,
            source_requests: 4,
            source_bytes: 400,
            batch_bytes: 250,
            batches: 2,
            ..PoolLimits::default()
        })
    }

    fn put(pool: &mut Pool<u32, Vec<u8>>, ms: u64, source: Source, id: u32) -> Admission {
        pool.insert(at(ms), source, id, vec![7; 100])
    }

    #[test]
    fn holds_a_request_once() {
        let mut pool = small();
        assert_eq!(put(&mut pool, 0, ALICE, 1), Admission::Held);
        assert_eq!(put(&mut pool, 1, ALICE, 1), Admission::AlreadyHeld);
        assert_eq!(put(&mut pool, 1, peer(9), 1), Admission::AlreadyHeld);
        assert_eq!(
            pool.usage(),
            PoolUsage {
                requests: 1,
                bytes: 100
            }
        );
    }

    #[test]
    fn one_source_cannot_fill_the_pool() {
        let mut pool = small();
        for id in 0..4 {
            assert_eq!(put(&mut pool, 0, peer(1), id), Admission::Held);
        }
        assert_eq!(put(&mut pool, 0, peer(1), 4), Admission::Busy(Busy::Source));
        assert_eq!(put(&mut pool, 0, ALICE, 4), Admission::Held);
        assert_eq!(put(&mut pool, 0, ALICE, 5), Admission::Held);
        assert_eq!(put(&mut pool, 0, BOB, 6), Admission::Busy(Busy::Node));
        assert!(pool.remove(&0));
        assert_eq!(put(&mut pool, 0, peer(1), 6), Admission::Held);
    }

    /// The story: each peer might hold a quarter of the pool, so four faulty ones filled it, and whoever
    /// handed a transaction in was told that the node is busy.
    #[test]
    fn all_peers_together_leave_room_for_the_nodes_own_submitters() {
        let mut pool = small();
        let mut busy = 0;
        for id in 0..40u8 {
            match put(&mut pool, 0, peer(id % 10), id.into()) {
                Admission::Held => {}
                refused => {
                    assert_eq!(refused, Admission::Busy(Busy::Node));
                    busy += 1;
                }
            }
        }
        // Three quarters of 600 bytes hold four of 100.
        assert_eq!((pool.usage().requests, busy), (4, 36));
        assert_eq!(put(&mut pool, 0, ALICE, 100), Admission::Held);
        // What a submitter takes over from a peer counts for the submitter.
        assert!(pool.remove(&100));
        assert_eq!(put(&mut pool, 0, BOB, 0), Admission::AlreadyHeld);
        assert_eq!(put(&mut pool, 0, peer(1), 50), Admission::Held);
    }

    #[test]
    fn what_is_held_is_known_by_its_bytes() {
        let mut pool = small();
        let (one, other) = (vec![1; 50], vec![2; 50]);
        assert_eq!(pool.insert(at(0), peer(1), 1, one.clone()), Admission::Held);
        assert!(pool.holds_bytes(&one) && !pool.holds_bytes(&other));
        // Another encoding of the same id is not held in its place.
        let again = pool.insert(at(0), ALICE, 1, other.clone());
        assert_eq!(again, Admission::AlreadyHeld);
        assert!(pool.holds_bytes(&one) && !pool.holds_bytes(&other));
        pool.remove(&1);
        assert!(!pool.holds_bytes(&one));
    }

    #[test]
    fn what_a_submitter_hands_in_is_forwarded_even_if_a_peer_was_first() {
        let mut pool = small();
        assert_eq!(put(&mut pool, 0, peer(1), 1), Admission::Held);
        assert_eq!(pool.next_due(), None);
        assert_eq!(put(&mut pool, 0, ALICE, 1), Admission::AlreadyHeld);
        assert_eq!(pool.next_due(), Some(at(15)));
        assert_eq!(
            pool.usage(),
            PoolUsage {
                requests: 1,
                bytes: 100
            }
        );
    }

    #[test]
    fn forwards_in_batches_and_again_after_the_interval() {
        let mut pool = small();
        for id in 0..4 {
            put(
                &mut pool,
                u64::from(id),
                if id % 2 == 0 { ALICE } else { BOB },
                id,
            );
        }
        put(&mut pool, 4, peer(1), 9);
        assert!(
            pool.take_due(at(14)).is_empty(),
            "requests are gathered first"
        );
        let batches = pool.take_due(at(15));
        assert_eq!(batches.len(), 2, "two requests of 104 bytes fit into 250");
        let held: Vec<usize> = batches
            .iter()
            .map(|batch| split_batch(batch, 100).map_or(0, |requests| requests.len()))
            .collect();
        assert_eq!(held, [2, 2]);
        assert!(pool.take_due(at(1_014)).is_empty());
        pool.remove(&0);
        let again: usize = pool
            .take_due(at(1_015))
            .iter()
            .map(|batch| split_batch(batch, 100).map_or(0, |requests| requests.len()))
            .sum();
        assert_eq!(again, 3, "what is final is not sent again");
    }

    #[test]
    fn what_does_not_fit_stays_due() {
        let mut pool = Pool::<u32, Vec<u8>>::new(PoolLimits {
            batch_bytes: 250,
            batches: 1,
            ..PoolLimits::default()
        });
        for id in 0..4 {
            put(&mut pool, 0, ALICE, id);
        }
        let mut sent = 0;
        while let Some(due) = pool.next_due().filter(|due| *due < at(1_000)) {
            for batch in pool.take_due(due) {
                sent += split_batch(&batch, 100).map_or(0, |requests| requests.len());
            }
        }
        assert_eq!(sent, 4);
    }

    #[test]
    fn a_request_larger_than_a_batch_travels_alone() {
        let mut pool = Pool::<u32, Vec<u8>>::new(PoolLimits {
            batch_bytes: 50,
            ..PoolLimits::default()
        });
        put(&mut pool, 0, ALICE, 1);
        put(&mut pool, 0, ALICE, 2);
        let batches = pool.take_due(at(15));
        assert_eq!(batches.len(), 2);
        assert!(
            batches
                .iter()
                .all(|batch| split_batch(batch, 100).is_some())
        );
    }

    #[test]
    fn gives_up_after_the_expiry() {
        let mut pool = small();
        put(&mut pool, 0, ALICE, 1);
        put(&mut pool, 30_000, ALICE, 2);
        assert_eq!(pool.expire(at(59_999)), Vec::<u32>::new());
        assert_eq!(pool.expire(at(60_000)), vec![1]);
        assert_eq!(pool.usage().requests, 1);
    }

    #[test]
    fn the_oldest_is_proposed_first_and_ancestors_are_skipped() {
        let mut pool = small();
        for (ms, id) in [(5, 3), (6, 1), (7, 2)] {
            put(&mut pool, ms, ALICE, id);
        }
        let none = BTreeSet::new();
        let order: Vec<u32> = pool.waiting(&none).map(|(id, _)| *id).collect();
        assert_eq!(order, [3, 1, 2]);
        let skip = BTreeSet::from([3]);
        assert_eq!(pool.waiting_since(&none), Some(at(5)));
        assert_eq!(pool.waiting_since(&skip), Some(at(6)));
        assert_eq!(pool.waiting_since(&BTreeSet::from([1, 2, 3])), None);
    }

    #[test]
    fn a_broken_batch_is_refused_whole() {
        let mut pool = small();
        put(&mut pool, 0, ALICE, 1);
        let batch = pool.take_due(at(15)).remove(0);
        assert!(split_batch(&batch, 100).is_some());
        assert!(
            split_batch(&batch, 99).is_none(),
            "a request above the limit"
        );
        assert!(
            split_batch(&batch[..batch.len() - 1], 100).is_none(),
            "cut short"
        );
        assert!(
            split_batch(&[0, 0, 0, 0], 100).is_none(),
            "an empty request"
        );
        assert!(split_batch(&[1, 2, 3], 100).is_none(), "half a length");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u32, usize),
        Remove(u32),
        Expire,
        Take,
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..6, 0u32..30, 1usize..200).prop_map(|(s, id, len)| Step::Insert(s, id, len)),
            1 => (0u32..30).prop_map(Step::Remove),
            1 => Just(Step::Expire),
            1 => Just(Step::Take),
            2 => (0u64..30_000).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Whatever happens, the pool stays within its limits, its counts add up, nothing is held
        /// for longer than the expiry, and every own request is due for sending.
        #[test]
        fn keeps_its_bounds(steps in proptest::collection::vec(step(), 0..200)) {
            let mut pool = small();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Insert(s, id, len) => {
                        let source = if s < 3 { Source::Submitter(Submitter::new(u64::from(s))) } else { peer(s) };
                        let mut request = vec![7; len];
                        request[0] = id as u8;
                        pool.insert(at(now), source, id, request);
                    }
                    Step::Remove(id) => { pool.remove(&id); prop_assert!(!pool.contains(&id)); }
                    Step::Expire => { pool.expire(at(now)); }
                    Step::Take => {
                        let batches = pool.take_due(at(now));
                        prop_assert!(batches.len() <= 2);
                        for batch in batches {
                            let requests = split_batch(&batch, 200).ok_or_else(|| TestCaseError::fail("a batch that cannot be split"))?;
                            prop_assert!(batch.len() <= 250 || requests.len() == 1);
                        }
                    }
                    Step::Pass(ms) => { now += ms; pool.expire(at(now)); }
                }
                let usage = pool.usage();
                prop_assert!(usage.requests <= 6 && usage.bytes <= 600);
                prop_assert_eq!(usage.requests, pool.entries.len());
                prop_assert_eq!(usage.bytes, pool.entries.values().map(|e| e.request.len()).sum::<usize>());
                prop_assert_eq!(pool.arrivals.len(), pool.entries.len());
                let of_peers = pool.entries.values().filter(|e| matches!(e.source, Source::Peer(_)));
                prop_assert_eq!(pool.peers.requests, of_peers.count());
                prop_assert!(pool.peers.requests <= 5 && pool.peers.bytes <= 450);
                for (source, held) in &pool.sources {
                    prop_assert!(held.requests <= 4 && held.bytes <= 400);
                    prop_assert_eq!(held.requests, pool.entries.values().filter(|e| e.source == *source).count());
                }
                prop_assert_eq!(pool.due.len(), pool.submitted().count());
                for entry in pool.entries.values() {
                    prop_assert!(now - entry.arrived.number() <= 60_000);
                }
            }
        }

        /// A batch that a peer made up never panics and never yields more than it holds.
        #[test]
        fn any_bytes_are_split_or_refused(batch in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(requests) = split_batch(&batch, 64) {
                let total: usize = requests.iter().map(|r| r.len() + LENGTH_BYTES).sum();
                prop_assert_eq!(total, batch.len());
            }
        }
    }
}
