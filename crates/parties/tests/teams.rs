//! How a care team comes to one request, and what a hospital's server that forges, exchanges or repeats
//! messages, or a colleague who does not keep to it, comes to: no request.
#![allow(clippy::unwrap_used)]

use hospital::*;
use parties::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scheme::*;

/// People of one hospital, without any service between them.
mod hospital {
    use super::*;

    pub(super) const HERE: ConsortiumId = ConsortiumId::new([1; 32]);
    pub(super) const HOSPITAL: InstitutionId = InstitutionId::new(4);
    pub(super) const NOW: Timestamp = Timestamp::new(1_700_000_000_000);
    pub(super) const LATER: Timestamp = Timestamp::new(1_700_003_600_000);
    pub(super) const INBOX: (InboxHandle, [u8; 16]) = (InboxHandle::new([0x4a; 16]), [0x4b; 16]);

    pub(super) fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    fn centre_key() -> SigningKey {
        SigningKey::from_seed([2; 32])
    }

    pub(super) fn centre() -> CentreKeys {
        CentreKeys::founding(centre_key().verifying_key())
    }

    pub(super) fn doctor_of(institution: InstitutionId, id: u64) -> Doctor {
        let keys = (
            SigningKey::from_seed([id as u8; 32]),
            HpkePrivateKey::derive(&[id as u8; 32]),
        );
        let sealing = SealingSecret::random(&mut rng(id as u8));
        Doctor::from_keys(
            HERE,
            centre(),
            DoctorId::new(id),
            institution,
            keys,
            sealing,
        )
    }

    pub(super) fn doctor(id: u64) -> Doctor {
        doctor_of(HOSPITAL, id)
    }

    pub(super) fn reader(doctor: &Doctor, seed: u8) -> Reader {
        let subject = Subject::new(doctor.public_keys().id.number());
        let holder = Holder::Doctor(*doctor.public_keys());
        let certificate = Certificate::issue(&HERE, &centre_key(), subject, holder, LATER);
        Reader::new(HERE, centre(), certificate, 2, &mut rng(seed))
    }

    pub(super) fn terms() -> RequestTerms {
        RequestTerms {
            institution: HOSPITAL,
            inbox: INBOX.0.commit(&HERE, &INBOX.1),
            classes: [1, 4, 5].map(ClassCode::new).to_vec(),
            purpose: "acute stroke, thrombectomy?".into(),
            nonce: [0x33; 32],
            time: NOW,
            not_after: LATER,
        }
    }

    /// Sent through the hospital's server as the real one does: sealed by one, opened by the other.
    pub(super) fn sent(message: &TeamMessage, from: &Doctor, to: &Doctor) -> TeamMessage {
        let sealed = message.seal(from, to.public_keys(), &mut rng(9)).unwrap();
        assert!(sealed.len() <= TEAM_MESSAGE_BYTES_MAX);
        TeamMessage::open(to, from.public_keys().id, &sealed).unwrap()
    }

    pub(super) fn invited(message: TeamMessage, to: &Doctor, lead: u64) -> TeamInvitation {
        let TeamMessage::Invitation(invitation) = message else {
            panic!("no invitation");
        };
        TeamInvitation::new(to.public_keys(), DoctorId::new(lead), invitation, NOW).unwrap()
    }

    pub(super) fn id(doctor: &Doctor) -> DoctorId {
        doctor.public_keys().id
    }

    pub(super) fn take(
        team: &mut TeamLead,
        from: &Doctor,
        message: TeamMessage,
    ) -> Result<(), TeamError> {
        team.take(id(from), message, &HERE, &centre(), NOW)
    }
}

