//! What a doctor's keystore holds (`spec/formats.md`, M26).

use client::RequestState;
use ledger::{RequestCommitment, TransactionId};
use parties::{
    CERTIFICATE_BYTES_MAX, CentreKeys, Certificate, OpenGrant, OwnRecord, PatientEpisode, Reader,
    StorageReceipt, StoredReceipt, TEAM_MESSAGE_BYTES_MAX, TeamInvitation, TeamLead,
};
use scheme::{
    Address, AllocationId, ConsortiumId, DecodeError, Decoder, DoctorId, Encoder, HpkePrivateKey,
    InboxHandle, InstitutionId, Keyword, Position, SealingSecret, SigningKey, Subject, Timestamp,
    Writer, WriterEpoch,
};
use zeroize::Zeroizing;

use crate::error::WorkError;
use crate::keystore::CONTENT_BYTES_MAX;

/// Version 1, without teams and amendments, is read as well.
const VERSION: u8 = 2;
/// Bounds of what one keystore holds, checked before anything is added.
pub(super) const EPISODES_MAX: usize = 65_536;
pub(super) const RECORDS_MAX: usize = 65_536;
pub(super) const REQUESTS_MAX: usize = 4_096;
pub(super) const TEAMS_MAX: usize = 64;
pub(super) const LETTERS_MAX: usize = 256;
const PART_BYTES_MAX: usize = CONTENT_BYTES_MAX;
const TEXT_BYTES_MAX: usize = 4_096;

/// Everything that a doctor's machine keeps.
pub(super) struct State {
    pub(super) institution: InstitutionId,
    pub(super) signing: SigningKey,
    pub(super) hpke: HpkePrivateKey,
    pub(super) sealing: SealingSecret,
    pub(super) enrolment: Option<(Subject, DoctorId)>,
    pub(super) certificate: Option<Certificate>,
    pub(super) episodes: Vec<PatientEpisode>,
    pub(super) records: Vec<KeptRecord>,
    pub(super) requests: Vec<KeptRequest>,
    /// Teams that this doctor gathers.
    pub(super) led: Vec<TeamLead>,
    /// Teams that this doctor is asked to join.
    pub(super) invited: Vec<TeamInvitation>,
    /// Sealed messages to colleagues that have not arrived at the hospital's server yet.
    pub(super) letters: Vec<(DoctorId, Vec<u8>)>,
}

/// A record that this doctor stored: with s_D it opens it, at the address it lies.
pub(super) struct KeptRecord {
    /// Place of its episode.
    pub(super) episode: usize,
    /// Transaction, LK and delta: what its patient gets, and gets again.
    pub(super) receipt: StoredReceipt,
    pub(super) address: Address,
    /// The record that this one amends.
    pub(super) amends: Option<TransactionId>,
    pub(super) name: String,
    pub(super) time: Timestamp,
    /// Until it is final, found, and its receipt left.
    pub(super) pending: Option<Pending>,
}

/// What is needed to hand a record in again.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) record: OwnRecord,
    pub(super) positions: Vec<(AllocationId, Position)>,
    pub(super) receipt: StorageReceipt,
    pub(super) writer: Writer,
    pub(super) keywords: Vec<Keyword>,
}

/// A request with its one-time keys.
pub(super) struct KeptRequest {
    pub(super) request: Vec<u8>,
    pub(super) commitment: RequestCommitment,
    pub(super) purpose: String,
    pub(super) not_after: Timestamp,
    /// Where it is sent: none, if a colleague sends it.
    pub(super) inbox: Option<(InboxHandle, [u8; 16])>,
    pub(super) reader: Reader,
    /// Events of the query manager that were seen.
    pub(super) seen: u64,
    pub(super) state: RequestState,
    pub(super) reason: Option<String>,
    pub(super) grants: Vec<OpenGrant>,
}

impl KeptRequest {
    /// Whether nothing can be read by it any more: unanswered and too late, or every grant ended.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        // A grant can be given until then, and is opened by its doctor at some later time.
        let answered_late = self.not_after.number() + OPENED_WITHIN_MS;
        let ended = |grant: &OpenGrant| grant.grant().terms().expiry <= now;
        now.number() > answered_late && self.grants.iter().all(ended)
    }
}

