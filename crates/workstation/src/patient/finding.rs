//! How a doctor comes to this patient's inbox without the whole code: by a short one, or by the document through the
//! registration centre.

use std::cmp::Reverse;

use client::Findable;

use super::{CENTRE, PatientDevice};
use crate::error::WorkError;

/// Of all keys together.
const FINDINGS_MAX: usize = 100;

impl PatientDevice {
    /// Lets doctors who have this patient's document find the inbox, or nobody any more.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn set_findable(&self, findable: bool) -> Result<(), WorkError> {
        let centre = self.centre()?;
        if findable {
            centre.be_findable(self.inbox()).await?;
        } else {
            centre.be_hidden().await?;
        }
        Ok(())
    }

    /// A short code for the inbox, which the patient says to a doctor, and until when it stands for it, in ms
    /// since 1970.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn short_code(&self) -> Result<(String, u64), WorkError> {
        let given = self.query()?.short_code(self.inbox()).await?;
        Ok((given.code, given.until))
    }

    /// Whether doctors can find this patient, and which ones looked.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn findable(&self) -> Result<Findable, WorkError> {
        let mut found = self.centre()?.findable().await?;
        // Who looked while the keys before were in use.
        for account in self.state.patient.former_account_keys(CENTRE) {
            let before = self.network.centre(account)?.findable().await?;
            found.findings.extend(before.findings);
        }
        found.findings.sort_by_key(|one| Reverse(one.time));
        found.findings.truncate(FINDINGS_MAX);
        Ok(found)
    }
}
