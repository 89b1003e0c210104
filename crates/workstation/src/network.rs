//! The consortium as a person's program reaches it: everything by its founding folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{
    CentreClient, CloudClient, Confirmed, ConsortiumClient, DirectoryError, Endpoint, Founding,
    HospitalClient, OfficerClient, QueryClient, ServiceClient, ServiceName,
};
use ledger::{Contact, ContactState, InstitutionState, Transaction};
use parties::{CentreKeys, OwnSearch};
use scheme::{ConsortiumId, InstitutionId, SigningKey, VerifyingKey};

use crate::error::{WorkError, not};

/// How long a transaction may take to be acknowledged by f + 1 nodes.
pub(crate) const FINAL: Duration = Duration::from_secs(60);

/// What a person hears while something takes long.
pub trait Progress: Send {
    /// What is done now.
    fn step(&mut self, what: &str);
    /// How far it is: so much is done of so much, or of an unknown amount (0).
    fn part(&mut self, done: u64, of: u64, unit: Unit);
}

/// What a progress is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Of a transfer.
    Bytes,
    /// Of the chain.
    Blocks,
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&mut self, _: &str) {}
    fn part(&mut self, _: u64, _: u64, _: Unit) {}
}

/// How long what the chain said of an institution is believed without asking again.
const BELIEVED: Duration = Duration::from_secs(60);

/// The way to every service of a consortium.
pub struct Network {
    founding: Founding,
    client: ConsortiumClient,
    institutions: Mutex<BTreeMap<InstitutionId, (Instant, Known)>>,
}

/// What the chain says of an institution.
#[derive(Clone)]
struct Known {
    name: Option<String>,
    contact: Option<Contact>,
}

impl Network {
    /// By a founding folder whose signatures stand.
    ///
    /// # Errors
    /// [`WorkError::Founding`], [`WorkError::Directory`].
    pub fn open(folder: &Path) -> Result<Self, WorkError> {
        let founding = Founding::open(folder)?;
        let client = ConsortiumClient::of(&founding, None)?;
        Ok(Self {
            founding,
            client,
            institutions: Mutex::default(),
        })
    }

    /// The same, whose client tells `listener` of each transaction that f + 1 receipts confirm.
    #[must_use]
    pub fn telling(self, listener: impl Fn(&Confirmed) + Send + Sync + 'static) -> Self {
        Self {
            client: self.client.telling(listener),
            ..self
        }
    }

    /// The consortium's id.
    pub fn consortium(&self) -> ConsortiumId {
        self.founding.consortium()
    }

    /// The founding documents.
    pub fn founding(&self) -> &Founding {
        &self.founding
    }

    /// A client that believes what f + 1 nodes say.
    pub fn client(&self) -> &ConsortiumClient {
        &self.client
    }

    /// An institution's name, as the chain says, or the founding document while the nodes are silent.
    pub async fn name_of(&self, institution: InstitutionId) -> String {
        if let Some(name) = self.asked(institution).await.and_then(|known| known.name) {
            return name;
        }
        let institutions = &self.founding.genesis.institutions;
        let found = institutions.iter().find(|one| one.id == institution);
        found.map_or_else(
            || format!("institution {}", institution.number()),
            |one| one.name.to_string(),
        )
    }

    /// What the chain says of an institution, with proofs; none if the nodes do not answer.
    async fn asked(&self, institution: InstitutionId) -> Option<Known> {
        let known = || {
            let known = self.institutions.lock();
            known.unwrap_or_else(PoisonError::into_inner)
        };
        let fresh = known().get(&institution).cloned();
        if let Some((since, known)) = fresh
            && since.elapsed() < BELIEVED
        {
            return Some(known);
        }
        let contact = self.client.state::<ContactState>(&institution).await.ok()?;
        let held = self.client.state::<InstitutionState>(&institution).await;
        let found = Known {
            name: held.ok()?.map(|held| held.institution.name.to_string()),
            contact: contact.map(|said| said.contact),
        };
        known().insert(institution, (Instant::now(), found.clone()));
        Some(found)
    }

    /// The centre's key at founding.
    pub(crate) fn founding_keys(&self) -> CentreKeys {
        CentreKeys::founding(self.founding.genesis.centre)
    }

    /// The key that signs the cloud's receipts.
    pub(crate) fn cloud_key(&self) -> VerifyingKey {
        VerifyingKey::new(self.founding.directory.cloud.receipt_key.0)
    }

