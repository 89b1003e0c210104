//! What a patient's or an agent's device has made and not brought everywhere yet. It is kept before any
//! of it leaves the device, and the same bytes are sent again until they have arrived: a grant's access
//! keys stand in no other grant, so another one in its place could never be recorded.

use client::{AnswerKind, QueryClient, now};
use ledger::RequestCommitment;
use parties::{GRANTS_MAX, GrantPackage, SealedNote};
use scheme::{
    DecodeError, Decoder, DoctorId, Encoder, GRANTEES_MAX, InboxHandle, InstitutionId, Timestamp,
    UID_BYTES_MAX, Uid, VerifyingKey,
};

use crate::error::{WorkError, not};
use crate::keystore::CONTENT_BYTES_MAX;
use crate::network::{FINAL, Network};

const WHAT: &str = "what a keystore has on its way";

/// Hand-overs, and answers, that can be on their way at once.
pub(crate) const OUTGOING_MAX: usize = 64;
pub(crate) const TOO_MANY_ON_THE_WAY: &str = "too much is on its way already, since a service is away: wait until it answers again, and repeat the command";

/// Delivers answers and forgets those that have arrived, or whose grants have ended. Each is tried; the
/// first failure is told.
pub(crate) async fn deliver_all(
    answers: &mut Vec<Answer>,
    network: &Network,
    query: &QueryClient,
) -> Result<(), WorkError> {
    let mut failure = Ok(());
    let mut at = 0;
    while let Some(answer) = answers.get(at) {
        let delivered = if answer.until <= now() {
            // Nobody could read by its grants any more.
            Ok(())
        } else {
            answer.deliver(network, query).await
        };
        match delivered {
            Ok(()) => {
                answers.remove(at);
            }
            Err(_) if answer.is_late(network).await => {
                answers.remove(at);
                failure = failure.and(not(LATE));
            }
            Err(error) => {
                failure = failure.and(Err(error));
                at += 1;
            }
        }
    }
    failure
}

const LATE: &str = "a grant was on its way for so long that the hospitals' nodes have other keys now, and was never recorded: give it anew";

/// An episode's hand-over to its doctor.
pub(crate) struct Handover {
    pub(crate) institution: InstitutionId,
    pub(crate) uid: Uid,
    pub(crate) doctor: DoctorId,
    pub(crate) sealed: Vec<u8>,
}

impl Handover {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .u32(self.institution.number())
            .var(self.uid.as_bytes())
            .u64(self.doctor.number())
            .var(&self.sealed)
            .finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let handover = Self {
            institution: InstitutionId::new(from.u32(WHAT)?),
            uid: Uid::new(from.var(WHAT, UID_BYTES_MAX)?)?,
            doctor: DoctorId::new(from.u64(WHAT)?),
            sealed: from.var(WHAT, client::SEALED_BYTES_MAX)?.to_vec(),
        };
        from.finish(WHAT)?;
        Ok(handover)
    }
}

/// The answer to a request: grants for the accounting hospitals and the chain, and notes for the doctors.
pub(crate) struct Answer {
    pub(crate) request: RequestCommitment,
    /// The grants' end: from then on nobody needs them.
    pub(crate) until: Timestamp,
    /// t.
    pub(crate) threshold: u8,
    pub(crate) packages: Vec<GrantPackage>,
    pub(crate) notes: Vec<SealedNote>,
    /// What an agent tells the patient of it.
    pub(crate) act: Option<(InboxHandle, Vec<u8>)>,
}

impl Answer {
    /// Gives the grants and tells the doctors. Done again it changes nothing.
    pub(crate) async fn deliver(
        &self,
        network: &Network,
        query: &QueryClient,
    ) -> Result<(), WorkError> {
        for package in &self.packages {
            let holders = usize::from(self.threshold);
            network.client().give(package, holders, FINAL).await?;
        }
        if let Some((patient, sealed)) = &self.act {
            match query.tell_act(*patient, sealed.clone()).await {
                Err(error) if error.is_passing() => return Err(error.into()),
                // Refused, since the patient has another inbox now or keeps none: nobody is there to tell.
                _ => {}
            }
        }
        let until = Some(self.until);
        let told = query
            .answer(
                self.request,
                AnswerKind::Answered,
                until,
                self.notes.clone(),
            )
            .await;
        match told {
            Err(error) if error.is_passing() => Err(error.into()),
            // Refused, since it was answered or has ended there: the grants stand on the chain all the
            // same, where the doctor finds them without a note.
            _ => Ok(()),
        }
    }

    /// Whether a grant of it can never be recorded any more (chain G5).
    async fn is_late(&self, network: &Network) -> bool {
        let client = network.client();
        for package in &self.packages {
            // As of the answers that the nodes just gave.
            let current = client.nodes().epoch().number();
            if package.entry.epoch.number().saturating_add(1) >= current {
                continue;
            }
            let gid = package.entry.id(&network.consortium());
            if matches!(client.agreed_grant(gid).await, Ok(None)) {
                return true;
            }
        }
        false
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(self.request.digest().as_bytes())
            .u64(self.until.number())
            .u8(self.threshold)
            .u8(self.packages.len() as u8);
        for package in &self.packages {
            out.var(&package.encode());
        }
        out.u8(self.notes.len() as u8);
        for note in &self.notes {
            out.bytes(note.doctor.as_bytes()).var(&note.sealed);
        }
        if let Some((patient, sealed)) = &self.act {
            out.bytes(patient.as_bytes()).var(sealed);
        }
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let request = RequestCommitment::new(from.array(WHAT)?);
        let until = Timestamp::new(from.u64(WHAT)?);
        let threshold = from.u8(WHAT)?;
        let mut packages = Vec::new();
        for _ in 0..from.count_u8(WHAT, GRANTS_MAX)? {
            packages.push(GrantPackage::decode(from.var(WHAT, CONTENT_BYTES_MAX)?)?);
        }
        let mut notes = Vec::new();
        for _ in 0..from.count_u8(WHAT, GRANTEES_MAX)? {
            notes.push(SealedNote {
                doctor: VerifyingKey::new(from.array(WHAT)?),
                sealed: from.var(WHAT, client::SEALED_BYTES_MAX)?.to_vec(),
            });
        }
        // A patient's answer ends here, and one of an earlier release.
        let act = match from.remaining() {
            0 => None,
            _ => {
                let patient = InboxHandle::new(from.array(WHAT)?);
                let sealed = from.var(WHAT, client::SEALED_BYTES_MAX)?.to_vec();
                Some((patient, sealed))
            }
        };
        from.finish(WHAT)?;
        Ok(Self {
            request,
            until,
            threshold,
            packages,
            notes,
            act,
        })
    }
}
