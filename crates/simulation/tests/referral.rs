//! The referral on a seed: the node's real code with message loss, a crash and a restart.
#![allow(clippy::unwrap_used, reason = "a test")]

use simulation::{Faults, Outcome, play_referral};

fn assert_whole(outcome: &Outcome) {
    assert!(outcome.read_equal, "{outcome:?}");
    assert!(outcome.ungranted_closed, "{outcome:?}");
    assert!(outcome.refused_after_revocation, "{outcome:?}");
    assert_eq!(outcome.grants_held, 0, "{outcome:?}");
    // Institution 4 is the community hospital: it verifies and never leads.
    assert_eq!(outcome.led[&4], 0, "{outcome:?}");
    assert!(
        [1, 2, 3]
            .iter()
            .all(|institution| outcome.led[institution] > 0),
        "{outcome:?}"
    );
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

#[test]
fn the_referral_survives_lost_messages_a_crash_and_a_restart() {
    let faults = Faults {
        lost_percent: 5,
        crash: true,
    };
    let outcome = play_referral(11, faults).unwrap();
    assert_whole(&outcome);
    // The same seed gives the same state root, another seed another one.
    assert_eq!(play_referral(11, faults).unwrap(), outcome);
    let other = play_referral(12, faults).unwrap();
    assert_whole(&other);
    assert_ne!(other.state_root, outcome.state_root);
}

#[test]
fn without_faults_it_takes_no_longer_than_its_steps() {
    let outcome = play_referral(13, Faults::none()).unwrap();
    assert_whole(&outcome);
    assert!(outcome.height < 200, "{outcome:?}");
    // Where nothing fails, nobody is passed over.
    let views: Vec<_> = outcome.turns.iter().map(|(view, _)| *view).collect();
    assert_eq!(views, (1..=outcome.height).collect::<Vec<_>>());
}
