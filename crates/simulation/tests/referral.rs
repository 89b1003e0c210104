//! The referral on a seed: the node's real code, with all that can go wrong.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::RefCell;

use chain::Weather;
use simulation::{
    Byzantine, Change, End, Ending, Fault, Lie, Misuse, Outcome, Plan, PowerLoss, Totals, play,
    play_watched,
};

fn assert_whole(outcome: &Outcome) {
    assert!(outcome.read_equal, "{outcome:?}");
    assert!(outcome.ungranted_closed, "{outcome:?}");
    assert!(outcome.refused_after_revocation, "{outcome:?}");
    assert_eq!(outcome.grants_held, 0, "{outcome:?}");
    // Institution 4 is the community hospital: it verifies and never leads.
    assert_eq!(outcome.led[&4], 0, "{outcome:?}");
    // The three others lead one view each, in the order of their numbers; a view without a block is
    // passed over and never made up for.
    let order = [1, 2, 3];
    for (view, institution) in &outcome.turns {
        assert_eq!(order[(view % 3) as usize], *institution, "view {view}");
    }
    assert!(
        outcome
            .turns
            .is_sorted_by(|(one, _), (other, _)| one < other)
    );
    assert_eq!(outcome.turns.len() as u64, outcome.height);
}

/// Five messages of a hundred lost all the time, and a secondary hospital's node that loses its power in a
/// commit and comes back.
fn bad_day() -> Plan {
    let lost = Fault::Weather(Weather {
        lost_percent: 5,
        ..Weather::default()
    });
    let power = Fault::PowerLoss {
        place: 2,
        how: PowerLoss::InCommit(700),
    };
    Plan {
        byzantine: None,
        misuse: None,
        end: End::Revocation,
        change: None,
        faults: vec![
            (0, lost),
            (6_000, power),
            (14_000, Fault::Restart(2)),
            (20_000, Fault::Mended),
        ],
        traffic: true,
        mended: 20_000,
    }
}

#[test]
fn the_referral_survives_lost_messages_a_crash_and_a_restart() {
    let outcome = play(11, &bad_day()).unwrap();
    assert_whole(&outcome);
    assert!(
        [1, 2, 3]
            .iter()
            .all(|institution| outcome.led[institution] > 0)
    );
    for effect in ["messages lost", "commit torn"] {
        assert_eq!(outcome.effects[effect], 1, "{outcome:?}");
    }
    assert!(outcome.messages.lost > 100, "{outcome:?}");
    // The same seed gives the same run, another seed another one.
    assert_eq!(play(11, &bad_day()).unwrap(), outcome);
    let other = play(12, &bad_day()).unwrap();
    assert_whole(&other);
    assert_ne!(other.state_root, outcome.state_root);
}

#[test]
fn without_faults_it_takes_no_longer_than_its_steps() {
    let outcome = play(13, &Plan::quiet()).unwrap();
    assert_whole(&outcome);
    assert!(outcome.height < 200, "{outcome:?}");
    assert!(outcome.effects.is_empty(), "{outcome:?}");
    // Where nothing fails, nobody is passed over, but for who was not heard of yet at the very start.
    let views: Vec<_> = outcome.turns.iter().map(|(view, _)| *view).collect();
    let first = views[1];
    assert!(first <= 3, "{views:?}");
    assert_eq!(
        views[1..],
        (first..first + outcome.height - 1).collect::<Vec<_>>()
    );
}

/// Each lie is told and believed by nobody.
#[test]
fn whoever_lies_to_those_who_ask_is_not_believed() {
    for (lie, told) in [
        (Lie::ForgedReceipts, "forged receipt"),
        (Lie::ForgedAnswers, "forged answer"),
        (Lie::HiddenHits, "left-out hits"),
        (Lie::WrongShares, "wrong share"),
        (Lie::WrongCountersignatures, "wrong countersignature"),
        (Lie::FreeShares, "free share"),
    ] {
        let plan = Plan {
            byzantine: Some((1, Byzantine::Lies(lie))),
            ..Plan::quiet()
        };
        let outcome = play(14, &plan).unwrap();
        assert_whole(&outcome);
        assert!(outcome.effects[told] > 0, "{lie:?}: {outcome:?}");
    }
}

#[test]
fn what_people_and_the_cloud_alter_is_refused() {
    for (misuse, tried) in [
        (Misuse::AlteredGrant, "altered grant"),
        (Misuse::AlteredAccess, "altered access"),
        (Misuse::AlteredContainer, "altered container"),
        (Misuse::CutContainer, "cut container"),
    ] {
        let plan = Plan {
            misuse: Some(misuse),
            ..Plan::quiet()
        };
        let outcome = play(15, &plan).unwrap();
        assert_whole(&outcome);
        assert_eq!(outcome.effects[tried], 1, "{misuse:?}: {outcome:?}");
    }
}

#[test]
fn nothing_is_read_after_a_grants_time_though_a_node_gives_its_shares_to_everyone() {
    let plan = Plan {
        byzantine: Some((2, Byzantine::Lies(Lie::FreeShares))),
        end: End::Expiry,
        ..Plan::quiet()
    };
    let outcome = play(16, &plan).unwrap();
    assert_whole(&outcome);
    assert_eq!(outcome.effects["grant expired"], 1, "{outcome:?}");
    // One before the access, and one after the end.
    assert_eq!(outcome.effects["free share"], 2, "{outcome:?}");
}

