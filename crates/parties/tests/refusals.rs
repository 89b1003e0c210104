//! What the registration centre, a hospital's server and the request itself refuse, each for one
//! thing that is wrong.
#![allow(clippy::unwrap_used)]

use crate::world::*;
use ledger::testing::FourHospitals;
use parties::*;
use scheme::*;

fn new_patient(world: &mut World<'_>, seed: u8) -> Patient {
    Patient::new(
        world.consortium,
        CentreKeys::founding(world.centre.verifying_key()),
        &RootSeed::from_bytes([seed; 32]),
        KeyVersion::new(0),
        &mut world.rng,
    )
}

#[test]
fn the_centre_certifies_who_holds_the_keys_once_under_each_number() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let now = world.chain.now();
    let (one, two) = (new_patient(&mut world, 1), new_patient(&mut world, 2));
    let subject = world.centre.begin_enrolment();
    let (honest, other) = (one.enrol(subject), two.enrol(subject));
    // Another's proof for each of the three keys, and a proof for another number.
    let mut swapped = [honest.clone(), honest.clone(), honest.clone()];
    swapped[0].encryption_proof = other.encryption_proof;
    swapped[1].search_proof = other.search_proof;
    swapped[2].ownership_proof = other.ownership_proof;
    let mut moved = one.enrol(Subject::new(subject.number() + 1));
    moved.subject = subject;
    for enrolment in swapped.into_iter().chain([moved]) {
        let refused = world.centre.certify_patient(enrolment, now);
        assert_eq!(refused.unwrap_err(), EnrolError::Proof);
    }
    let unknown = one.enrol(Subject::new(subject.number() + 1));
    let refused = world.centre.certify_patient(unknown, now);
    assert_eq!(refused.unwrap_err(), EnrolError::Subject);
    assert_eq!(
        world.centre.revoke(subject).unwrap_err(),
        EnrolError::Subject
    );
    assert_eq!(
        world.centre.keep_directory(subject, vec![1]),
        Err(EnrolError::Subject)
    );
    world.centre.certify_patient(honest.clone(), now).unwrap();
    let again = world.centre.certify_patient(honest, now);
    assert_eq!(again.unwrap_err(), EnrolError::Subject);

    let mebibyte = 1 << 20;
    world
        .centre
        .keep_directory(subject, vec![7; mebibyte])
        .unwrap();
    assert_eq!(
        world.centre.keep_directory(subject, vec![8; mebibyte + 1]),
        Err(EnrolError::DirectorySize)
    );
    assert_eq!(world.centre.directory(subject).unwrap()[0], 7);
}

#[test]
fn the_centre_gives_a_doctors_id_once() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let first = world.doctor(11, 4);
    let now = world.chain.now();
    let second = Doctor::new(
        world.consortium,
        CentreKeys::founding(world.centre.verifying_key()),
        DoctorId::new(11),
        InstitutionId::new(1),
        &mut world.rng,
    );
    let subject = world.centre.begin_enrolment();
    let keys = *second.public_keys();
    let (foreign, own) = (
        first.doctor.prove_possession(subject),
        second.prove_possession(subject),
    );
    let refused = world.centre.certify_doctor(subject, keys, &foreign, now);
    assert_eq!(refused.unwrap_err(), EnrolError::Proof);
    let refused = world.centre.certify_doctor(subject, keys, &own, now);
    assert_eq!(refused.unwrap_err(), EnrolError::DoctorId);
    // The proof is of this id, too.
    let renamed = DoctorPublicKeys {
        id: DoctorId::new(12),
        ..keys
    };
    let refused = world.centre.certify_doctor(subject, renamed, &own, now);
    assert_eq!(refused.unwrap_err(), EnrolError::Proof);
}

#[test]
fn a_certificate_stands_under_the_centres_key_until_its_end() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (doctor, here) = (world.doctor(11, 4), world.consortium);
    let centre = CentreKeys::founding(world.centre.verifying_key());
    let end = doctor.certificate.not_after();
    assert!(doctor.certificate.verify(&here, &centre, end).is_ok());
    let after = Timestamp::new(end.number() + 1);
    assert_eq!(
        doctor.certificate.verify(&here, &centre, after),
        Err(CertificateError::Expired)
    );
    let other = SigningKey::from_seed([1; 32]);
    assert_eq!(
        doctor
            .certificate
            .verify(&here, &CentreKeys::founding(other.verifying_key()), end),
        Err(CertificateError::Forged)
    );
    let mut longer = doctor.certificate.encode();
    longer[15] ^= 1;
    let longer = Certificate::decode(&longer).unwrap();
    assert_eq!(
        longer.verify(&here, &centre, end),
        Err(CertificateError::Forged)
    );
}

