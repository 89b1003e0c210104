//! A role follows who belongs to the consortium: whose TLS certificates it takes, and whose keys are a
//! hospital's server's, changes while it runs.

use std::time::Duration;

use chain::NodeHandle;
use client::{ConsortiumClient, Member, Members, sentence};
use ledger::{ReadError, View, contact, institution, institutions};

use crate::http::{Authorities, Server};

/// How often the chain is asked. A newcomer's server waits so long until the others know it.
const EVERY: Duration = Duration::from_secs(30);
/// After how long it is asked again if it did not answer.
const AGAIN: Duration = Duration::from_secs(2);

/// Who says who belongs to the consortium.
pub trait MembersSource: Send + Sync + 'static {
    /// The members now, observers among them; or what to write into the log.
    fn members(&self) -> impl Future<Output = Result<Vec<Member>, String>> + Send;
}

impl MembersSource for ConsortiumClient {
    async fn members(&self) -> Result<Vec<Member>, String> {
        let found = Self::members(self).await;
        found.map_err(|error| sentence(&error))
    }
}

/// A node believes the chain that it has itself.
impl MembersSource for NodeHandle {
    async fn members(&self) -> Result<Vec<Member>, String> {
        let handle = self.clone();
        let read = tokio::task::spawn_blocking(move || read(&*handle.view())).await;
        let read = read.map_err(|error| error.to_string())?;
        read.map_err(|error| sentence(&error))
    }
}

fn read(view: &dyn View) -> Result<Vec<Member>, ReadError> {
    let mut found = Vec::new();
    for id in institutions(view)? {
        if let Some(institution) = institution(view, id)? {
            let said = contact(view, id)?;
            let contact = said.map(|said| said.contact);
            found.push(Member {
                institution,
                contact,
            });
        }
    }
    Ok(found)
}

/// The following, until this is dropped.
pub struct FollowingMembers(tokio::task::JoinHandle<()>);

impl FollowingMembers {
    /// Keeps `members` as the source says, and the authorities of `server` with them.
    pub fn start(source: impl MembersSource, members: Members, server: &Server) -> Self {
        let authorities = server.authorities();
        Self(tokio::spawn(async move {
            loop {
                let wait = follow(&source, &members, authorities.as_ref()).await;
                tokio::time::sleep(wait).await;
            }
        }))
    }
}

impl Drop for FollowingMembers {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn follow(
    source: &impl MembersSource,
    members: &Members,
    authorities: Option<&Authorities>,
) -> Duration {
    let found = match source.members().await {
        Ok(found) => found,
        Err(reason) => {
            tracing::info!(%reason, "who belongs to the consortium is asked again");
            return AGAIN;
        }
    };
    if members.replace(found) {
        tracing::info!("the consortium's members changed");
        if let Some(authorities) = authorities {
            authorities.replace(&members.authorities());
        }
    }
    EVERY
}
