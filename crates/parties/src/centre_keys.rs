//! Which keys of the registration centre a certificate is accepted under. The centre's key changes
//! (`spec/chain.md` section 4.13): what an earlier one signed stands, unless that key was lost to
//! others.

use ledger::{CentreKeyStanding, Height, ReadError, View};
use scheme::VerifyingKey;

use crate::consortium_chain::AgreedCentreKeys;

/// The registration centre's keys, as their holder last learnt of them. A node reads them from its own
/// final state; everyone else begins with the founding document's and follows what f + 1 nodes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentreKeys {
    /// As of which height.
    height: Height,
    /// By their numbers; at least one.
    keys: Vec<(VerifyingKey, CentreKeyStanding)>,
}

impl CentreKeys {
    /// The founding document's key alone. Whoever was not there from the beginning asks the chain
    /// before anything is believed under it.
    pub fn founding(key: VerifyingKey) -> Self {
        Self {
            height: Height::new(0),
            keys: vec![(key, CentreKeyStanding::Current)],
        }
    }

    /// Those of a node's own final state.
    ///
    /// # Errors
    /// [`ReadError`] if the store fails.
    pub fn of_state(view: &dyn View) -> Result<Self, ReadError> {
        let height = ledger::tip(view)?.height;
        let keys = ledger::centre_keys(view)?
            .as_of(height)
            .map(|(key, standing)| (key.key, standing))
            .collect();
        Ok(Self { height, keys })
    }

    /// Takes what f + 1 nodes agreed on, unless more is known already: what they said as of an earlier
    /// height may hold a key in force that was found to be lost since.
    pub fn follow(&mut self, agreed: &AgreedCentreKeys) {
        if agreed.height >= self.height {
            *self = agreed.into();
        }
    }

    /// Whether certificates under this key are accepted: it is the current one or a retired one.
    pub fn accepts(&self, key: &VerifyingKey) -> bool {
        self.keys
            .iter()
            .any(|(own, standing)| own == key && *standing != CentreKeyStanding::Compromised)
    }

    /// The key that passes the check, the newest first, with how it stands; at most 64 are tried.
    pub(crate) fn find(
        &self,
        signed: impl Fn(&VerifyingKey) -> bool,
    ) -> Option<(VerifyingKey, CentreKeyStanding)> {
        let mut newest_first = self.keys.iter().rev();
        newest_first.find(|(key, _)| signed(key)).copied()
    }
}

impl From<&AgreedCentreKeys> for CentreKeys {
    fn from(agreed: &AgreedCentreKeys) -> Self {
        Self {
            height: agreed.height,
            keys: agreed
                .keys
                .iter()
                .map(|answer| (answer.key, answer.standing))
                .collect(),
        }
    }
}