/// How long after its end a request's keys wait for their doctor to open a grant: a month, as long as
/// the query manager keeps notes.
const OPENED_WITHIN_MS: u64 = 31 * 24 * 60 * 60 * 1000;

impl State {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let episodes: Vec<_> = self.episodes.iter().map(PatientEpisode::keep).collect();
        let records: Vec<_> = self.records.iter().map(KeptRecord::encode).collect();
        let requests: Vec<_> = self.requests.iter().map(KeptRequest::encode).collect();
        let led: Vec<_> = self.led.iter().map(TeamLead::keep).collect();
        let invited: Vec<_> = self.invited.iter().map(TeamInvitation::keep).collect();
        let certificate = self.certificate.as_ref().map(Certificate::encode);
        let certificate = certificate.unwrap_or_default();
        let lists = [&episodes, &records, &requests, &led, &invited];
        let parts = lists.iter().copied().flatten();
        let length = parts.map(|part| 4 + part.len()).sum::<usize>();
        let letters = self.letters.iter().map(|(_, sealed)| 12 + sealed.len());
        let length = length + letters.sum::<usize>();
        let mut out = Encoder::of_secrets(1 + 4 + 96 + 16 + 4 + certificate.len() + 24 + length);
        let (subject, id) = match self.enrolment {
            Some((subject, id)) => (subject.number(), id.number()),
            None => (0, 0),
        };
        out.u8(VERSION)
            .u32(self.institution.number())
            .bytes(self.signing.expose_seed())
            .bytes(self.hpke.expose_bytes())
            .bytes(self.sealing.expose_bytes())
            .u64(subject)
            .u64(id)
            .var(&certificate);
        for list in lists {
            out.u32(list.len() as u32);
            for part in list {
                out.var(part);
            }
        }
        out.u32(self.letters.len() as u32);
        for (to, sealed) in &self.letters {
            out.u64(to.number()).var(sealed);
        }
        Zeroizing::new(out.finish())
    }

    pub(super) fn decode(
        consortium: ConsortiumId,
        centre: &CentreKeys,
        content: &[u8],
    ) -> Result<Self, WorkError> {
        const WHAT: &str = "the doctor's keystore";
        let mut from = Decoder::new(content);
        let version = from.u8(WHAT)?;
        if !(1..=VERSION).contains(&version) {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its version is unknown here",
            }
            .into());
        }
        let institution = InstitutionId::new(from.u32(WHAT)?);
        let signing = SigningKey::from_seed(from.array(WHAT)?);
        let hpke = HpkePrivateKey::from_bytes(from.array(WHAT)?)?;
        let sealing = SealingSecret::from_bytes(from.array(WHAT)?);
        let (subject, id) = (from.u64(WHAT)?, from.u64(WHAT)?);
        let certificate = match from.var(WHAT, CERTIFICATE_BYTES_MAX)? {
            [] => None,
            bytes => Some(Certificate::decode(bytes)?),
        };
        let mut episodes = Vec::new();
        for _ in 0..from.count(WHAT, EPISODES_MAX)? {
            episodes.push(PatientEpisode::restore(from.var(WHAT, PART_BYTES_MAX)?)?);
        }
        let mut records = Vec::new();
        for _ in 0..from.count(WHAT, RECORDS_MAX)? {
            let part = from.var(WHAT, PART_BYTES_MAX)?;
            records.push(KeptRecord::decode(
                version,
                &consortium,
                episodes.len(),
                part,
            )?);
        }
        let mut requests = Vec::new();
        for _ in 0..from.count(WHAT, REQUESTS_MAX)? {
            let part = from.var(WHAT, PART_BYTES_MAX)?;
            requests.push(KeptRequest::decode(version, consortium, centre, part)?);
        }
        let (mut led, mut invited, mut letters) = (Vec::new(), Vec::new(), Vec::new());
        if version > 1 {
            for _ in 0..from.count(WHAT, TEAMS_MAX)? {
                let part = from.var(WHAT, PART_BYTES_MAX)?;
                led.push(TeamLead::restore(consortium, centre.clone(), part)?);
            }
            for _ in 0..from.count(WHAT, TEAMS_MAX)? {
                let part = from.var(WHAT, PART_BYTES_MAX)?;
                let centre = centre.clone();
                invited.push(TeamInvitation::restore(consortium, centre, part)?);
            }
            for _ in 0..from.count(WHAT, LETTERS_MAX)? {
                let to = DoctorId::new(from.u64(WHAT)?);
                letters.push((to, from.var(WHAT, TEAM_MESSAGE_BYTES_MAX)?.to_vec()));
            }
        }
        from.finish(WHAT)?;
        Ok(Self {
            institution,
            signing,
            hpke,
            sealing,
            enrolment: (subject != 0).then(|| (Subject::new(subject), DoctorId::new(id))),
            certificate,
            episodes,
            records,
            requests,
            led,
            invited,
            letters,
        })
    }
}

