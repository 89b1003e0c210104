//! What goes wrong in a run. The plan follows from the seed; what of it took effect is counted where it did.

use std::collections::BTreeMap;
use std::time::Duration;

use chain::{
    Fault as DiskFault, Links, Misdeed, SimulatedDisk, SimulatedNode, Simulation, Weather,
    WeatherCounts,
};
use rand_core::Rng as _;
use scheme::Timestamp;

use crate::world::rng;

/// Nodes of the consortium.
const NODES: usize = 4;
/// Nodes that account, the first of them.
const ACCOUNTING: usize = 3;
/// Channels of a node, on each of which it can send anything.
const CHANNELS: u64 = 6;

/// How a node loses its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerLoss {
    /// Between two commits.
    AtRest,
    /// In a commit, of which so many bytes remain.
    InCommit(usize),
    /// After a commit was synced, before the node learns of it.
    AfterCommit,
    /// Its disk is full: a commit writes nothing, and the node stops.
    DiskFull,
}

/// One thing that goes wrong, or is mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// What befalls messages, everywhere.
    Weather(Weather),
    /// Messages take longer, everywhere.
    Delay {
        /// The mean.
        latency: Duration,
        /// The standard deviation.
        jitter: Duration,
    },
    /// All messages to and from one node take so much longer.
    Slow {
        /// Whose.
        place: usize,
        /// The mean.
        latency: Duration,
    },
    /// A node's disk is copied, as for a backup.
    Backup(usize),
    /// A node loses its power, and its disk is what the backup of it was.
    RollBack(usize),
    /// Nothing comes from the ones to the others.
    Cut {
        /// Who is not heard.
        from: Vec<usize>,
        /// By whom.
        to: Vec<usize>,
        /// Whether the ones do not hear the others either.
        both_ways: bool,
    },
    /// A node's clock is wrong by so many ms.
    Clock {
        /// Whose.
        place: usize,
        /// How far it is ahead; below 0, behind.
        ahead_ms: i64,
    },
    /// A node loses its power.
    PowerLoss {
        /// Whose.
        place: usize,
        /// When.
        how: PowerLoss,
    },
    /// A node that lost its power is started again.
    Restart(usize),
    /// Network and clocks are as they should be again.
    Mended,
}

/// What a Byzantine node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Byzantine {
    /// It never says anything.
    Silent,
    /// It has no node of ours, and keeps no rule of agreement.
    Engine(Misdeed),
    /// It takes part in agreement and lies to those who ask it.
    Lies(Lie),
    /// It comes back with a disk of before, and knows nothing of what it agreed to since.
    Stale,
}

/// How a node lies to those who ask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It signs receipts for another block.
    ForgedReceipts,
    /// It signs answers that its state does not give.
    ForgedAnswers,
    /// It leaves what it finds out of its answers to searches.
    HiddenHits,
    /// It gives another node's share as its own.
    WrongShares,
    /// It countersigns grants with signatures that do not stand.
    WrongCountersignatures,
    /// It gives its share to whoever asks, whether an access is recorded or not, and whether the grant has
    /// ended or not.
    FreeShares,
}

/// What people or the cloud do that they must not get through with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misuse {
    /// A grant is altered on its way to the nodes.
    AlteredGrant,
    /// A doctor alters an access after it was signed.
    AlteredAccess,
    /// The cloud gives out a container of which one byte is another.
    AlteredContainer,
    /// The cloud gives out a container without its end.
    CutContainer,
}

/// How a grant ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The patient revokes it.
    Revocation,
    /// Its time is over, as the chain counts it.
    Expiry,
}

/// How the consortium itself changes in a run, whose validator epochs are short then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A secondary hospital is admitted, votes, leads, and is removed again.
    JoinAndLeave,
    /// The node of this founder goes on under its next key: the second's or third's.
    NextKey(usize),
}