/// While the patient grants, one node has no power, and one of the two others gives wrong shares: the doctor
/// can read once the first is back and has got the grant from the doctor.
#[test]
fn a_node_that_was_away_when_a_grant_was_given_gets_it_from_the_doctor() {
    let power = Fault::PowerLoss {
        place: 2,
        how: PowerLoss::AtRest,
    };
    let plan = Plan {
        byzantine: Some((1, Byzantine::Lies(Lie::WrongShares))),
        faults: vec![(500, power), (40_000, Fault::Restart(2))],
        mended: 40_000,
        ..Plan::quiet()
    };
    let outcome = play(18, &plan).unwrap();
    assert_whole(&outcome);
    assert_eq!(outcome.effects["power lost"], 1, "{outcome:?}");
    assert!(outcome.effects["wrong share"] > 0, "{outcome:?}");
    assert_eq!(outcome.handed_on, 1, "{outcome:?}");
}

/// Meanwhile a hospital joins, leads and leaves, or a node goes on under its next key: the referral does not
/// notice.
#[test]
fn the_consortium_changes_during_a_referral() {
    for (change, came) in [
        (
            Change::JoinAndLeave,
            &["hospital joined", "hospital left"][..],
        ),
        (Change::NextKey(1), &["node key changed"][..]),
    ] {
        let plan = Plan {
            change: Some((500, change)),
            traffic: true,
            ..Plan::quiet()
        };
        let outcome = play(19, &plan).unwrap();
        assert_eq!(outcome.wrong(), None, "{change:?}: {outcome:?}");
        for effect in came {
            assert_eq!(outcome.effects[effect], 1, "{change:?}: {outcome:?}");
        }
        let led = |institution: u32| {
            let turns = outcome.turns.iter();
            turns.filter(|(_, by)| *by == institution).count()
        };
        let newcomer = change == Change::JoinAndLeave;
        assert_eq!(led(5) > 0, newcomer, "{change:?}: {outcome:?}");
        assert_eq!(led(4), 0, "a community hospital never leads");
        let last = outcome.turns.last().unwrap().1;
        assert_ne!(last, 5, "it has left");
    }
}

/// A node comes back with the disk of some time before and catches up; what it had agreed to stands.
#[test]
fn a_node_that_comes_back_with_a_stale_disk_catches_up() {
    let plan = Plan {
        byzantine: Some((0, Byzantine::Stale)),
        faults: vec![
            (2_000, Fault::Backup(0)),
            (8_000, Fault::RollBack(0)),
            (9_000, Fault::Restart(0)),
        ],
        traffic: true,
        mended: 9_000,
        ..Plan::quiet()
    };
    let outcome = play(17, &plan).unwrap();
    assert_whole(&outcome);
    assert_eq!(outcome.effects["stale rejoin"], 1, "{outcome:?}");
}

/// A few seeds of the campaign that `seeds` plays on, each a whole referral among faults.
#[test]
fn a_few_seeds_of_the_campaign_hold() {
    let mut totals = Totals::default();
    let failed = totals.play_on(12, 2);
    assert!(failed.is_empty(), "{failed:?}; {totals:#?}");
    assert_eq!(totals.next_seed, 12);
    assert_eq!(totals.counted, 12, "{totals:#?}");
    assert!(totals.blocks >= 12 * 50, "{totals:#?}");
}

#[test]
fn a_failure_is_counted_and_not_forgotten() {
    let mut totals = Totals::default();
    totals.add(7, &Ending::Failed("another chain".to_owned()));
    let text = serde_json::to_string(&totals).unwrap();
    let mut again: Totals = serde_json::from_str(&text).unwrap();
    again.add(
        8,
        &Ending::Held(Box::new(play(13, &Plan::quiet()).unwrap())),
    );
    assert_eq!(again.failed.iter().copied().collect::<Vec<_>>(), [7]);
    // Nothing went wrong in it, so that it shows nothing.
    assert_eq!((again.counted, again.too_quiet), (0, 1));
}

#[test]
fn a_run_tells_its_faults_blocks_and_steps() {
    let told = RefCell::new(Vec::new());
    let outcome = play_watched(11, &bad_day(), &|line| told.borrow_mut().push(line)).unwrap();
    let told = told.into_inner();
    let with = |what: &str| told.iter().filter(|line| line.contains(what)).count();
    assert_eq!(with("PowerLoss"), 1);
    assert_eq!(with("the patient revokes"), 1);
    let blocks = with("block ") as u64;
    // The last one may come in the very moment in which the run ends.
    assert!(
        (outcome.height - 1..=outcome.height).contains(&blocks),
        "{blocks}"
    );
}

/// Each invariant of nodes that the specification names is one that a run can break off with.
#[test]
fn what_the_specification_promises_of_runs_is_checked_in_them() {
    let specification = include_str!("../../../spec/chain.md");
    let sources = [
        include_str!("../src/campaign.rs"),
        include_str!("../src/misuse.rs"),
        include_str!("../src/referral.rs"),
        include_str!("../src/world.rs"),
    ];
    let (_, table) = specification
        .split_once("| a run breaks off with |")
        .unwrap();
    let rows = table.lines().skip(2).take_while(|line| !line.is_empty());
    let mut checked = 0;
    for row in rows {
        let said: Vec<&str> = row.split('"').skip(1).step_by(2).collect();
        assert!(!said.is_empty(), "{row}");
        for text in said {
            assert!(
                sources.iter().any(|source| source.contains(text)),
                "no run says {text}"
            );
            checked += 1;
        }
    }
    assert!(checked > 8, "{checked}");
}
