//! A founding document, keys and transactions for the tests of this crate.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file includes this one and uses its part"
)]

use std::time::Duration;

use ledger::{
    Genesis, Institution, InstitutionName, KeyHash, KeyUse, Registrant, Registration, Settings,
    Tier, Transaction, UserKey,
};
use scheme::{InstitutionId, SigningKey, Timestamp, sha256};

/// Where the community hospital stands among the four.
pub const COMMUNITY: usize = 3;

/// One tertiary, two secondary and one community hospital.
pub struct Consortium {
    pub genesis: Genesis,
    pub nodes: Vec<SigningKey>,
    pub centre: SigningKey,
}

impl Consortium {
    pub fn of_four() -> Self {
        let key = |role: u8, number: u8| SigningKey::from_seed([role + number; 32]);
        let tiers = [
            Tier::Tertiary,
            Tier::Secondary,
            Tier::Secondary,
            Tier::Community,
        ];
        let nodes: Vec<_> = (1..=4).map(|number| key(10, number)).collect();
        let institutions = (1u8..).zip(tiers).map(|(number, tier)| Institution {
            id: InstitutionId::new(number.into()),
            tier,
            name: InstitutionName::new(&format!("Hospital {number}")).expect("a short name"),
            key: key(20, number).verifying_key(),
            node: nodes[usize::from(number) - 1].verifying_key(),
        });
        let centre = key(30, 0);
        let genesis = Genesis {
            // 2026-01-01T00:00:00Z: nodes on real clocks start only after the founding.
            time: Timestamp::new(1_767_225_600_000),
            centre: centre.verifying_key(),
            institutions: institutions.collect(),
            settings: Settings {
                heartbeat: Duration::from_secs(2),
                epoch_blocks: u32::MAX,
                ..Settings::standard()
            },
        };
        Self {
            genesis,
            nodes,
            centre,
        }
    }

    /// A transaction like no other with another number.
    pub fn transaction(&self, number: u64) -> Vec<u8> {
        let consortium = self.genesis.consortium();
        let keys = vec![UserKey {
            hash: KeyHash::from(sha256(&number.to_be_bytes())),
            usage: KeyUse::Signature,
        }];
        let registration = Registration::sign(&consortium, Registrant::Patient, keys, &self.centre);
        Transaction::Registration(registration).encode()
    }
}
