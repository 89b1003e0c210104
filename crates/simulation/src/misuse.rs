//! What people and the cloud try and must not get through with.

use chain::Submitter;
use ledger::{Transaction, TransactionId};
use parties::{
    ContainerRequest, GrantPackage, OpenGrant, SectionShares, ShareAnswer, ShareRefusal,
};
use scheme::{ClassPlace, VerifiedHeader};
use services::NodeChain;

use crate::faults::{Misuse, Plan};
use crate::referral::ReferralError;
use crate::world::World;

/// Shares that a node gave against the rules are fewer than t, and open nothing.
pub(crate) fn opens_nothing(
    world: &World<'_>,
    grant: &OpenGrant,
    header: &VerifiedHeader,
    record: TransactionId,
    given: Vec<(usize, ShareAnswer)>,
) -> Result<(), ReferralError> {
    let class = ClassPlace::new(0);
    let mut shares = SectionShares::new(world.consortium, grant, header, record, class);
    for (_, answer) in given {
        // One for another grant's header is no share of this one's.
        let _refused = shares.add(answer);
    }
    match shares.open() {
        Err(_) => Ok(()),
        Ok(_) => Err(ReferralError::Broken(
            "a section opened against the rules".to_owned(),
        )),
    }
}

/// No accounting node takes a grant of which a byte was altered.
pub(crate) fn altered_grant_is_refused(
    world: &mut World<'_>,
    package: &GrantPackage,
) -> Result<(), ReferralError> {
    let now = world.now();
    let mut refused = 0;
    for place in [0, package.grant.len() / 2, package.grant.len() - 1] {
        let mut altered = package.clone();
        altered.grant[place] ^= 1;
        let places: Vec<usize> = world.accounting.keys().copied().collect();
        for node in places {
            let Some(handle) = world.handle(node) else {
                continue;
            };
            let chain = NodeChain::now(&handle);
            let Some(accounting) = world.accounting.get_mut(&node) else {
                continue;
            };
            if accounting.receive_grant(&altered, &chain, now).is_ok() {
                return Err(ReferralError::Broken(format!(
                    "a grant is taken with another byte at {place}"
                )));
            }
            refused += 1;
        }
    }
    world
        .faulting
        .took_effect("altered grant", u64::from(refused > 0));
    Ok(())
}

/// No node that runs takes an access of which a byte was altered.
pub(crate) fn altered_access_is_refused(
    world: &mut World<'_>,
    access: &Transaction,
) -> Result<(), ReferralError> {
    let whole = access.encode();
    for place in [whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let mut altered = whole.clone();
        altered[place] ^= 1;
        for node in world.handles() {
            if node.submit(Submitter::new(3), &altered).is_ok() {
                return Err(ReferralError::Broken(format!(
                    "an access is taken with another byte at {place}"
                )));
            }
        }
    }
    world.faulting.took_effect("altered access", 1);
    Ok(())
}

/// Accounting nodes give out the container that the chain names, and no other.
pub(crate) fn altered_containers_are_kept_back(
    world: &mut World<'_>,
    plan: &Plan,
    asked: &ContainerRequest,
    container: &[u8],
) -> Result<(), ReferralError> {
    let (what, altered) = match plan.misuse {
        Some(Misuse::AlteredContainer) => {
            let mut altered = container.to_vec();
            let middle = altered.len() / 2;
            altered[middle] ^= 1;
            ("altered container", altered)
        }
        Some(Misuse::CutContainer) => {
            let cut = container[..container.len() - 1].to_vec();
            ("cut container", cut)
        }
        _ => return Ok(()),
    };
    let answers = world.containers(asked, &altered);
    if answers.iter().any(Result::is_ok) {
        return Err(ReferralError::Broken(format!("{what} is given out")));
    }
    let kept_back = answers
        .iter()
        .filter(|answer| matches!(answer, Err(ShareRefusal::AlteredContainer)))
        .count();
    world.faulting.took_effect(what, u64::from(kept_back > 0));
    Ok(())
}