impl KeptRecord {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let pending = self.pending.as_ref().map(Pending::encode);
        let pending = pending.unwrap_or_default();
        let amends = self.amends.as_ref();
        let amends = amends.map_or(&[][..], |id| id.as_bytes());
        let length = 4
            + StoredReceipt::BYTES
            + 32
            + (4 + amends.len())
            + (4 + self.name.len())
            + 8
            + (4 + pending.len());
        let mut out = Encoder::of_secrets(length);
        out.u32(self.episode as u32)
            .bytes(&self.receipt.encode())
            .bytes(self.address.as_bytes())
            .var(amends)
            .var(self.name.as_bytes())
            .u64(self.time.number())
            .var(&pending);
        Zeroizing::new(out.finish())
    }

    fn decode(
        version: u8,
        consortium: &ConsortiumId,
        episodes: usize,
        part: &[u8],
    ) -> Result<Self, WorkError> {
        const WHAT: &str = "a record of the doctor's keystore";
        let mut from = Decoder::new(part);
        let episode = from.u32(WHAT)? as usize;
        if episode >= episodes {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "it is of no episode",
            }
            .into());
        }
        let receipt = StoredReceipt::decode(from.bytes(WHAT, StoredReceipt::BYTES)?)?;
        let address = Address::new(from.array(WHAT)?);
        let amends = match version {
            1 => &[],
            _ => from.var(WHAT, 32)?,
        };
        let amends = match amends {
            [] => None,
            id => {
                let mut id = Decoder::new(id);
                Some(TransactionId::new(id.array(WHAT)?))
            }
        };
        let record = Self {
            episode,
            receipt,
            address,
            amends,
            name: text(from.var(WHAT, TEXT_BYTES_MAX)?),
            time: Timestamp::new(from.u64(WHAT)?),
            pending: match from.var(WHAT, PART_BYTES_MAX)? {
                [] => None,
                bytes => Some(Pending::decode(consortium, bytes)?),
            },
        };
        from.finish(WHAT)?;
        Ok(record)
    }
}

impl Pending {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let record = self.record.keep();
        let receipt = self.receipt.encode();
        let keywords = self.keywords.iter().map(|word| 4 + word.as_bytes().len());
        let length = 4
            + record.len()
            + 4
            + 40 * self.positions.len()
            + 4
            + receipt.len()
            + 8
            + 4
            + keywords.sum::<usize>();
        let mut out = Encoder::of_secrets(length);
        out.var(&record).u32(self.positions.len() as u32);
        for (id, position) in &self.positions {
            out.bytes(id.as_bytes()).u64(position.number());
        }
        out.var(&receipt)
            .u32(self.writer.institution.number())
            .u32(self.writer.epoch.number())
            .u32(self.keywords.len() as u32);
        for keyword in &self.keywords {
            out.var(keyword.as_bytes());
        }
        Zeroizing::new(out.finish())
    }

    fn decode(consortium: &ConsortiumId, bytes: &[u8]) -> Result<Self, WorkError> {
        const WHAT: &str = "an unfinished record of the doctor's keystore";
        let mut from = Decoder::new(bytes);
        let record = OwnRecord::restore(consortium, from.var(WHAT, PART_BYTES_MAX)?)?;
        let mut positions = Vec::new();
        for _ in 0..from.count(WHAT, client::POINTS_MAX)? {
            let id = AllocationId::new(from.array(WHAT)?);
            positions.push((id, Position::new(from.u64(WHAT)?)));
        }
        let receipt = StorageReceipt::decode(from.var(WHAT, TEXT_BYTES_MAX)?)?;
        let writer = Writer {
            institution: InstitutionId::new(from.u32(WHAT)?),
            epoch: WriterEpoch::new(from.u32(WHAT)?),
        };
        let mut keywords = Vec::new();
        for _ in 0..from.count(WHAT, client::POINTS_MAX)? {
            keywords.push(Keyword::new(from.var(WHAT, TEXT_BYTES_MAX)?)?);
        }
        from.finish(WHAT)?;
        Ok(Self {
            record,
            positions,
            receipt,
            writer,
            keywords,
        })
    }
}

