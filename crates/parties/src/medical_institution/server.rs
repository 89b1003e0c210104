//! The hospital's server.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{
    RecordNonce, RecordTransaction, RequestStatement, RequestTransaction, Transaction,
    WriterEpochTransaction,
};
use rand_core::CryptoRng;
use scheme::{
    ALLOCATION_WINDOW, AllocationId, BlindedKeyword, ConsortiumId, HeldKey, InstitutionId,
    Position, RaisedKeyword, RecordStatement, Signature, SignerError, Timestamp, Uid, VerifyingKey,
    Writer, WriterEpoch, WriterEpochKey, WriterEpochPublicKey,
};
use thiserror::Error;

/// Points that one doctor can have raised in a day: 50 records of the most keywords there can be.
/// y answers blinded points, so a quota bounds what a stolen doctor's account can test.
const RAISED_PER_DAY_MAX: u32 = 51_200;
/// Positions that one doctor can be given in a day: as many as keywords can be raised.
const ALLOCATED_PER_DAY_MAX: u32 = RAISED_PER_DAY_MAX;
/// A position that was given out and did not become final is given again after this time: longer
/// than any resend of the transaction that would have used it.
const ALLOCATION_TIMEOUT_MS: u64 = 10 * 60 * 1000;
/// Allocation ids known at once: 10^7 of some 100 bytes are 1 GB.
const ALLOCATIONS_MAX: usize = 10_000_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Why the server refuses its doctor.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The key is none of this hospital's doctors.
    #[error("this hospital does not know the doctor's key: ask its IT to enter it")]
    UnknownDoctor,
    /// The doctor's quota of the day is used up.
    #[error(
        "the doctor's quota of {RAISED_PER_DAY_MAX} keywords a day is used up: try again tomorrow or ask IT"
    )]
    Quota,
    /// A keyword stands twice in one call.
    #[error("a keyword of the record stands twice: each is given one position")]
    Repeated,
    /// Eight positions of a keyword are open.
    #[error(
        "too many records with the same keyword are being stored at once: try again in a moment"
    )]
    Busy,
    /// The statement names another institution, doctor or writer epoch.
    #[error(
        "the record is not made for this hospital's current writer epoch: build its index anew"
    )]
    NotOurs,
    /// The doctor's signature does not stand.
    #[error("the doctor's signature does not stand: sign the record again")]
    Forged,
    /// The institution's key does not sign now. Nothing was changed; the source says what to mend.
    #[error(
        "the hospital's server cannot sign with the institution's key now: try again in a moment, and tell IT if that does not help"
    )]
    Key(#[source] SignerError),
}

/// The hospital's server.
pub struct HospitalServer {
    consortium: ConsortiumId,
    institution: InstitutionId,
    key: HeldKey,
    writer_epoch: WriterEpoch,
    y: WriterEpochKey,
    writer_key: WriterEpochPublicKey,
    doctors: BTreeMap<VerifyingKey, DoctorQuota>,
    uids: BTreeSet<Uid>,
    allocations: BTreeMap<AllocationId, Allocation>,
}

/// What a doctor used of the day's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DoctorQuota {
    /// Days since 1970.
    pub day: u64,
    /// Points raised on it.
    pub raised: u32,
    /// Positions given on it.
    pub allocated: u32,
}

impl DoctorQuota {
    fn on(&mut self, now: Timestamp) -> &mut Self {
        let day = now.number() / DAY_MS;
        if self.day != day {
            *self = Self {
                day,
                ..Self::default()
            };
        }
        self
    }
}

/// Counts `more` if the sum stays within the day's limit.
fn count(used: &mut u32, more: usize, limit: u32) -> Result<(), ServerError> {
    *used = u32::try_from(more)
        .ok()
        .and_then(|more| used.checked_add(more))
        .filter(|used| *used <= limit)
        .ok_or(ServerError::Quota)?;
    Ok(())
}

/// The positions of one keyword of one episode: those below `lowest` are final; `settled` are the
/// final ones above it; `given` were handed out and wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allocation {
    /// L.
    pub lowest: u64,
    /// Below L + 8.
    pub settled: BTreeSet<u64>,
    /// When each was given.
    pub given: BTreeMap<u64, Timestamp>,
}

impl HospitalServer {
    /// A server in its first writer epoch.
    pub fn new(
        consortium: ConsortiumId,
        institution: InstitutionId,
        key: impl Into<HeldKey>,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let y = WriterEpochKey::random(rng);
        Self::in_writer_epoch(consortium, institution, key, WriterEpoch::new(0), y)
    }