/// Doctor 11 leads, 12 and 13 are asked.
fn gathered() -> (TeamLead, TeamInvitation, TeamInvitation) {
    let (lead, second, third) = (doctor(11), doctor(12), doctor(13));
    let asked = [id(&second), id(&third)];
    let mut team = TeamLead::new(terms(), INBOX, reader(&lead, 1), &asked).unwrap();
    let invitation = team.invitation();
    let mut joins = Vec::new();
    for (doctor, seed) in [(&second, 2), (&third, 3)] {
        let mut joined = invited(sent(&invitation, &lead, doctor), doctor, 11);
        let part = joined.join(reader(doctor, seed));
        take(&mut team, doctor, sent(&part, doctor, &lead)).unwrap();
        joins.push(joined);
    }
    let third = joins.pop().unwrap();
    (team, joins.pop().unwrap(), third)
}

fn sign(invitation: &mut TeamInvitation, draft: &UnsignedRequest, by: &Doctor) -> TeamMessage {
    invitation.sign(draft.clone(), by, &centre(), NOW).unwrap()
}

#[test]
fn a_team_comes_to_one_request_that_each_of_its_doctors_signed() {
    let (lead, second, third) = (doctor(11), doctor(12), doctor(13));
    let (mut team, mut two, mut three) = gathered();
    let draft = team.close(&HERE, &centre(), NOW).unwrap().clone();
    let asked = sent(&TeamMessage::Draft(Box::new(draft.clone())), &lead, &second);
    assert_eq!(asked, TeamMessage::Draft(Box::new(draft.clone())));
    assert!(!team.is_signed());
    assert!(team.complete(&lead).is_err(), "not before all have signed");
    let signed = sign(&mut two, &draft, &second);
    take(&mut team, &second, sent(&signed, &second, &lead)).unwrap();
    // What is kept in between comes back as it was.
    let team = TeamLead::restore(HERE, centre(), &team.keep()).unwrap();
    let two = TeamInvitation::restore(HERE, centre(), &two.keep()).unwrap();
    let mut team = team;
    let signed = sign(&mut three, &draft, &third);
    take(&mut team, &third, sent(&signed, &third, &lead)).unwrap();
    assert!(team.is_signed());
    let request = team.complete(&lead).unwrap();
    let verified = request.clone().verify(&HERE, &centre(), NOW).unwrap();
    let ids: Vec<u64> = verified
        .doctors()
        .iter()
        .map(|one| one.id.number())
        .collect();
    assert_eq!(ids, [11, 12, 13]);
    // Each grant names another access key of each of them.
    for place in 0..2 {
        assert_eq!(verified.grantees(place).unwrap().len(), 3);
    }
    let own = two
        .complete(&request)
        .unwrap_or_else(|_| panic!("it was signed"));
    let named = verified.team(0);
    assert_eq!(named[1].access_key, own.member().access_keys[0]);
}

#[test]
fn who_declines_or_does_not_sign_is_left_out() {
    let (lead, second, third) = (doctor(11), doctor(12), doctor(13));
    let (mut team, mut two, _) = gathered();
    let nonce = terms().nonce;
    take(&mut team, &third, TeamMessage::Declined { nonce }).unwrap();
    let draft = team.close(&HERE, &centre(), NOW).unwrap().clone();
    assert_eq!(draft.members().len(), 2);
    let signed = sign(&mut two, &draft, &second);
    take(&mut team, &second, signed).unwrap();
    let request = team.complete(&lead).unwrap();
    assert_eq!(
        request
            .verify(&HERE, &centre(), NOW)
            .unwrap()
            .doctors()
            .len(),
        2
    );

    // Closed again while one has not signed: what the other signed was another text, and is signed anew.
    let (mut team, mut two, _) = gathered();
    let first = team.close(&HERE, &centre(), NOW).unwrap().clone();
    let signed = sign(&mut two, &first, &second);
    take(&mut team, &second, signed.clone()).unwrap();
    let fewer = team.close(&HERE, &centre(), NOW).unwrap().clone();
    assert_eq!(fewer.members().len(), 2);
    assert!(!team.is_signed());
    assert!(
        take(&mut team, &second, signed).is_err(),
        "of the first draft"
    );
    let signed = sign(&mut two, &fewer, &second);
    take(&mut team, &second, signed).unwrap();
    let request = team.complete(&lead).unwrap();
    assert!(request.clone().verify(&HERE, &centre(), NOW).is_ok());
    assert!(two.complete(&request).is_ok());

    // Nobody joined: the lead asks alone.
    let mut alone = TeamLead::new(terms(), INBOX, reader(&lead, 1), &[id(&second)]).unwrap();
    alone.close(&HERE, &centre(), NOW).unwrap();
    assert!(
        alone
            .complete(&lead)
            .unwrap()
            .verify(&HERE, &centre(), NOW)
            .is_ok()
    );
}