/// What happens in a run, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The Byzantine node, if there is one, and what it does.
    pub byzantine: Option<(usize, Byzantine)>,
    /// What people or the cloud try.
    pub misuse: Option<Misuse>,
    /// How the last grant ends.
    pub end: End,
    /// How the consortium changes, and from when on, in ms since the start.
    pub change: Option<(u64, Change)>,
    /// What happens, by ms since the start.
    pub faults: Vec<(u64, Fault)>,
    /// Whether other transactions come all the time.
    pub traffic: bool,
    /// When the last fault is mended, in ms since the start.
    pub mended: u64,
}

impl Plan {
    /// Nothing goes wrong, and nobody else sends anything.
    pub fn quiet() -> Self {
        Self {
            byzantine: None,
            misuse: None,
            end: End::Revocation,
            change: None,
            faults: Vec::new(),
            traffic: false,
            mended: 0,
        }
    }

    /// What a seed stands for. At most one node is Byzantine; the others lose messages, power and the right
    /// time, as many of them at once as it happens, and all of it is mended in the end.
    pub fn of(seed: u64) -> Self {
        let mut rng = rng("faults", seed);
        let mut below = |bound: u64| rng.next_u64() % bound;
        let byzantine = byzantine(&mut below);
        let misuse = match below(6) {
            0 => Some(Misuse::AlteredGrant),
            1 => Some(Misuse::AlteredAccess),
            2 => Some(Misuse::AlteredContainer),
            3 => Some(Misuse::CutContainer),
            _ => None,
        };
        let end = match below(4) {
            0 => End::Expiry,
            _ => End::Revocation,
        };
        let change = change(&mut below, byzantine);
        // A node that goes on elsewhere has that to bear alone.
        let moves = change.map(|(_, change)| match change {
            Change::NextKey(place) => place,
            Change::JoinAndLeave => NODES,
        });
        let honest: Vec<usize> = (0..NODES)
            .filter(|place| byzantine.is_none_or(|(other, _)| other != *place))
            .filter(|place| moves != Some(*place))
            .collect();
        let mut faults = Vec::new();
        let mut now = 1_000 + below(2_000);
        for _ in 0..5 + below(4) {
            let lasts = 500 + below(5_000);
            for _ in 0..=below(2) {
                one_fault(&mut below, &honest, now, lasts, &mut faults);
            }
            faults.push((now + lasts, Fault::Mended));
            now += lasts + 200 + below(2_500);
        }
        if let Some((place, Byzantine::Stale)) = byzantine {
            let backup = below(now / 2);
            let back = backup + 2_000 + below(now / 2);
            faults.push((backup, Fault::Backup(place)));
            faults.push((back, Fault::RollBack(place)));
            faults.push((back + 100 + below(3_000), Fault::Restart(place)));
            now = now.max(back + 3_100);
        }
        faults.sort_by_key(|(at, _)| *at);
        Self {
            byzantine,
            misuse,
            end,
            change,
            faults,
            traffic: true,
            mended: now,
        }
    }
}

/// A change in every third run in which the others can bear it. While a node changes its key its institution
/// has no vote, which is f of four; and a share of its old key opens nothing, so that beside it all others
/// have to give theirs.
fn change(
    below: &mut impl FnMut(u64) -> u64,
    byzantine: Option<(usize, Byzantine)>,
) -> Option<(u64, Change)> {
    let (drawn, at) = (below(6), 2_000 + below(8_000));
    // The first hospital's doctor asks, and its server signs under its founding key.
    let place = 1 + place(below(ACCOUNTING as u64 - 1));
    let change = match (drawn, byzantine) {
        // A faulty engine is one of the first validator epoch only.
        (_, Some((_, Byzantine::Engine(_)))) => None,
        (0, _) => Some(Change::JoinAndLeave),
        (1, None) => Some(Change::NextKey(place)),
        (1, Some((other, Byzantine::Lies(lie)))) => {
            let serves = !matches!(lie, Lie::HiddenHits | Lie::WrongShares | Lie::FreeShares);
            (serves && other != place).then_some(Change::NextKey(place))
        }
        _ => None,
    };
    change.map(|change| (at, change))
}