    /// A server in a writer epoch whose y it kept. Doctors, quotas and allocations are restored by
    /// [`Self::restore_doctor`] and [`Self::restore_allocation`].
    pub fn in_writer_epoch(
        consortium: ConsortiumId,
        institution: InstitutionId,
        key: impl Into<HeldKey>,
        writer_epoch: WriterEpoch,
        y: WriterEpochKey,
    ) -> Self {
        let writer_key = y.public_key();
        Self {
            consortium,
            institution,
            key: key.into(),
            writer_epoch,
            y,
            writer_key,
            doctors: BTreeMap::new(),
            uids: BTreeSet::new(),
            allocations: BTreeMap::new(),
        }
    }

    /// Which institution.
    pub fn institution(&self) -> InstitutionId {
        self.institution
    }

    /// Under which writer epoch indexes are made now.
    pub fn writer(&self) -> Writer {
        Writer {
            institution: self.institution,
            epoch: self.writer_epoch,
        }
    }

    /// R.
    pub fn writer_key(&self) -> &WriterEpochPublicKey {
        &self.writer_key
    }

    /// The transaction that begins the current writer epoch.
    ///
    /// # Errors
    /// [`SignerError`] if the institution's key does not sign now.
    pub fn announce_writer_epoch(
        &self,
        rng: &mut impl CryptoRng,
    ) -> Result<Transaction, SignerError> {
        self.announce(self.writer_epoch, &self.y, rng)
    }

    /// Ends the writer epoch: y is destroyed, a fresh one takes its place, counts begin anew.
    ///
    /// # Errors
    /// [`SignerError`] if the institution's key does not sign now. Then the writer epoch goes on.
    pub fn begin_writer_epoch(
        &mut self,
        rng: &mut impl CryptoRng,
    ) -> Result<Transaction, SignerError> {
        let epoch = WriterEpoch::new(self.writer_epoch.number() + 1);
        let y = WriterEpochKey::random(rng);
        let announced = self.announce(epoch, &y, rng)?;
        self.writer_epoch = epoch;
        self.writer_key = y.public_key();
        self.y = y;
        self.allocations.clear();
        Ok(announced)
    }

