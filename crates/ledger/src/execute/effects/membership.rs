//! How the membership changes: motions, their approvals, institutions' next keys and contacts.

use std::time::Duration;

use scheme::{Encoder, InstitutionId, ValidatorEpoch, VerifyingKey};

use super::{Effects, MOTIONS_OPEN_MAX, OBSERVERS_MAX, Refusal, Setting, known, members, present};
use crate::execute::AdmitError;
use crate::identity::TransactionId;
use crate::keys;
use crate::policy::{Node, NodeSet, Quorum, Tier};
use crate::state::{self, ContactState, InstitutionState, MotionState, OpenMotion, RulesState};
use crate::transaction::{
    Application, Approval, ContactTransaction, Institution, MembershipChange, Motion,
    PossessedSuccession, SuccessionTransaction,
};
use crate::view::View;

pub(super) fn motion(
    view: &dyn View,
    setting: &Setting,
    tx: &Motion,
    id: TransactionId,
) -> Result<Effects, AdmitError> {
    let by = member(view, tx.by)?;
    let block = setting.moment.time;
    let latest = block
        .number()
        .saturating_add(MOTION_LONGEST.as_millis() as u64);
    if tx.until <= block || tx.until.number() > latest {
        let until = tx.until;
        return Err(Refusal::MotionEnd { until, block }.into());
    }
    let mut open = state::open_motions(view)?;
    open.open.retain(|other| other.until > block);
    if open.open.iter().filter(|other| other.by == tx.by).count() >= MOTIONS_OPEN_MAX {
        return Err(Refusal::TooManyMotions { by: tx.by }.into());
    }
    tx.check_member(setting.consortium(), &by.key)
        .map_err(Refusal::Signature)?;
    // One that cannot be made is refused at once, so that nobody is asked for nothing.
    let change = change(view, setting, &tx.change)?;

    let number = open.count;
    // Below 2^32: a motion costs a signature of a member each.
    open.count = open.count.saturating_add(1);
    open.open.push(OpenMotion {
        motion: id,
        by: tx.by,
        until: tx.until,
    });
    let state = MotionState {
        motion: tx.clone(),
        recorded: setting.moment,
        effective: None,
        approvals: vec![(tx.by, setting.moment)],
    };
    let mut effects = decided(view, setting, state, id, open, change)?;
    effects
        .plain
        .push((keys::motion_number(number), id.as_bytes().to_vec()));
    Ok(effects)
}

pub(super) fn approval(
    view: &dyn View,
    setting: &Setting,
    tx: &Approval,
) -> Result<Effects, AdmitError> {
    let by = member(view, tx.by)?;
    let mut motion = state::motion(view, tx.motion)?.ok_or(Refusal::UnknownMotion(tx.motion))?;
    if let Some(since) = motion.effective {
        return Err(Refusal::MotionEffective(since).into());
    }
    if motion.motion.until <= setting.moment.time {
        return Err(Refusal::MotionEnded(motion.motion.until).into());
    }
    tx.check_member(setting.consortium(), &by.key)
        .map_err(Refusal::Signature)?;
    // The member that put it signed another text, so its approval has another id.
    if !motion.approvals.iter().any(|(other, _)| *other == tx.by) {
        motion.approvals.push((tx.by, setting.moment));
    }
    let change = change(view, setting, &motion.motion.change)?;
    let open = state::open_motions(view)?;
    decided(view, setting, motion, tx.motion, open, change)
}

/// Writes a motion with its approvals and, if they are enough, what it changes.
fn decided(
    view: &dyn View,
    setting: &Setting,
    mut motion: MotionState,
    id: TransactionId,
    mut open: state::OpenMotions,
    change: Effects,
) -> Result<Effects, AdmitError> {
    let members = members(view)?;
    let found = motion
        .approvals
        .iter()
        .filter(|(by, _)| members.iter().any(|member| member.id == *by))
        .count();
    let mut effects = Effects::default();
    // n - f as for a block: 2f + 1 where n = 3f + 1, and of three institutions not one alone.
    if found >= Quorum::of(members.len()).certificate() {
        motion.effective = Some(setting.moment);
        open.open.retain(|other| other.motion != id);
        effects = change;
    }
    Ok(effects
        .accountable(keys::motion(id), motion.encode())
        .accountable(keys::open_motions(), open.encode()))
}

