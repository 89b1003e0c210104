//! Who belongs to the consortium now: the founders, until the chain says otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ledger::{Contact, Institution};
use scheme::{InstitutionId, VerifyingKey};

use crate::directory::Party;
use crate::founding::Founding;

/// A member as the chain says that it is now, and where it is reached, if it ever said so there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, tier and keys.
    pub institution: Institution,
    /// By its last contact transaction; where none is, what the founders' directory says holds.
    pub contact: Option<Contact>,
}

/// The members as a service knows them; every clone is the same list.
#[derive(Clone)]
pub struct Members {
    /// TLS authorities of the founders' directory, in PEM.
    founders: Arc<BTreeMap<InstitutionId, String>>,
    present: Arc<RwLock<Vec<Member>>>,
}

impl Members {
    /// The founders, with the TLS authorities of their directory.
    pub fn of(founding: &Founding) -> Self {
        let entries = founding.directory.institutions.iter();
        let authorities = entries.filter_map(|entry| {
            let authority = entry.authority.clone()?;
            Some((InstitutionId::new(entry.institution), authority))
        });
        Self::new(
            founding.genesis.institutions.iter().cloned(),
            authorities.collect(),
        )
    }

    /// These institutions, with the authorities that hold for those which said nothing on the chain.
    pub fn new(
        institutions: impl IntoIterator<Item = Institution>,
        authorities: BTreeMap<InstitutionId, String>,
    ) -> Self {
        let members = institutions.into_iter().map(|institution| Member {
            institution,
            contact: None,
        });
        Self {
            founders: Arc::new(authorities),
            present: Arc::new(RwLock::new(members.collect())),
        }
    }

    /// Takes what the chain says now. Whether it is anything new.
    pub fn replace(&self, present: Vec<Member>) -> bool {
        let mut known = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let new = *known != present;
        *known = present;
        new
    }

    /// The member whose own key this is.
    pub fn with_key(&self, key: &VerifyingKey) -> Option<InstitutionId> {
        let known = self.present.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|member| member.institution.key == *key);
        found.map(|member| member.institution.id)
    }

    /// Each member that has a TLS authority, with its PEM.
    pub fn authorities(&self) -> Vec<(Party, String)> {
        let known = self.present.read().unwrap_or_else(PoisonError::into_inner);
        let authority = |member: &Member| match &member.contact {
            Some(contact) => Some(contact.authority.as_str().to_owned()),
            None => self.founders.get(&member.institution.id).cloned(),
        };
        let found = known.iter().filter_map(|member| {
            let authority = authority(member).filter(|pem| !pem.is_empty())?;
            Some((Party::Institution(member.institution.id), authority))
        });
        found.collect()
    }
}

#[cfg(test)]
mod tests {
    use ledger::testing::FourHospitals;
    use ledger::{ContactAddress, TlsAuthority};

    use super::*;

    #[test]
    fn what_the_chain_says_overtakes_the_founding_document() {
        let hospitals = FourHospitals::default();
        let founders = &hospitals.genesis.institutions;
        let first = founders[0].clone();
        let authorities = BTreeMap::from([(first.id, "founding's".to_owned())]);
        let members = Members::new(founders.iter().cloned(), authorities);
        let same = members.clone();
        assert_eq!(same.with_key(&first.key), Some(first.id));
        let party = Party::Institution(first.id);
        assert_eq!(same.authorities(), [(party, "founding's".to_owned())]);

        // The second gets another key, the first another authority; the others leave.
        let address = || ContactAddress::new("https://127.0.0.1:1").unwrap();
        let contact = Contact {
            consensus: ContactAddress::new("127.0.0.1:2").unwrap(),
            node: address(),
            server: Some(address()),
            authority: TlsAuthority::new("chain's").unwrap(),
        };
        let mut second = founders[1].clone();
        let before = second.key;
        second.key = founders[2].key;
        let now = vec![
            Member {
                institution: first,
                contact: Some(contact),
            },
            Member {
                institution: second.clone(),
                contact: None,
            },
        ];
        assert!(members.replace(now.clone()));
        assert!(!members.replace(now));
        assert_eq!(same.with_key(&before), None);
        assert_eq!(same.with_key(&second.key), Some(second.id));
        assert_eq!(same.with_key(&founders[3].key), None);
        assert_eq!(same.authorities(), [(party, "chain's".to_owned())]);
    }
}