/// The hospital's server carries every message, and says who sent it.
#[test]
fn a_server_that_forges_or_exchanges_messages_comes_to_no_request() {
    let (lead, second, third) = (doctor(11), doctor(12), doctor(13));
    let asked = [id(&second), id(&third)];
    let begin = || TeamLead::new(terms(), INBOX, reader(&lead, 1), &asked).unwrap();
    let invitation = begin().invitation();

    // It says that another doctor sent it.
    let sealed = invitation
        .seal(&lead, second.public_keys(), &mut rng(9))
        .unwrap();
    assert!(matches!(
        TeamMessage::open(&second, id(&third), &sealed),
        Err(TeamError::NotForUs(_))
    ));

    // A part with the colleague's certificate and the server's keys: the colleague does not sign it.
    let mut team = begin();
    let mut two = invited(invitation, &second, 11);
    two.join(reader(&second, 2));
    let exchanged = reader(&second, 77).member();
    let part = TeamMessage::Part {
        nonce: terms().nonce,
        member: Box::new(exchanged),
    };
    take(&mut team, &second, part).unwrap();
    let draft = team.close(&HERE, &centre(), NOW).unwrap().clone();
    assert!(matches!(
        two.sign(draft.clone(), &second, &centre(), NOW),
        Err(TeamError::NotWhatWasJoined)
    ));
    assert!(!two.is_signed());
    // A signature of the server's own making stands under no request.
    let signature = draft.sign(&HERE, &SigningKey::from_seed([99; 32]));
    let forged = TeamMessage::Signature {
        draft: sha256(&draft.encode()),
        signature,
    };
    assert!(matches!(
        take(&mut team, &second, forged),
        Err(TeamError::Request(RequestError::Signature))
    ));
    assert!(!team.is_signed() && team.complete(&lead).is_err());
    let own = draft.sign(&HERE, lead.signing());
    let request = draft.complete(vec![own, signature]).unwrap();
    assert_eq!(
        request.verify(&HERE, &centre(), NOW),
        Err(RequestError::Signature)
    );

    // One doctor's part under another's name.
    let mut team = begin();
    let part = TeamMessage::Part {
        nonce: terms().nonce,
        member: Box::new(reader(&third, 3).member()),
    };
    assert!(take(&mut team, &second, part).is_err());
    // A doctor who was not asked, a part twice, a part of another request, one with another number of keys.
    let part = |doctor: &Doctor, nonce| TeamMessage::Part {
        nonce,
        member: Box::new(reader(doctor, 2).member()),
    };
    let stranger = doctor(14);
    assert!(take(&mut team, &stranger, part(&stranger, terms().nonce)).is_err());
    assert!(take(&mut team, &second, part(&second, [0x34; 32])).is_err());
    take(&mut team, &second, part(&second, terms().nonce)).unwrap();
    assert!(take(&mut team, &second, part(&second, terms().nonce)).is_err());
    let mut one_key = reader(&third, 3).member();
    one_key.access_keys.pop();
    let short = TeamMessage::Part {
        nonce: terms().nonce,
        member: Box::new(one_key),
    };
    assert!(take(&mut team, &third, short).is_err());
    // A part that repeats the lead's own keys.
    let mut repeated = reader(&third, 3).member();
    repeated.access_keys = reader(&lead, 1).member().access_keys;
    let repeated = TeamMessage::Part {
        nonce: terms().nonce,
        member: Box::new(repeated),
    };
    assert!(take(&mut team, &third, repeated).is_err());
    // A doctor of another institution.
    let foreign = doctor_of(InstitutionId::new(5), 13);
    assert!(take(&mut team, &foreign, part(&foreign, terms().nonce)).is_err());
}

