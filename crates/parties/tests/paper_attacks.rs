//! The attacks that the paper names in 4.2, carried out on a consortium: forgery, deletion, and tampering with
//! doctor and cloud together. The fourth, guessing who a patient is, stands in
//! `crates/scheme/tests/attacks/index.rs` and `keys.rs`.
#![allow(clippy::unwrap_used, reason = "a test")]

use crate::world::*;
use ledger::Transaction;
use ledger::testing::FourHospitals;
use parties::*;
use scheme::*;

const WORD: &str = "code|http://snomed.info/sct|230690007";

/// A record of an author, and a doctor elsewhere who may read it.
struct Scene<'a> {
    world: World<'a>,
    author: Enlisted,
    place: EpisodePlace,
    episode: PatientEpisode,
    stored: StoredRecord,
    reader: Reader,
    grant: OpenGrant,
}

impl<'a> Scene<'a> {
    fn new(hospitals: &'a FourHospitals) -> Self {
        let mut world = World::new(hospitals);
        let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
        let (place, episode) = world.begin_episode(&author);
        let stored = world.store(&author, place, &episode, sections(1), &[WORD]);
        let (reader, request, sealed) = world.ask(&tertiary, &[IMAGING], 1);
        let decisions = [world.decision(place, &[IMAGING], &[""])];
        let package = world.grant(&sealed, &decisions).remove(0);
        let gid = GrantId::of(&world.consortium, &package.entry.revocation_key);
        let on_chain = world.chain.agreed_grant(gid).unwrap();
        let grant = reader.open_grant(&package.grant, &request, &on_chain);
        let grant = grant.unwrap();
        Self {
            world,
            author,
            place,
            episode,
            stored,
            reader,
            grant,
        }
    }

    /// The one record that the grant reaches.
    fn hit(&mut self) -> Hit {
        let hits = self.world.search(&self.reader, &self.grant).unwrap();
        let mut hits = hits.0.into_iter();
        hits.find(|hit| hit.transaction == self.stored.own.transaction)
            .unwrap()
    }

    fn nobody_gives_it_out(&mut self, of: InTransaction) {
        let ask = self.reader.ask_container(&self.grant, of);
        for node in 0..self.world.nodes.len() {
            let refusal = self.world.container(node, &ask).unwrap_err();
            assert!(matches!(refusal, ShareRefusal::AlteredContainer));
        }
    }
}

/// Attacker: the author, who wrote something else than what happened, and puts a whole other container under
/// the old address. It is well sealed and well signed, and yet not what the chain says.
#[test]
fn attack_forge_a_record_that_was_stored() {
    let hospitals = FourHospitals::found(World::settings());
    let mut scene = Scene::new(&hospitals);
    let forged = scene
        .world
        .build(&scene.author, &scene.episode, sections(9), &[WORD]);
    let hit = scene.hit();
    let of = scene.world.access(&scene.reader, &mut scene.grant, &hit);
    let address = hit.locator.address;
    let honest = scene
        .world
        .cloud
        .0
        .insert(address, forged.container.clone());
    scene.nobody_gives_it_out(of);
    // A node whose cloud gives the forged container has no share for it either.
    let classes = vec![ClassPlace::new(0)];
    let ask = scene
        .reader
        .ask_shares(&scene.grant, of, classes, WantProof::No);
    assert!(matches!(
        scene.world.shares(0, &ask),
        Err(ShareRefusal::AlteredHeader)
    ));
    // The reader's own machine does not believe it from a node that gives it out all the same.
    let Transaction::Record(record) = &scene.stored.transaction else {
        panic!("it is a record");
    };
    let checked = scene.reader.check_header(
        &scene.grant,
        &hit,
        &record.statement,
        &record.doctor,
        &forged.container,
    );
    assert!(checked.is_err());
    // The control: what was stored is read.
    scene.world.cloud.0.insert(address, honest.unwrap());
    let ask = scene.reader.ask_container(&scene.grant, of);
    assert_eq!(
        scene.world.container(0, &ask).unwrap(),
        scene.stored.container
    );
}

/// Attacker: the cloud. What it deletes is missed: the record is found as before, with its digest, and nothing
/// but what was stored can be put in its place. That it is lost is not prevented.
#[test]
fn attack_delete_a_record_from_the_cloud() {
    let hospitals = FourHospitals::found(World::settings());
    let mut scene = Scene::new(&hospitals);
    let hit = scene.hit();
    let of = scene.world.access(&scene.reader, &mut scene.grant, &hit);
    let address = hit.locator.address;
    let deleted = scene.world.cloud.0.remove(&address).unwrap();
    let still = scene.hit();
    assert_eq!(still.locator.address, address);
    let Transaction::Record(record) = &scene.stored.transaction else {
        panic!("it is a record");
    };
    assert_eq!(record.statement.digest, sha256(&deleted));
    for instead in [
        Vec::new(),
        deleted[..deleted.len() - 1].to_vec(),
        vec![0; deleted.len()],
    ] {
        scene.world.cloud.0.insert(address, instead);
        scene.nobody_gives_it_out(of);
    }
    // Whoever kept a copy puts it back.
    scene.world.cloud.0.insert(address, deleted.clone());
    let ask = scene.reader.ask_container(&scene.grant, of);
    assert_eq!(scene.world.container(0, &ask).unwrap(), deleted);
}

/// Attackers: the author with every key, and the cloud. They want the chain to say another digest for the
/// record. Whatever they sign, the index has the old one; a second record is one more and hides nothing.
#[test]
fn attack_replace_a_record_with_doctor_and_cloud_together() {
    let hospitals = FourHospitals::found(World::settings());
    let mut scene = Scene::new(&hospitals);
    let Transaction::Record(record) = scene.stored.transaction.clone() else {
        panic!("it is a record");
    };
    let forged = scene
        .world
        .build(&scene.author, &scene.episode, sections(9), &[WORD]);

    // The same index, another digest, signed anew by the author; the hospital's server countersigns.
    let mut statement = record.statement.clone();
    statement.digest = sha256(&forged.container);
    let institution = scene.author.doctor.public_keys().institution;
    let signature = statement.sign(&scene.world.consortium, scene.author.doctor.signing());
    let server = scene.world.server(institution);
    let mut rng = ledger::testing::rng("attack", 1);
    let again = server.countersign(statement, signature, &mut rng).unwrap();
    assert!(scene.world.chain.refuses(again));

    // A second record of the same stay stands beside the first.
    let other = scene.world.store(
        &scene.author,
        scene.place,
        &scene.episode,
        sections(9),
        &[WORD],
    );
    let hits = scene.world.search(&scene.reader, &scene.grant).unwrap().0;
    assert_eq!(hits.len(), 2);
    assert!(
        hits.iter()
            .any(|hit| hit.transaction == other.own.transaction)
    );
    let hit = scene.hit();
    let read = scene
        .world
        .read(&scene.reader, &mut scene.grant, &hit, &[0, 1])
        .unwrap();
    let imaging = &sections(1)[2].1;
    assert!(read.values().any(|section| section == imaging));

    // And no block of theirs is one of the chain: f nodes beside them are no quorum, and what one of them
    // tells is not what f + 1 tell.
    let lie = scene.hit();
    scene
        .world
        .cloud
        .0
        .insert(lie.locator.address, forged.container);
    let of = scene.world.access(&scene.reader, &mut scene.grant, &lie);
    scene.nobody_gives_it_out(of);
}