impl KeptRequest {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let reader = self.reader.keep();
        let grants: Vec<_> = self.grants.iter().map(OpenGrant::keep).collect();
        let reason = self.reason.clone().unwrap_or_default();
        let length = grants.iter().map(|grant| 4 + grant.len()).sum::<usize>()
            + (4 + self.request.len())
            + 32
            + (4 + self.purpose.len())
            + 8
            + (4 + 32)
            + (4 + reader.len())
            + 8
            + 1
            + (4 + reason.len())
            + 4;
        let mut out = Encoder::of_secrets(length);
        out.var(&self.request)
            .bytes(self.commitment.digest().as_bytes())
            .var(self.purpose.as_bytes())
            .u64(self.not_after.number())
            .var(&self.inbox.map_or(Vec::new(), |(handle, salt)| {
                [*handle.as_bytes(), salt].concat()
            }))
            .var(&reader)
            .u64(self.seen)
            .u8(code(self.state))
            .var(reason.as_bytes())
            .u32(grants.len() as u32);
        for grant in &grants {
            out.var(grant);
        }
        Zeroizing::new(out.finish())
    }

    fn decode(
        version: u8,
        consortium: ConsortiumId,
        centre: &CentreKeys,
        part: &[u8],
    ) -> Result<Self, WorkError> {
        const WHAT: &str = "a request of the doctor's keystore";
        let mut from = Decoder::new(part);
        let request = from.var(WHAT, PART_BYTES_MAX)?.to_vec();
        let commitment = RequestCommitment::new(from.array(WHAT)?);
        let purpose = text(from.var(WHAT, TEXT_BYTES_MAX)?);
        let not_after = Timestamp::new(from.u64(WHAT)?);
        let inbox = match version {
            1 => from.bytes(WHAT, 32)?,
            _ => from.var(WHAT, 32)?,
        };
        let inbox = match inbox {
            [] => None,
            bytes => {
                let mut inbox = Decoder::new(bytes);
                Some((InboxHandle::new(inbox.array(WHAT)?), inbox.array(WHAT)?))
            }
        };
        let reader = from.var(WHAT, PART_BYTES_MAX)?;
        let reader = Reader::restore(consortium, centre.clone(), reader)?;
        let seen = from.u64(WHAT)?;
        let state = state_of(from.u8(WHAT)?)?;
        let reason = text(from.var(WHAT, TEXT_BYTES_MAX)?);
        let mut grants = Vec::new();
        for _ in 0..from.count(WHAT, parties::GRANTS_MAX)? {
            grants.push(reader.restore_grant(from.var(WHAT, PART_BYTES_MAX)?)?);
        }
        from.finish(WHAT)?;
        Ok(Self {
            request,
            commitment,
            purpose,
            not_after,
            inbox,
            reader,
            seen,
            state,
            reason: (!reason.is_empty()).then_some(reason),
            grants,
        })
    }
}

const STATES: [RequestState; 10] = [
    RequestState::Queued,
    RequestState::Forwarded,
    RequestState::Collected,
    RequestState::Reminded,
    RequestState::WithAgent,
    RequestState::Answered,
    RequestState::Declined,
    RequestState::Note,
    RequestState::Expired,
    RequestState::Refused,
];

fn code(state: RequestState) -> u8 {
    STATES
        .iter()
        .position(|one| *one == state)
        .map_or(0, |place| place as u8)
}

fn state_of(code: u8) -> Result<RequestState, DecodeError> {
    STATES
        .get(usize::from(code))
        .copied()
        .ok_or(DecodeError::Invalid {
            what: "a request's state",
            why: "it is unknown here",
        })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