/// A colleague is asked to sign more than was joined.
#[test]
fn nothing_is_signed_but_what_was_joined() {
    let (second, third) = (doctor(12), doctor(13));
    let (team, _, _) = gathered();
    let mut team = team;
    let draft = team.close(&HERE, &centre(), NOW).unwrap().clone();
    let changed = |change: &dyn Fn(&mut RequestTerms)| {
        let mut terms = draft.terms().clone();
        change(&mut terms);
        UnsignedRequest::new(terms, draft.members().to_vec()).unwrap()
    };
    let with = |members: &[&Member]| {
        let members = members.iter().map(|one| (*one).clone()).collect();
        UnsignedRequest::new(draft.terms().clone(), members).unwrap()
    };
    let [lead_part, second_part, third_part] = draft.members() else {
        panic!("three doctors");
    };
    let wrong = [
        changed(&|terms| terms.classes.push(ClassCode::new(9))),
        changed(&|terms| terms.purpose = "something else".into()),
        changed(&|terms| terms.inbox = Digest::new([9; 32])),
        changed(&|terms| terms.not_after = Timestamp::new(LATER.number() + 1)),
        // Not led by who invited, without this doctor.
        with(&[third_part, second_part]),
        with(&[lead_part, third_part]),
    ];
    for wrong in wrong {
        let (_, mut two, _) = gathered();
        assert!(two.sign(wrong, &second, &centre(), NOW).is_err());
        assert!(!two.is_signed());
    }
    // Whoever did not join signs nothing.
    let mut outside = invited(gathered().0.invitation(), &second, 11);
    assert!(
        outside
            .sign(draft.clone(), &second, &centre(), NOW)
            .is_err()
    );
    // And a request that was not signed here is not taken.
    let (mut other, _, mut three) = gathered();
    let whole = other.close(&HERE, &centre(), NOW).unwrap().clone();
    sign(&mut three, &whole, &third);
    let fewer = with(&[lead_part, third_part]);
    let signatures = [doctor(11), doctor(13)].map(|one| fewer.sign(&HERE, one.signing()));
    let request = fewer.complete(signatures.to_vec()).unwrap();
    assert!(request.clone().verify(&HERE, &centre(), NOW).is_ok());
    assert!(three.complete(&request).is_err());
}

#[test]
fn an_invitation_is_for_a_colleague_and_in_time() {
    let own = *doctor(12).public_keys();
    let invite = |terms: RequestTerms, lead: u64, now| {
        let invitation = Invitation { terms, grants: 1 };
        TeamInvitation::new(&own, DoctorId::new(lead), invitation, now)
    };
    assert!(invite(terms(), 11, NOW).is_ok());
    assert!(invite(terms(), 12, NOW).is_err(), "from oneself");
    let after = Timestamp::new(LATER.number() + 1);
    assert!(invite(terms(), 11, after).is_err(), "too late");
    let mut foreign = terms();
    foreign.institution = InstitutionId::new(5);
    assert!(invite(foreign, 11, NOW).is_err(), "of another institution");
    for ids in [&[][..], &[12, 12], &(12..29).collect::<Vec<u64>>()] {
        let ids: Vec<_> = ids.iter().copied().map(DoctorId::new).collect();
        let team = TeamLead::new(terms(), INBOX, reader(&doctor(11), 1), &ids);
        assert!(team.is_err(), "none, one twice, or 17");
    }
}