/// What a motion changes if it is approved now.
fn change(
    view: &dyn View,
    setting: &Setting,
    change: &MembershipChange,
) -> Result<Effects, AdmitError> {
    match change {
        MembershipChange::Admit(application) => admission(view, setting, application),
        MembershipChange::Remove(institution) => removal(view, setting, *institution),
        MembershipChange::Retier(institution, tier) => tier_of(view, setting, *institution, *tier),
        MembershipChange::Succeed(next) => next_keys(view, next),
        MembershipChange::Rules(rules) => next_rules(view, setting, *rules),
    }
}

/// Whether this program knows the rules is not asked: what is valid must not depend on a release.
fn next_rules(view: &dyn View, setting: &Setting, found: u16) -> Result<Effects, AdmitError> {
    let current = setting.nodes.epoch();
    let held = state::rules(view)?;
    if held.since > current {
        return Err(Refusal::RulesDecided(held).into());
    }
    let expected = held.rules.saturating_add(1);
    if found != expected {
        return Err(Refusal::RulesNotNext { expected, found }.into());
    }
    let since = ValidatorEpoch::new(current.number().saturating_add(1));
    let next = RulesState {
        rules: found,
        since,
    };
    Ok(Effects::default().accountable(keys::rules(), next.encode()))
}

fn admission(
    view: &dyn View,
    setting: &Setting,
    application: &Application,
) -> Result<Effects, AdmitError> {
    let subject = &application.institution;
    if state::institution_state(view, subject.id)?.is_some() {
        return Err(Refusal::InstitutionKnown(subject.id).into());
    }
    for key in [&subject.key, &subject.node] {
        unused(view, key)?;
    }
    let mut present = present(view)?;
    let place = present.partition_point(|other| other.id < subject.id);
    present.insert(place, subject.clone());
    check_nodes(setting, &present)?;

    let state = InstitutionState {
        institution: subject.clone(),
        generation: 0,
        joined: setting.moment,
        left: None,
    };
    let contact = ContactState {
        contact: application.contact.clone(),
        serial: 0,
        recorded: setting.moment,
    };
    let effects = listed(&present)
        .accountable(keys::institution(subject.id), state.encode())
        .accountable(keys::contact(subject.id), contact.encode());
    Ok([&subject.key, &subject.node]
        .into_iter()
        .fold(effects, |effects, key| used(effects, key, subject.id)))
}

fn removal(
    view: &dyn View,
    setting: &Setting,
    institution: InstitutionId,
) -> Result<Effects, AdmitError> {
    let mut state = known_state(view, institution)?;
    let mut present = present(view)?;
    present.retain(|other| other.id != institution);
    check_nodes(setting, &present)?;
    state.left = Some(setting.moment);
    Ok(listed(&present).accountable(keys::institution(institution), state.encode()))
}

fn tier_of(
    view: &dyn View,
    setting: &Setting,
    institution: InstitutionId,
    tier: Tier,
) -> Result<Effects, AdmitError> {
    let mut state = known_state(view, institution)?;
    if state.institution.tier == tier {
        return Err(Refusal::SameTier(institution).into());
    }
    state.institution.tier = tier;
    let mut present = present(view)?;
    for other in &mut present {
        if other.id == institution {
            other.tier = tier;
        }
    }
    check_nodes(setting, &present)?;
    Ok(Effects::default().accountable(keys::institution(institution), state.encode()))
}

pub(super) fn succession(
    view: &dyn View,
    setting: &Setting,
    tx: &SuccessionTransaction,
) -> Result<Effects, AdmitError> {
    let institution = known(view, tx.next.succession.institution)?;
    let effects = next_keys(view, &tx.next)?;
    tx.check_current(setting.consortium(), &institution.key)
        .map_err(Refusal::Signature)?;
    Ok(effects)
}