/// A certificate stands under the key that the centre has and under those that it retired, and under no
/// key that was lost to others; who was told so does not unlearn it.
#[test]
fn a_certificate_stands_under_every_key_of_the_centre_that_was_not_lost() {
    use CertificateError::{Compromised, Forged};
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let founding = CentreKeys::founding(hospitals.genesis.centre);
    let (here, now) = (world.consortium, world.chain.now());
    let first = world.doctor(11, 4);
    assert!(world.centre_keys().accepts(&hospitals.genesis.centre));
    world.rotate_centre_key(1, &[]);
    let retired = world.agreed_centre_keys();
    let second = world.doctor(12, 4);
    world.rotate_centre_key(2, &[1]);
    let lost = world.agreed_centre_keys();
    let third = world.centre.renew(second.subject, now).unwrap();
    assert_eq!(
        third.holder_unverified(),
        second.certificate.holder_unverified()
    );

    let verified = |certificate: &Certificate, centre: &CentreKeys| {
        certificate.verify(&here, centre, now).map(|_| ())
    };
    let [one, two] = [&first.certificate, &second.certificate];
    assert_eq!(verified(one, &founding), Ok(()));
    assert_eq!(verified(two, &founding), Err(Forged));
    let mut followed = founding;
    followed.follow(&retired);
    assert_eq!(followed, CentreKeys::from(&retired));
    assert_eq!(verified(one, &followed), Ok(()));
    assert_eq!(verified(two, &followed), Ok(()));
    followed.follow(&lost);
    // What the nodes said earlier, once more.
    followed.follow(&retired);
    assert_eq!(followed, world.centre_keys());
    assert_eq!(verified(one, &followed), Ok(()));
    assert_eq!(verified(two, &followed), Err(Compromised));
    assert_eq!(verified(&third, &followed), Ok(()));
    let end = Timestamp::new(one.not_after().number() + 1);
    let ended = one.verify(&here, &followed, end);
    assert_eq!(ended, Err(CertificateError::Expired));
    let accepted = [0, 1, 2].map(|number| {
        let key = hospitals.centre_signer(number).verifying_key();
        followed.accepts(&key)
    });
    assert_eq!(accepted, [true, false, true]);

    // Nobody was certified under this number.
    let nobody = Subject::new(u64::MAX);
    assert_eq!(world.centre.renew(nobody, now), Err(EnrolError::Subject));
    // The same registration, signed with the key that the chain knows now: it is final already.
    let again = world.centre.registration(second.subject).unwrap();
    assert!(world.chain.refuses(again));
}

/// Doctor 13 of hospital 1 with a signing key that the test knows.
struct Asking<'a> {
    hospitals: &'a FourHospitals,
    key: SigningKey,
    keys: DoctorPublicKeys,
    now: Timestamp,
}

impl Asking<'_> {
    fn certificate(&self, centre: &SigningKey, holder: Holder) -> Certificate {
        let end = Timestamp::new(self.now.number() + TWO_HOURS);
        Certificate::issue(
            &self.hospitals.consortium,
            centre,
            Subject::new(1),
            holder,
            end,
        )
    }

    fn member(&self) -> Member {
        Member {
            certificate: self.certificate(&self.hospitals.centre, Holder::Doctor(self.keys)),
            access_keys: vec![SigningKey::from_seed([3; 32]).verifying_key()],
            hpke_key: HpkePrivateKey::derive(&[4; 32]).public_key(),
        }
    }

    /// What a checker says of a request of these members at this institution.
    fn ask(&self, institution: u32, members: Vec<Member>) -> Result<(), RequestError> {
        let here = &self.hospitals.consortium;
        let terms = RequestTerms {
            institution: InstitutionId::new(institution),
            inbox: Digest::new([1; 32]),
            classes: vec![IMAGING],
            purpose: "stroke".into(),
            nonce: [2; 32],
            time: self.now,
            not_after: Timestamp::new(self.now.number() + TWO_HOURS),
        };
        let count = members.len();
        let unsigned = UnsignedRequest::new(terms, members).unwrap();
        let signature = unsigned.sign(here, &self.key);
        let request = unsigned.complete(vec![signature; count]).unwrap();
        let centre = CentreKeys::founding(self.hospitals.centre.verifying_key());
        request.verify(here, &centre, self.now).map(|_| ())
    }
}