fn byzantine(below: &mut impl FnMut(u64) -> u64) -> Option<(usize, Byzantine)> {
    let accounting = place(below(ACCOUNTING as u64));
    let anyone = place(below(NODES as u64));
    let channel = place(below(CHANNELS));
    match below(18) {
        0 => Some((anyone, Byzantine::Silent)),
        1 | 2 => Some((accounting, Byzantine::Engine(Misdeed::Equivocation))),
        3 => Some((accounting, Byzantine::Engine(Misdeed::InvalidBlock))),
        4 | 5 => Some((accounting, Byzantine::Engine(Misdeed::Censorship))),
        6 => Some((anyone, Byzantine::Engine(Misdeed::Garbage(channel)))),
        7 => Some((anyone, Byzantine::Engine(Misdeed::Replay(channel)))),
        8 => Some((anyone, Byzantine::Lies(Lie::ForgedReceipts))),
        9 => Some((anyone, Byzantine::Lies(Lie::ForgedAnswers))),
        10 => Some((accounting, Byzantine::Lies(Lie::HiddenHits))),
        11 => Some((accounting, Byzantine::Lies(Lie::WrongShares))),
        12 => Some((accounting, Byzantine::Lies(Lie::FreeShares))),
        15 => Some((accounting, Byzantine::Lies(Lie::WrongCountersignatures))),
        13 | 14 => Some((anyone, Byzantine::Stale)),
        _ => None,
    }
}

fn one_fault(
    below: &mut impl FnMut(u64) -> u64,
    honest: &[usize],
    now: u64,
    lasts: u64,
    faults: &mut Vec<(u64, Fault)>,
) {
    let victim = honest[place(below(honest.len() as u64))];
    let others: Vec<usize> = (0..NODES).filter(|other| *other != victim).collect();
    let percent = |number: u64| u8::try_from(1 + number).unwrap_or(1);
    let fault = match below(11) {
        0 => Fault::Weather(Weather {
            lost_percent: percent(below(20)),
            ..Weather::default()
        }),
        1 => Fault::Weather(Weather {
            doubled_percent: percent(below(30)),
            swapped_percent: percent(below(30)),
            lost_percent: 0,
        }),
        2 => Fault::Delay {
            latency: Duration::from_millis(50 + below(350)),
            jitter: Duration::from_millis(below(150)),
        },
        // Alone, both ways or one way.
        3 | 4 => Fault::Cut {
            from: vec![victim],
            to: others,
            both_ways: below(2) == 0,
        },
        // Two and two.
        5 => {
            let friend = others[place(below(others.len() as u64))];
            Fault::Cut {
                from: vec![victim, friend],
                to: others.into_iter().filter(|one| *one != friend).collect(),
                both_ways: true,
            }
        }
        // Only one other is out of reach.
        6 => Fault::Cut {
            from: vec![victim],
            to: vec![others[place(below(others.len() as u64))]],
            both_ways: below(2) == 0,
        },
        7 => {
            let by = i64::try_from(200 + below(8_000)).unwrap_or(200);
            Fault::Clock {
                place: victim,
                ahead_ms: if below(2) == 0 { by } else { -by },
            }
        }
        8 => Fault::Slow {
            place: victim,
            latency: Duration::from_millis(300 + below(1_500)),
        },
        _ => {
            let how = match below(5) {
                0 => PowerLoss::AtRest,
                1 => PowerLoss::InCommit(0),
                2 => PowerLoss::InCommit(place(below(4_096))),
                3 => PowerLoss::DiskFull,
                _ => PowerLoss::AfterCommit,
            };
            faults.push((now + lasts, Fault::Restart(victim)));
            Fault::PowerLoss { place: victim, how }
        }
    };
    faults.push((now, fault));
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// Counts of what took effect, by name.
pub type Counts = BTreeMap<&'static str, u64>;

/// What acts of a Byzantine node are called among the effects. It acts whenever it can, so that the number
/// says how long a run was.
pub(crate) const BYZANTINE: [&str; 13] = [
    "silence",
    "equivocation",
    "invalid block",
    "censorship",
    "replay",
    "garbage",
    "forged receipt",
    "forged answer",
    "left-out hits",
    "wrong share",
    "free share",
    "wrong countersignature",
    "stale rejoin",
];

/// Who is told what happens in a run, line by line.
pub(crate) type Watch<'a> = &'a dyn Fn(String);

/// A plan while it happens.
pub(crate) struct Faulting<'a> {
    /// What is still to come, the next one last.
    coming: Vec<(u64, Fault)>,
    began: Timestamp,
    mended: u64,
    /// Which node is about to lose its power in a commit, and of which so many bytes remain.
    armed: BTreeMap<usize, (usize, PowerLoss)>,
    /// Whose clock is wrong, with what its node said of blocks then.
    clocks: BTreeMap<usize, (i64, u64)>,
    delayed: Option<&'static str>,
    /// Copies of disks.
    backups: BTreeMap<usize, SimulatedDisk>,
    before: WeatherCounts,
    pub(crate) effects: Counts,
    watch: Watch<'a>,
}