    fn service(&self, name: ServiceName) -> Result<ServiceClient, WorkError> {
        Ok(ServiceClient::new(self.consortium(), self.endpoint(name)?))
    }

    fn endpoint(&self, name: ServiceName) -> Result<Endpoint, WorkError> {
        Ok(self.founding.directory.endpoint(name, None)?)
    }

    /// The registration centre, by who enrols.
    ///
    /// # Errors
    /// [`WorkError::Directory`].
    pub fn centre(&self, account: SigningKey) -> Result<CentreClient, WorkError> {
        let endpoint = self.endpoint(ServiceName::Centre)?;
        Ok(CentreClient::new(self.consortium(), endpoint, account))
    }

    /// The registration centre, by who has no keys yet.
    ///
    /// # Errors
    /// [`WorkError::Directory`].
    pub fn centre_without_keys(&self) -> Result<CentreClient, WorkError> {
        let endpoint = self.endpoint(ServiceName::Centre)?;
        Ok(CentreClient::without_keys(self.consortium(), endpoint))
    }

    /// The registration centre, by an officer.
    ///
    /// # Errors
    /// [`WorkError::Directory`].
    pub fn officer(&self, key: SigningKey) -> Result<OfficerClient, WorkError> {
        let endpoint = self.endpoint(ServiceName::Centre)?;
        Ok(OfficerClient::new(self.consortium(), endpoint, key))
    }

    /// The query manager.
    ///
    /// # Errors
    /// [`WorkError::Directory`].
    pub fn query(&self, key: SigningKey) -> Result<QueryClient, WorkError> {
        Ok(QueryClient::new(
            self.service(ServiceName::Query)?.signing(key),
        ))
    }

    /// A hospital's server: where the chain says that it is, or else the founders' directory.
    ///
    /// # Errors
    /// [`WorkError::Directory`].
    pub async fn hospital(
        &self,
        institution: InstitutionId,
        key: SigningKey,
    ) -> Result<HospitalClient, WorkError> {
        let name = ServiceName::Hospital(institution);
        let contact = self.asked(institution).await;
        let endpoint = match contact.and_then(|known| known.contact) {
            None => self.endpoint(name)?,
            Some(contact) => {
                let server = contact.server.as_ref();
                let server = server.ok_or(DirectoryError::NoSuchService(name))?;
                let authority = Some(contact.authority.as_str()).filter(|pem| !pem.is_empty());
                let endpoint = Endpoint::new(name, server.as_str(), authority, None);
                endpoint.map_err(DirectoryError::from)?
            }
        };
        let service = ServiceClient::new(self.consortium(), endpoint);
        Ok(HospitalClient::new(service.signing(key)))
    }

    /// The cloud, by who stores.
    ///
    /// # Errors
    /// [`WorkError::Directory`].
    pub fn cloud(&self, key: SigningKey) -> Result<CloudClient, WorkError> {
        Ok(CloudClient::new(
            self.service(ServiceName::Cloud)?.signing(key),
        ))
    }

    /// The cloud, by who has an address.
    ///
    /// # Errors
    /// [`WorkError::Directory`].
    pub fn cloud_reader(&self) -> Result<CloudClient, WorkError> {
        Ok(CloudClient::new(self.service(ServiceName::Cloud)?))
    }

    /// Hands a transaction in until f + 1 nodes acknowledge it.
    pub(crate) async fn submit(&self, transaction: &Transaction) -> Result<Confirmed, WorkError> {
        Ok(self.client.submit(transaction, FINAL).await?)
    }

    /// A record as it stands on the chain, with its proofs checked.
    pub(crate) async fn record(
        &self,
        id: ledger::TransactionId,
    ) -> Result<ledger::RecordTransaction, WorkError> {
        match self.client.transaction(id).await?.transaction {
            Transaction::Record(record) => Ok(*record),
            _ => not("the transaction is no record: the receipt or hit that named it is wrong"),
        }
    }
}

/// Asks the chain what a search of one's own entries wants to know until it is over.
///
/// # Errors
/// [`WorkError`] if f + 1 nodes do not agree.
pub async fn run_search(
    client: &ConsortiumClient,
    search: &mut OwnSearch,
) -> Result<(), WorkError> {
    while let Some(question) = search.question() {
        let records = client.records(&question).await?;
        // One that does not fit is asked for again: f + 1 nodes say alike, so that is a fault of theirs.
        if search.answer(&records).is_err() {
            return not("the nodes answered another question: try again");
        }
    }
    Ok(())
}