#[test]
fn a_request_is_of_certified_doctors_of_its_institution_with_keys_of_their_own() {
    let hospitals = FourHospitals::found(World::settings());
    let key = SigningKey::from_seed([5; 32]);
    let asking = Asking {
        hospitals: &hospitals,
        keys: DoctorPublicKeys {
            id: DoctorId::new(13),
            institution: InstitutionId::new(1),
            signing: key.verifying_key(),
            hpke: HpkePrivateKey::derive(&[6; 32]).public_key(),
        },
        key,
        now: ledger::testing::FOUNDED,
    };
    assert_eq!(asking.ask(1, vec![asking.member()]), Ok(()));

    let mut forged = asking.member();
    let stranger = SigningKey::from_seed([7; 32]);
    forged.certificate = asking.certificate(&stranger, Holder::Doctor(asking.keys));
    assert_eq!(
        asking.ask(1, vec![forged]),
        Err(RequestError::Certificate(CertificateError::Forged))
    );

    // Another hospital's doctor, and a patient.
    assert_eq!(
        asking.ask(2, vec![asking.member()]),
        Err(RequestError::NotItsDoctor)
    );
    let mut patient = asking.member();
    let keys = hospitals.patient_keys(1);
    let holder = Holder::Patient(Box::new(PatientPublicKeys {
        encryption: keys.encryption.public_key(),
        search: keys.search.public_key(),
        ownership: keys.ownership.public_key(),
        inbox: keys.inbox.public_key(),
    }));
    patient.certificate = asking.certificate(&hospitals.centre, holder);
    assert_eq!(
        asking.ask(1, vec![patient]),
        Err(RequestError::NotItsDoctor)
    );

    // One key in two roles, and one doctor twice.
    let mut repeated = [asking.member(), asking.member(), asking.member()];
    repeated[0].access_keys = vec![asking.keys.signing];
    repeated[1].hpke_key = asking.keys.hpke;
    let access = repeated[2].access_keys[0];
    repeated[2].access_keys.push(access);
    for member in repeated {
        assert_eq!(asking.ask(1, vec![member]), Err(RequestError::RepeatedKey));
    }
    assert_eq!(
        asking.ask(1, vec![asking.member(), asking.member()]),
        Err(RequestError::RepeatedKey)
    );
}

#[test]
fn a_hospitals_server_serves_its_own_doctors_within_bounds() {
    const RAISED_PER_DAY: usize = 51_200;
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (doctor, other) = (world.doctor(11, 4), world.doctor(12, 2));
    let (_, episode) = world.begin_episode(&doctor);
    let stored = world.build(&doctor, &episode, sections(1), &[]);
    let (now, mut rng) = (world.chain.now(), world.rng.clone());
    let (signing, stranger) = (
        doctor.doctor.public_keys().signing,
        other.doctor.public_keys().signing,
    );
    let server = world.server(InstitutionId::new(4));
    let draft = doctor
        .doctor
        .begin_index(&episode, server.writer(), &[], &mut rng);
    let blinded = draft.blinded();
    assert_eq!(blinded.len(), 1);
    assert!(matches!(
        server.raise(&stranger, &blinded, now),
        Err(ServerError::UnknownDoctor)
    ));
    // One keyword was raised for the record above.
    let too_many = vec![blinded[0].clone(); RAISED_PER_DAY];
    assert!(matches!(
        server.raise(&signing, &too_many, now),
        Err(ServerError::Quota)
    ));
    let raised = server.raise(&signing, &blinded, now).unwrap();

    let writer_key = server.writer_key().clone();
    let (_, ids) = draft
        .evaluate(&raised, &writer_key, &episode.keys.search, &mut rng)
        .unwrap();
    assert!(matches!(
        server.allocate(&stranger, &ids, now),
        Err(ServerError::UnknownDoctor)
    ));
    for _ in 0..ALLOCATION_WINDOW {
        server.allocate(&signing, &ids, now).unwrap();
    }
    assert!(matches!(
        server.allocate(&signing, &ids, now),
        Err(ServerError::Busy)
    ));

    let (statement, signature) = (stored.own.statement.clone(), stored.own.signature);
    let countersign = |server: &HospitalServer, statement: RecordStatement, signature| {
        let mut rng = ledger::testing::rng("countersign", 0);
        server.countersign(statement, signature, &mut rng).err()
    };
    assert_eq!(countersign(server, statement.clone(), signature), None);
    assert_eq!(
        countersign(server, statement.clone(), Signature::new([1; 64])),
        Some(ServerError::Forged)
    );
    let elsewhere = RecordStatement {
        institution: InstitutionId::new(2),
        ..statement.clone()
    };
    assert_eq!(
        countersign(server, elsewhere, signature),
        Some(ServerError::NotOurs)
    );
    let unknown = RecordStatement {
        author: stranger,
        ..statement.clone()
    };
    assert_eq!(
        countersign(server, unknown, signature),
        Some(ServerError::UnknownDoctor)
    );
    // A writer epoch that ended.
    server.begin_writer_epoch(&mut rng).unwrap();
    assert_eq!(
        countersign(server, statement, signature),
        Some(ServerError::NotOurs)
    );
}