fn next_keys(view: &dyn View, next: &PossessedSuccession) -> Result<Effects, AdmitError> {
    let next = &next.succession;
    let mut state = known_state(view, next.institution)?;
    let (expected, found) = (state.generation.saturating_add(1), next.generation);
    if found != expected {
        return Err(Refusal::KeysNotNext { expected, found }.into());
    }
    let held = &mut state.institution;
    let new: Vec<VerifyingKey> = [(held.key, next.key), (held.node, next.node)]
        .into_iter()
        .filter_map(|(old, new)| (old != new).then_some(new))
        .collect();
    if new.is_empty() {
        return Err(Refusal::KeysUnchanged(next.institution).into());
    }
    for key in &new {
        unused(view, key)?;
    }
    held.key = next.key;
    held.node = next.node;
    state.generation = found;
    let effects =
        Effects::default().accountable(keys::institution(next.institution), state.encode());
    Ok(new
        .iter()
        .fold(effects, |effects, key| used(effects, key, next.institution)))
}

pub(super) fn contact(
    view: &dyn View,
    setting: &Setting,
    tx: &ContactTransaction,
) -> Result<Effects, AdmitError> {
    let institution = known(view, tx.institution)?;
    let expected =
        state::contact(view, tx.institution)?.map_or(0, |contact| contact.serial.saturating_add(1));
    let found = tx.serial;
    if found != expected {
        return Err(Refusal::ContactNotNext { expected, found }.into());
    }
    tx.check_institution(setting.consortium(), &institution.key)
        .map_err(Refusal::Signature)?;
    let value = ContactState {
        contact: tx.contact.clone(),
        serial: tx.serial,
        recorded: setting.moment,
    };
    Ok(Effects::default().accountable(keys::contact(tx.institution), value.encode()))
}

/// A4 to A6: what has to hold of the institutions together, and of those among them that have a seat now,
/// since the others may never take theirs.
fn check_nodes(setting: &Setting, present: &[Institution]) -> Result<(), Refusal> {
    let members: Vec<_> = present
        .iter()
        .filter(|institution| institution.tier != Tier::Observer)
        .map(Node::of)
        .collect();
    if present.len() - members.len() > OBSERVERS_MAX {
        return Err(Refusal::TooManyObservers);
    }
    let seated = members
        .iter()
        .filter(|node| setting.nodes.by_institution(node.institution).is_some())
        .copied()
        .collect();
    let found = setting.charter.settings.threshold_min.count();
    for nodes in [seated, members] {
        let nodes = NodeSet::new(setting.nodes.epoch(), nodes).map_err(Refusal::Nodes)?;
        let most = nodes.highest_threshold();
        if found > most {
            return Err(Refusal::Threshold { found, most });
        }
    }
    Ok(())
}

/// A2: that a key never was anyone's in the consortium.
fn unused(view: &dyn View, key: &VerifyingKey) -> Result<(), AdmitError> {
    if state::centre_keys(view)?.holds(key) || state::institution_of_key(view, key)?.is_some() {
        return Err(Refusal::InstitutionKeyInUse(*key).into());
    }
    Ok(())
}

fn used(effects: Effects, key: &VerifyingKey, by: InstitutionId) -> Effects {
    let whose = Encoder::new().u32(by.number()).finish();
    effects.plain(keys::institution_key(key), whose)
}

fn listed(present: &[Institution]) -> Effects {
    let ids = present.iter().map(|institution| institution.id).collect();
    Effects::default().accountable(keys::institutions(), state::encode_institutions(ids))
}

fn member(view: &dyn View, id: InstitutionId) -> Result<Institution, AdmitError> {
    let institution = known(view, id)?;
    if institution.tier == Tier::Observer {
        return Err(Refusal::Observer(id).into());
    }
    Ok(institution)
}

fn known_state(view: &dyn View, id: InstitutionId) -> Result<InstitutionState, AdmitError> {
    let state = state::institution_state(view, id)?;
    let state = state.filter(|state| state.left.is_none());
    Ok(state.ok_or(Refusal::UnknownInstitution(id))?)
}

/// A motion that nobody decides on is forgotten after a month.
const MOTION_LONGEST: Duration = Duration::from_secs(30 * 86_400);