    fn announce(
        &self,
        epoch: WriterEpoch,
        y: &WriterEpochKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Transaction, SignerError> {
        let proof = y.prove_possession(&self.consortium, self.institution, epoch, rng);
        let signed = WriterEpochTransaction::sign(
            &self.consortium,
            self.institution,
            epoch,
            y.public_key(),
            proof,
            &self.key,
        )?;
        Ok(Transaction::WriterEpoch(Box::new(signed)))
    }

    /// Enters a doctor of this hospital.
    pub fn enter_doctor(&mut self, key: VerifyingKey) {
        self.doctors.entry(key).or_default();
    }

    /// Enters a doctor again, with what was used of the day's quota.
    pub fn restore_doctor(&mut self, key: VerifyingKey, quota: DoctorQuota) {
        self.doctors.insert(key, quota);
    }

    /// What a doctor used of the day's quota, for keeping.
    pub fn quota(&self, doctor: &VerifyingKey) -> Option<DoctorQuota> {
        self.doctors.get(doctor).copied()
    }

    /// Takes a doctor out again: from now on the key is an unknown one.
    pub fn forget_doctor(&mut self, doctor: &VerifyingKey) {
        self.doctors.remove(doctor);
    }

    /// Brings the positions of one keyword of one episode back.
    pub fn restore_allocation(&mut self, id: AllocationId, allocation: Allocation) {
        self.allocations.insert(id, allocation);
    }

    /// Gives the positions of one keyword of one episode up, for keeping.
    pub fn take_allocation(&mut self, id: &AllocationId) -> Option<Allocation> {
        self.allocations.remove(id)
    }

    /// Gives a patient a UID at registration: 16 random hexadecimal digits, never given twice.
    pub fn register_patient(&mut self, rng: &mut impl CryptoRng) -> Uid {
        loop {
            let uid = Self::draw_uid(rng);
            if self.uids.insert(uid.clone()) {
                return uid;
            }
        }
    }

    /// A UID of 16 random hexadecimal digits, for a caller who knows which were given.
    pub fn draw_uid(rng: &mut impl CryptoRng) -> Uid {
        let mut bytes = [0; 8];
        rng.fill_bytes(&mut bytes);
        let text = bytes
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        Uid::new(text.as_bytes()).expect("16 bytes are between 1 and 64")
    }

    /// Raises a doctor's blinded keywords to y.
    ///
    /// # Errors
    /// [`ServerError::UnknownDoctor`], [`ServerError::Quota`].
    pub fn raise(
        &mut self,
        doctor: &VerifyingKey,
        blinded: &[BlindedKeyword],
        now: Timestamp,
    ) -> Result<Vec<RaisedKeyword>, ServerError> {
        let quota = self
            .doctors
            .get_mut(doctor)
            .ok_or(ServerError::UnknownDoctor)?;
        count(&mut quota.on(now).raised, blinded.len(), RAISED_PER_DAY_MAX)?;
        Ok(blinded.iter().map(|point| self.y.raise(point)).collect())
    }

    /// Gives each allocation id its next position: the lowest below L + 8 that is neither final nor
    /// waiting, L the lowest that is not final.
    ///
    /// # Errors
    /// [`ServerError::UnknownDoctor`], [`ServerError::Quota`], [`ServerError::Repeated`];
    /// [`ServerError::Busy`] if one has none. Then none is given.
    pub fn allocate(
        &mut self,
        doctor: &VerifyingKey,
        ids: &[AllocationId],
        now: Timestamp,
    ) -> Result<Vec<Position>, ServerError> {
        let quota = self
            .doctors
            .get_mut(doctor)
            .ok_or(ServerError::UnknownDoctor)?;
        let distinct: BTreeSet<&AllocationId> = ids.iter().collect();
        if distinct.len() < ids.len() {
            return Err(ServerError::Repeated);
        }
        let known = |id: &&AllocationId| self.allocations.contains_key(*id);
        let new = ids.len() - ids.iter().filter(known).count();
        if self.allocations.len() + new > ALLOCATIONS_MAX {
            return Err(ServerError::Busy);
        }
        let fresh = Allocation::default();
        let chosen = ids
            .iter()
            .map(|id| {
                let allocation = self.allocations.get(id).unwrap_or(&fresh);
                allocation.next(now).ok_or(ServerError::Busy)
            })
            .collect::<Result<Vec<_>, _>>()?;
        count(
            &mut quota.on(now).allocated,
            ids.len(),
            ALLOCATED_PER_DAY_MAX,
        )?;
        for (id, position) in ids.iter().zip(&chosen) {
            let allocation = self.allocations.entry(*id).or_default();
            allocation.given.insert(*position, now);
        }
        Ok(chosen.into_iter().map(Position::new).collect())
    }

    /// The entries at these positions are final.
    pub fn settle(&mut self, positions: &[(AllocationId, Position)]) {
        for (id, position) in positions {
            if let Some(allocation) = self.allocations.get_mut(id) {
                allocation.settle(*position);
            }
        }
    }

    /// Signs a doctor's record for the chain, equation (10)'s second signature.
    ///
    /// # Errors
    /// [`ServerError`] if the doctor or the statement is not this hospital's.
    pub fn countersign(
        &self,
        statement: RecordStatement,
        doctor: Signature,
        rng: &mut impl CryptoRng,
    ) -> Result<Transaction, ServerError> {
        if !self.doctors.contains_key(&statement.author) {
            return Err(ServerError::UnknownDoctor);
        }
        if statement.institution != self.institution || statement.writer_key != self.writer_key {
            return Err(ServerError::NotOurs);
        }
        statement
            .verify(&self.consortium, &doctor)
            .map_err(|_| ServerError::Forged)?;
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        let signed = RecordTransaction::countersign(
            &self.consortium,
            statement,
            doctor,
            RecordNonce::new(nonce),
            &self.key,
        );
        let signed = signed.map_err(ServerError::Key)?;
        Ok(Transaction::Record(Box::new(signed)))
    }

    /// Signs a doctor's request for the chain.
    ///
    /// # Errors
    /// [`ServerError`] if the doctor or the statement is not this hospital's.
    pub fn countersign_request(
        &self,
        statement: RequestStatement,
        doctor: Signature,
    ) -> Result<Transaction, ServerError> {
        if !self.doctors.contains_key(&statement.author) {
            return Err(ServerError::UnknownDoctor);
        }
        if statement.institution != self.institution {
            return Err(ServerError::NotOurs);
        }
        statement
            .verify(&self.consortium, &doctor)
            .map_err(|_| ServerError::Forged)?;
        let signed =
            RequestTransaction::countersign(&self.consortium, statement, doctor, &self.key);
        Ok(Transaction::Request(signed.map_err(ServerError::Key)?))
    }
}

impl Allocation {
    fn next(&self, now: Timestamp) -> Option<u64> {
        (self.lowest..self.lowest + ALLOCATION_WINDOW).find(|position| {
            let waits = self.given.get(position).is_some_and(|since| {
                now.number().saturating_sub(since.number()) < ALLOCATION_TIMEOUT_MS
            });
            !self.settled.contains(position) && !waits
        })
    }

    /// Whether the position was given out and is not final yet.
    pub fn waits(&self, position: Position) -> bool {
        self.given.contains_key(&position.number())
    }