/// What the world has to do for a fault, since nodes are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// Off, and of what was not synced so many bytes remain.
    Off(usize, usize),
    On(usize),
}

impl<'a> Faulting<'a> {
    pub(crate) fn new(plan: &Plan, began: Timestamp, watch: Watch<'a>) -> Self {
        let mut coming = plan.faults.clone();
        coming.reverse();
        Self {
            coming,
            began,
            mended: plan.mended,
            armed: BTreeMap::new(),
            clocks: BTreeMap::new(),
            delayed: None,
            backups: BTreeMap::new(),
            before: WeatherCounts::default(),
            effects: Counts::new(),
            watch,
        }
    }

    pub(crate) fn took_effect(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.effects.entry(what).or_insert(0) += times;
        }
    }

    pub(crate) fn say(&self, now: Timestamp, what: impl std::fmt::Display) {
        let since = self.since(now);
        (self.watch)(format!("{since:>7} ms  {what}"));
    }

    /// Whether this node's next commit is to fail.
    pub(crate) fn is_armed(&self, place: usize) -> bool {
        self.armed.contains_key(&place)
    }

    /// How long the run has gone on, in ms.
    pub(crate) fn since(&self, now: Timestamp) -> u64 {
        now.number().saturating_sub(self.began.number())
    }

    /// Whether everything is mended.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.coming.is_empty() && now.number() >= self.began.number() + self.mended
    }

    /// Lets happen what is due.
    pub(crate) async fn happen(&mut self, simulation: &mut Simulation) -> Vec<Power> {
        let mut power = self.failed_commits(simulation);
        let now = simulation.now();
        let since = self.since(now);
        while let Some((_, fault)) = self.coming.pop_if(|(at, _)| *at <= since) {
            self.say(now, format_args!("{fault:?}"));
            match fault {
                Fault::Weather(weather) => simulation.set_weather(weather),
                Fault::Delay { latency, jitter } => {
                    self.delayed = Some("messages delayed");
                    let links = Links {
                        latency,
                        jitter,
                        ..Links::default()
                    };
                    simulation.set_links(links).await;
                }
                Fault::Slow { place, latency } => {
                    self.delayed = Some("node slow");
                    let links = Links {
                        latency,
                        ..Links::default()
                    };
                    simulation.set_links_of(SimulatedNode(place), links).await;
                }
                Fault::Backup(place) => {
                    let backup = simulation.disk(SimulatedNode(place)).backup();
                    self.backups.insert(place, backup);
                }
                Fault::RollBack(place) => {
                    if let Some(backup) = self.backups.remove(&place) {
                        let disk = simulation.disk(SimulatedNode(place));
                        self.took_effect("stale rejoin", u64::from(backup.len() < disk.len()));
                        disk.restore(&backup);
                        power.push(Power::Off(place, 0));
                    }
                }
                Fault::Cut {
                    from,
                    to,
                    both_ways,
                } => {
                    for (one, other) in from
                        .iter()
                        .flat_map(|one| to.iter().map(move |other| (*one, *other)))
                    {
                        simulation.cut(SimulatedNode(one), SimulatedNode(other));
                        if both_ways {
                            simulation.cut(SimulatedNode(other), SimulatedNode(one));
                        }
                    }
                }
                Fault::Clock { place, ahead_ms } => {
                    simulation.set_clock(SimulatedNode(place), ahead_ms);
                    let seen = clock_effects(simulation, place);
                    self.clocks.insert(place, (ahead_ms, seen));
                }
                Fault::PowerLoss { place, how } => {
                    if simulation.node(SimulatedNode(place)).is_none() {
                        continue;
                    }
                    let (kept, disk) = match how {
                        PowerLoss::AtRest => {
                            self.took_effect("power lost", 1);
                            power.push(Power::Off(place, 0));
                            continue;
                        }
                        PowerLoss::InCommit(kept) => (kept, DiskFault::BeforeSync),
                        PowerLoss::AfterCommit => (0, DiskFault::AfterSync),
                        PowerLoss::DiskFull => (0, DiskFault::Full),
                    };
                    simulation.disk(SimulatedNode(place)).arm(0, disk);
                    self.armed.insert(place, (kept, how));
                }
                Fault::Restart(place) => {
                    if self.armed.remove(&place).is_some() {
                        // It committed nothing all the while.
                        self.took_effect("power lost", 1);
                        power.push(Power::Off(place, 0));
                    }
                    power.push(Power::On(place));
                }
                Fault::Mended => self.mend(simulation).await,
            }
        }
        power
    }

    /// Nodes that met the fault of their disk.
    fn failed_commits(&mut self, simulation: &Simulation) -> Vec<Power> {
        let failed: Vec<_> = self
            .armed
            .iter()
            .filter(|(place, _)| {
                let node = simulation.node(SimulatedNode(**place));
                node.is_some_and(|node| node.status().failure.is_some())
            })
            .map(|(place, (kept, how))| (*place, *kept, *how))
            .collect();
        let mut power = Vec::new();
        for (place, kept, how) in failed {
            self.armed.remove(&place);
            let what = match how {
                PowerLoss::AtRest => "power lost",
                PowerLoss::InCommit(0) => "commit lost",
                PowerLoss::InCommit(_) => "commit torn",
                PowerLoss::AfterCommit => "commit unanswered",
                PowerLoss::DiskFull => "disk full",
            };
            self.took_effect(what, 1);
            power.push(Power::Off(place, kept));
        }
        power
    }

    async fn mend(&mut self, simulation: &mut Simulation) {
        let counts = simulation.weather_counts();
        let before = self.before;
        for (what, times) in [
            ("messages lost", counts.lost - before.lost),
            ("messages doubled", counts.doubled - before.doubled),
            ("messages swapped", counts.swapped - before.swapped),
            ("messages cut off", counts.cut - before.cut),
        ] {
            self.took_effect(what, u64::from(times > 0));
        }
        if let Some(what) = self.delayed.take() {
            let came = counts.delivered > before.delivered;
            self.took_effect(what, u64::from(came));
            simulation.set_links(Links::default()).await;
        }
        self.before = counts;
        simulation.set_weather(Weather::default());
        simulation.heal();
        for (place, (ahead_ms, before)) in std::mem::take(&mut self.clocks) {
            simulation.set_clock(SimulatedNode(place), 0);
            let what = if ahead_ms > 0 {
                "clock fast"
            } else {
                "clock slow"
            };
            let seen = clock_effects(simulation, place);
            self.took_effect(what, u64::from(seen > before));
        }
    }
}

/// Blocks that a node led, and blocks that made any node wait for its clock: with a wrong clock at one of
/// them, either grows.
fn clock_effects(simulation: &Simulation, place: usize) -> u64 {
    let waits: u64 = simulation
        .running()
        .map(|(_, node)| node.status().waits_for_clock)
        .sum();
    let led = simulation.node(SimulatedNode(place)).map_or(0, |node| {
        let status = node.status();
        status.led.get(place).map_or(0, |led| led.blocks)
    });
    waits + led
}
