//! What befalls messages between the network of a simulation and a node: some are lost, come twice, come
//! after the next one, or do not come through a cut. Each is counted where it happens.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use commonware_p2p::{Message, Receiver, simulated};
use commonware_runtime::deterministic::Context;
use rand_core::Rng as _;

use super::{PublicKey, simulated::SimulatedNode};

/// What befalls messages, everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weather {
    /// Messages lost out of a hundred.
    pub lost_percent: u8,
    /// Messages that come twice, out of a hundred.
    pub doubled_percent: u8,
    /// Messages that come after the next one on their channel, out of a hundred.
    pub swapped_percent: u8,
}

/// How many messages it befell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WeatherCounts {
    /// Messages that came as they were sent.
    pub delivered: u64,
    /// Messages that were lost.
    pub lost: u64,
    /// Messages that came twice.
    pub doubled: u64,
    /// Messages that came after the next one.
    pub swapped: u64,
    /// Messages that did not come through a cut.
    pub cut: u64,
}

/// The weather of a simulation, shared by all its receivers.
#[derive(Clone)]
pub(super) struct Sky(Arc<Mutex<State>>);

struct State {
    places: BTreeMap<PublicKey, SimulatedNode>,
    weather: Weather,
    /// From whom to whom nothing comes.
    cuts: BTreeSet<(SimulatedNode, SimulatedNode)>,
    counts: WeatherCounts,
}

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    Gone,
    Doubled,
    Swapped,
}

impl Sky {
    pub(super) fn new(places: BTreeMap<PublicKey, SimulatedNode>) -> Self {
        Self(Arc::new(Mutex::new(State {
            places,
            weather: Weather::default(),
            cuts: BTreeSet::new(),
            counts: WeatherCounts::default(),
        })))
    }

    pub(super) fn set(&self, weather: Weather) {
        self.state().weather = weather;
    }

    fn is_fair(&self) -> bool {
        self.state().weather == Weather::default()
    }

    pub(super) fn cut(&self, from: SimulatedNode, to: SimulatedNode) {
        self.state().cuts.insert((from, to));
    }

    pub(super) fn heal(&self) {
        self.state().cuts.clear();
    }

    pub(super) fn counts(&self) -> WeatherCounts {
        self.state().counts
    }

    /// What becomes of a message, by a number from 0 to 99.
    fn befalls(&self, from: &PublicKey, to: SimulatedNode, chance: u8) -> Fate {
        let mut state = self.state();
        let from = state.places.get(from).copied();
        if from.is_some_and(|from| state.cuts.contains(&(from, to))) {
            state.counts.cut += 1;
            return Fate::Gone;
        }
        let Weather {
            lost_percent: lost,
            doubled_percent: doubled,
            swapped_percent: swapped,
        } = state.weather;
        let counts = &mut state.counts;
        if chance < lost {
            counts.lost += 1;
            Fate::Gone
        } else if chance < lost.saturating_add(doubled) {
            counts.doubled += 1;
            Fate::Doubled
        } else if chance < lost.saturating_add(doubled).saturating_add(swapped) {
            counts.swapped += 1;
            Fate::Swapped
        } else {
            counts.delivered += 1;
            Fate::Delivered
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver in the weather.
pub(super) struct Exposed {
    inner: simulated::Receiver<PublicKey>,
    sky: Sky,
    to: SimulatedNode,
    chance: Context,
    /// What comes before anything new.
    next: VecDeque<Message<PublicKey>>,
    /// What comes after the next message.
    held: Option<Message<PublicKey>>,
}

impl std::fmt::Debug for Exposed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exposed({:?})", self.to)
    }
}

impl Exposed {
    pub(super) fn new(
        inner: simulated::Receiver<PublicKey>,
        sky: Sky,
        to: SimulatedNode,
        chance: Context,
    ) -> Self {
        Self {
            inner,
            sky,
            to,
            chance,
            next: VecDeque::new(),
            held: None,
        }
    }
}

impl Receiver for Exposed {
    type Error = <simulated::Receiver<PublicKey> as Receiver>::Error;
    type PublicKey = PublicKey;

    async fn recv(&mut self) -> Result<Message<PublicKey>, Self::Error> {
        loop {
            if let Some(message) = self.next.pop_front() {
                return Ok(message);
            }
            // Nothing is awaited after a message is taken, so that none is lost with this future.
            let message = self.inner.recv().await?;
            // In fair weather no number is drawn: a seed plays as if there were none.
            let chance = match self.sky.is_fair() {
                true => 99,
                false => u8::try_from(self.chance.next_u64() % 100).unwrap_or(99),
            };
            match self.sky.befalls(&message.0, self.to, chance) {
                Fate::Gone => continue,
                Fate::Delivered => self.next.push_back(message),
                Fate::Doubled => {
                    self.next.push_back(message.clone());
                    self.next.push_back(message);
                }
                Fate::Swapped => match self.held.replace(message) {
                    Some(earlier) => self.next.push_back(earlier),
                    None => continue,
                },
            }
            self.next.extend(self.held.take());
        }
    }

    fn capacity(&self) -> NonZeroUsize {
        self.inner.capacity()
    }
}