    /// The entry at this position is final.
    pub fn settle(&mut self, position: Position) {
        let position = position.number();
        self.given.remove(&position);
        if position >= self.lowest {
            self.settled.insert(position);
        }
        while self.settled.remove(&self.lowest) {
            self.lowest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use scheme::SigningKey;

    use super::*;

    #[test]
    fn positions_are_given_once_to_known_doctors_within_a_quota() {
        use rand_chacha::rand_core::SeedableRng;
        let mut rng = rand_chacha::ChaCha20Rng::from_seed([1; 32]);
        let consortium = ConsortiumId::new([9; 32]);
        let key = SigningKey::from_seed([2; 32]);
        let mut server = HospitalServer::new(consortium, InstitutionId::new(4), key, &mut rng);
        let doctor = SigningKey::from_seed([3; 32]).verifying_key();
        let id = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            AllocationId::new(bytes)
        };
        let now = Timestamp::new(1_000);
        let unknown = server.allocate(&doctor, &[id(0)], now);
        assert_eq!(unknown, Err(ServerError::UnknownDoctor));
        server.enter_doctor(doctor);
        let twice = server.allocate(&doctor, &[id(0), id(1), id(0)], now);
        assert_eq!(twice, Err(ServerError::Repeated));
        for position in 0..ALLOCATION_WINDOW {
            let given = server.allocate(&doctor, &[id(0)], now);
            assert_eq!(given, Ok(vec![Position::new(position)]));
        }
        // One keyword has none left, so none is given, and no trace of the other stays behind.
        let busy = server.allocate(&doctor, &[id(1), id(0)], now);
        assert_eq!(busy, Err(ServerError::Busy));
        assert_eq!(server.allocations.len(), 1);
        let many: Vec<_> = (1..ALLOCATED_PER_DAY_MAX).map(id).collect();
        let over = server.allocate(&doctor, &many, now);
        assert_eq!(over, Err(ServerError::Quota));
        assert_eq!(server.allocations.len(), 1);
        let tomorrow = Timestamp::new(now.number() + DAY_MS);
        assert!(server.allocate(&doctor, &many, tomorrow).is_ok());
    }

    /// What a server kept and gets back gives the same positions and refuses the same quota.
    #[test]
    fn a_restored_server_gives_no_position_twice_and_knows_the_quota() {
        use rand_chacha::rand_core::SeedableRng;
        let mut rng = rand_chacha::ChaCha20Rng::from_seed([1; 32]);
        let consortium = ConsortiumId::new([9; 32]);
        let here = InstitutionId::new(4);
        let key = || SigningKey::from_seed([2; 32]);
        let y = WriterEpochKey::random(&mut rng);
        let epoch = WriterEpoch::new(3);
        let begun = || HospitalServer::in_writer_epoch(consortium, here, key(), epoch, y.clone());
        let doctor = SigningKey::from_seed([3; 32]).verifying_key();
        let (id, now) = (AllocationId::new([7; 32]), Timestamp::new(1_000));
        let mut server = begun();
        assert_eq!(server.writer().epoch, epoch);
        let quota = DoctorQuota {
            allocated: ALLOCATED_PER_DAY_MAX - 2,
            ..DoctorQuota::default()
        };
        server.restore_doctor(doctor, quota);
        let first = server.allocate(&doctor, &[id], now);
        assert_eq!(first, Ok(vec![Position::new(0)]));
        let (quota, kept) = (server.quota(&doctor), server.take_allocation(&id));

        let mut server = begun();
        server.restore_doctor(doctor, quota.unwrap());
        let kept = kept.unwrap();
        assert!(kept.waits(Position::new(0)) && !kept.waits(Position::new(1)));
        server.restore_allocation(id, kept);
        let second = server.allocate(&doctor, &[id], now);
        assert_eq!(second, Ok(vec![Position::new(1)]));
        let third = server.allocate(&doctor, &[id], now);
        assert_eq!(third, Err(ServerError::Quota));
        server.forget_doctor(&doctor);
        let gone = server.allocate(&doctor, &[id], now);
        assert_eq!(gone, Err(ServerError::UnknownDoctor));
    }

    #[test]
    fn no_gap_among_final_positions_is_eight_long() {
        let mut allocation = Allocation::default();
        let (early, late) = (
            Timestamp::new(1_000),
            Timestamp::new(1_000 + ALLOCATION_TIMEOUT_MS),
        );
        for expected in 0..ALLOCATION_WINDOW {
            assert_eq!(allocation.next(early), Some(expected));
            allocation.given.insert(expected, early);
        }
        assert_eq!(allocation.next(early), None);
        // Position 0 never becomes final: nothing above 7 is given until it is given again.
        for position in 1..ALLOCATION_WINDOW {
            allocation.settle(Position::new(position));
        }
        assert_eq!(allocation.next(early), None);
        assert_eq!(allocation.next(late), Some(0));
        allocation.settle(Position::new(0));
        assert_eq!(allocation.next(late), Some(8));
    }
}
