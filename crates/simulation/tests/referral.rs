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
}
