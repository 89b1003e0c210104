//! Doctor A: the author of a record, and the identity that every doctor has.

use ledger::TransactionId;
use rand_core::CryptoRng;
use scheme::{
    Address, AllocationId, Author, BlindedKeyword, CannotOpen, ClassCode, ConsortiumId, Context,
    DecodeError, Decoder, Degenerate, Delta, Digest, DoctorId, DoctorSubkey, Encoder,
    EncryptionPublicKey, EpisodeKey, EpisodeNumber, Header, HpkePrivateKey, IndexKey,
    InstitutionId, Keyword, KeywordBlinding, Locator, LocatorBinding, LocatorKey, Pid, Position,
    Purpose, RaisedKeyword, RecordStatement, SealError, Sealing, SealingSecret, SearchPublicKey,
    SectionPlan, SectionSecret, Signature, SigningKey, Subject, Timestamp, Uid, UnblindError,
    UnusableKey, Writer, WriterEpochPublicKey, WrongKey, enc, pad_entries, unblind,
    verify_handover,
};
use thiserror::Error;

use crate::centre_keys::CentreKeys;
use crate::certificate::{
    Certificate, CertificateError, DoctorPublicKeys, Holder, PatientPublicKeys,
};
use crate::consortium_chain::AgreedCentreKeys;
use crate::registration_centre::doctor_proof_text;

/// A doctor: the keys that never leave the doctor's machine.
pub struct Doctor {
    consortium: ConsortiumId,
    centre: CentreKeys,
    public: DoctorPublicKeys,
    signing: SigningKey,
    hpke: HpkePrivateKey,
    sealing: SealingSecret,
}

/// What a patient's device hands to a doctor when an episode begins: SK_D and the patient's public
/// keys, by the device itself and not by the centre (`spec/formats.md`, M4).
#[derive(Clone)]
pub struct PatientEpisode {
    /// The pseudonym of this episode, a secret of the care team.
    pub pid: Pid,
    /// A, X, O and the inbox key, signed under O and certified.
    pub keys: PatientPublicKeys,
    /// The UID that the hospital gave.
    pub uid: Uid,
    /// n.
    pub episode: EpisodeNumber,
    /// Where receipts go.
    pub inbox: scheme::InboxHandle,
}

impl PatientEpisode {
    /// For the doctor's keystore (`spec/formats.md`, M26).
    pub fn keep(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let keys = [
            self.keys.encryption.as_bytes().to_vec(),
            self.keys.search.as_bytes().to_vec(),
            self.keys.ownership.as_bytes().to_vec(),
        ];
        let length = keys.iter().map(Vec::len).sum::<usize>();
        let uid = self.uid.as_bytes();
        let mut out = Encoder::of_secrets(32 + length + 32 + 4 + uid.len() + 8 + 16);
        out.bytes(self.pid.expose_bytes());
        for key in &keys {
            out.bytes(key);
        }
        out.bytes(self.keys.inbox.as_bytes())
            .var(uid)
            .u64(self.episode.number())
            .bytes(self.inbox.as_bytes());
        zeroize::Zeroizing::new(out.finish())
    }

    /// What [`Self::keep`] gave.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn restore(kept: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "an episode of the doctor's keystore";
        let mut from = Decoder::new(kept);
        let episode = Self {
            pid: Pid::from_bytes(from.array(WHAT)?),
            keys: PatientPublicKeys {
                encryption: EncryptionPublicKey::from_bytes(&from.array(WHAT)?)?,
                search: SearchPublicKey::from_bytes(&from.array(WHAT)?)?,
                ownership: scheme::OwnershipPublicKey::from_bytes(&from.array(WHAT)?)?,
                inbox: scheme::HpkePublicKey::new(from.array(WHAT)?),
            },
            uid: Uid::new(from.var("the UID", scheme::UID_BYTES_MAX)?)?,
            episode: EpisodeNumber::new(from.u64(WHAT)?),
            inbox: scheme::InboxHandle::new(from.array(WHAT)?),
        };
        from.finish(WHAT)?;
        Ok(episode)
    }
}

/// Why a hand-over is not accepted. Ask the patient's device again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// It does not open: it is for another doctor, hospital or UID.
    #[error("the patient's message is not for this doctor and UID")]
    CannotOpen(#[from] CannotOpen),
    /// It is malformed.
    #[error("the patient's message is malformed")]
    Malformed(#[from] DecodeError),
    /// The certificate does not stand or is not a patient's.
    #[error("the patient's certificate does not stand")]
    Certificate(#[from] CertificateError),
    /// The certificate is not a patient's.
    #[error("the certificate in the patient's message is not a patient's")]
    NotAPatient,
    /// The message is not signed under O.
    #[error("the patient's message is not signed by the patient's ownership key")]
    Forged,
}

/// Why an index cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The server did not raise to y.
    #[error(transparent)]
    Server(#[from] UnblindError),
    /// The server gave another number of positions.
    #[error("the hospital's server gave positions for another number of keywords")]
    Positions,
    /// A combination was the identity: try again.
    #[error("a combined key is the identity: try again")]
    Degenerate(#[from] Degenerate),
}

impl Doctor {
    /// Fresh keys for a doctor with this id at this institution.
    pub fn new(
        consortium: ConsortiumId,
        centre: CentreKeys,
        id: DoctorId,
        institution: InstitutionId,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let keys = (SigningKey::random(rng), HpkePrivateKey::random(rng));
        let sealing = SealingSecret::random(rng);
        Self::from_keys(consortium, centre, id, institution, keys, sealing)
    }

    /// A doctor whose keys were kept: to sign and to open, and s_D of the year.
    pub fn from_keys(
        consortium: ConsortiumId,
        centre: CentreKeys,
        id: DoctorId,
        institution: InstitutionId,
        (signing, hpke): (SigningKey, HpkePrivateKey),
        sealing: SealingSecret,
    ) -> Self {
        let public = DoctorPublicKeys {
            id,
            institution,
            signing: signing.verifying_key(),
            hpke: hpke.public_key(),
        };
        Self {
            consortium,
            centre,
            public,
            signing,
            hpke,
            sealing,
        }
    }

    /// Takes what f + 1 nodes say of the registration centre's keys: certificates under one that was
    /// lost to others count no more.
    pub fn follow_centre(&mut self, agreed: &AgreedCentreKeys) {
        self.centre.follow(agreed);
    }

    /// The public keys, for the registration centre.
    pub fn public_keys(&self) -> &DoctorPublicKeys {
        &self.public
    }

    /// Proof of possession for an enrolment.
    pub fn prove_possession(&self, subject: Subject) -> Signature {
        let text = doctor_proof_text(
            subject,
            self.public.id,
            self.public.institution,
            &self.public,
        );
        self.signing
            .sign(Context::Certificate, &self.consortium, &[&text])
    }

    /// The signing key that the centre certified: signs requests, and this doctor's calls to services.
    pub fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The consortium that this doctor belongs to.
    pub fn consortium(&self) -> &ConsortiumId {
        &self.consortium
    }

    /// Opens what was sealed to this doctor's certified HPKE key for a purpose.
    pub(crate) fn open_sealed(
        &self,
        purpose: Purpose,
        subject: &[u8],
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, CannotOpen> {
        self.hpke.open(purpose, &self.consortium, subject, sealed)
    }

    /// Opens a patient's hand-over: checks that it is signed under O, that O is certified, and
    /// computes the PID. Whether the keys are in force is still to be asked of the chain.
    ///
    /// # Errors
    /// [`HandoverError`].
    pub fn accept_handover(
        &self,
        sealed: &[u8],
        uid: &Uid,
        now: Timestamp,
    ) -> Result<PatientEpisode, HandoverError> {
        let subject = handover_subject(self.public.institution, uid);
        let plain = self.open_sealed(Purpose::Handover, &subject, sealed)?;
        let mut from = Decoder::new(&plain);
        let text = from.var("the hand-over", HANDOVER_BYTES_MAX)?;
        let signature =
            scheme::BlsSignature::from_bytes(&from.array("the hand-over's signature")?)?;
        from.finish("the hand-over")?;

        let mut from = Decoder::new(text);
        let subkey = DoctorSubkey::from_bytes(from.array("SK_D")?);
        let episode = EpisodeNumber::new(from.u64("the episode")?);
        let inbox = scheme::InboxHandle::new(from.array("the inbox")?);
        let certificate = Certificate::decode(
            from.var("the certificate", crate::certificate::CERTIFICATE_BYTES_MAX)?,
        )?;
        from.finish("the hand-over")?;
        let Holder::Patient(keys) = certificate.verify(&self.consortium, &self.centre, now)? else {
            return Err(HandoverError::NotAPatient);
        };
        verify_handover(&self.consortium, &keys.ownership, text, &signature)
            .map_err(|_| HandoverError::Forged)?;
        let pid = subkey.pseudonym(&self.consortium, uid, episode);
        Ok(PatientEpisode {
            pid,
            keys: (**keys).clone(),
            uid: uid.clone(),
            episode,
            inbox,
        })
    }

    /// Equation (9): the header and the section keys of a record, waiting for its bytes.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        &self,
        episode: &PatientEpisode,
        plans: &[SectionPlan],
        rng: &mut impl CryptoRng,
    ) -> Result<Sealing, SealError> {
        let author = Author {
            secret: &self.sealing,
            key: self.public.signing,
            institution: self.public.institution,
        };
        Sealing::new(
            &self.consortium,
            &author,
            &episode.keys.encryption,
            &episode.pid,
            plans,
            rng,
        )
    }

    /// Equation (11), first half: blinds the keywords, the empty one among them.
    pub fn begin_index(
        &self,
        episode: &PatientEpisode,
        writer: Writer,
        keywords: &[Keyword],
        rng: &mut impl CryptoRng,
    ) -> IndexDraft {
        let distinct: std::collections::BTreeSet<Keyword> = keywords
            .iter()
            .cloned()
            .chain([Keyword::any_record()])
            .collect();
        let blindings = distinct
            .iter()
            .map(|keyword| {
                KeywordBlinding::new(&self.consortium, &episode.pid, writer, keyword, rng)
            })
            .collect();
        IndexDraft {
            consortium: self.consortium,
            blindings,
        }
    }

    /// Equations (10) and (11), second half: entries at the given positions, O_rec, sealed locator,
    /// signature.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn sign_record(
        &self,
        draft: &RecordDraft<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<OwnRecord, IndexError> {
        if draft.keys.len() != draft.positions.len() {
            return Err(IndexError::Positions);
        }
        let here = &self.consortium;
        let episode = EpisodeKey::derive(here, &draft.episode.keys.ownership, &draft.episode.pid)?;
        let delta = Delta::random(rng);
        let owner_key = episode.blind(&delta)?;
        let locator_key = LocatorKey::random(rng);
        let mut entries = draft
            .keys
            .iter()
            .zip(draft.positions)
            .map(|(key, position)| {
                key.entry(here, *position, &owner_key.compressed(), &locator_key)
            })
            .collect();
        pad_entries(&mut entries, rng);
        let header_digest = draft.header.digest();
        let locator = Locator {
            address: draft.address,
            delta: delta.clone(),
        }
        .seal(
            here,
            &locator_key,
            &LocatorBinding {
                writer_key: draft.writer_key.compressed(),
                digest: &draft.digest,
                header_digest: &header_digest,
                owner_key: owner_key.compressed(),
                author: &self.public.signing,
                institution: self.public.institution,
            },
        );
        let statement = RecordStatement {
            digest: draft.digest,
            header_digest,
            owner_key,
            locator,
            entries,
            writer_key: draft.writer_key.clone(),
            author: self.public.signing,
            institution: self.public.institution,
            time: draft.time,
        };
        let signature = statement.sign(here, &self.signing);
        let transaction = TransactionId::from(statement.id(here));
        Ok(OwnRecord {
            transaction,
            statement,
            signature,
            locator_key,
            delta,
            address: draft.address,
        })
    }

    /// The receipt for the patient: transaction, LK and delta, sealed to the inbox.
    ///
    /// # Errors
    /// [`UnusableKey`] if the inbox key is of small order.
    pub fn receipt(
        &self,
        episode: &PatientEpisode,
        record: &OwnRecord,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, UnusableKey> {
        self.receipt_again(episode, &record.receipt(), rng)
    }

    /// The same receipt, for a patient who has lost it.
    ///
    /// # Errors
    /// [`UnusableKey`] if the inbox key is of small order.
    pub fn receipt_again(
        &self,
        episode: &PatientEpisode,
        receipt: &StoredReceipt,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, UnusableKey> {
        let plain = receipt.encode();
        episode.keys.inbox.seal(
            Purpose::Receipt,
            &self.consortium,
            episode.inbox.as_bytes(),
            &plain,
            rng,
        )
    }

    /// The author's own reading, without asking: r comes again from s_D and the nonce.
    ///
    /// # Errors
    /// [`WrongKey`] if this doctor did not write it for this patient's episode.
    pub fn own_section(
        &self,
        header: &Header,
        owner: &EncryptionPublicKey,
        pid: &Pid,
        class: ClassCode,
    ) -> Result<SectionSecret, WrongKey> {
        SectionSecret::of_author(header, &self.sealing, owner, pid, class)
    }
}

/// Keywords blinded and waiting for the hospital's server.
pub struct IndexDraft {
    consortium: ConsortiumId,
    blindings: Vec<KeywordBlinding>,
}

impl IndexDraft {
    /// What the server raises to y.
    pub fn blinded(&self) -> Vec<BlindedKeyword> {
        self.blindings
            .iter()
            .map(KeywordBlinding::blinded)
            .collect()
    }

    /// Checks the server's answer against R from the chain, and gives the index keys with what the
    /// allocator is asked with.
    ///
    /// # Errors
    /// [`IndexError::Server`].
    pub fn evaluate(
        self,
        raised: &[RaisedKeyword],
        writer_key: &WriterEpochPublicKey,
        owner: &SearchPublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<IndexKey>, Vec<AllocationId>), IndexError> {
        let keys: Vec<IndexKey> = unblind(&self.blindings, raised, writer_key, rng)?
            .iter()
            .map(|point| point.index_key(owner))
            .collect();
        let ids = keys
            .iter()
            .map(|key| key.allocation_id(&self.consortium))
            .collect();
        Ok((keys, ids))
    }
}

/// Everything that a record's statement is made of.
pub struct RecordDraft<'a> {
    /// Whose record.
    pub episode: &'a PatientEpisode,
    /// Its sealed header.
    pub header: &'a Header,
    /// SHA-256 of the container.
    pub digest: Digest,
    /// Where the cloud put it.
    pub address: Address,
    /// R.
    pub writer_key: &'a WriterEpochPublicKey,
    /// Index keys of its keywords.
    pub keys: &'a [IndexKey],
    /// Their positions.
    pub positions: &'a [Position],
    /// Now.
    pub time: Timestamp,
}

/// What the author keeps of a record, in the backup: with s_D it opens it, with LK it finds it.
#[derive(Clone)]
pub struct OwnRecord {
    /// The transaction.
    pub transaction: TransactionId,
    /// What was signed.
    pub statement: RecordStatement,
    /// x_i.
    pub signature: Signature,
    /// LK.
    pub locator_key: LocatorKey,
    /// delta.
    pub delta: Delta,
    /// Where the container lies.
    pub address: Address,
}

impl OwnRecord {
    /// What its patient gets.
    pub fn receipt(&self) -> StoredReceipt {
        StoredReceipt {
            transaction: self.transaction,
            locator_key: self.locator_key.clone(),
            delta: self.delta.clone(),
        }
    }

    /// For the doctor's keystore (`spec/formats.md`, M26).
    pub fn keep(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let statement = ledger::encode_record_statement(&self.statement);
        let kept = Encoder::of_secrets(4 + statement.len() + 64 + 16 + 32 + 32)
            .var(&statement)
            .bytes(self.signature.as_bytes())
            .bytes(self.locator_key.expose_bytes())
            .bytes(self.delta.expose_bytes().as_slice())
            .bytes(self.address.as_bytes())
            .finish();
        zeroize::Zeroizing::new(kept)
    }

    /// What [`Self::keep`] gave.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn restore(consortium: &ConsortiumId, kept: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "a record of the doctor's keystore";
        let mut from = Decoder::new(kept);
        let statement = from.var(WHAT, ledger::TRANSACTION_BYTES_MAX)?;
        let statement = ledger::decode_record_statement(statement)?;
        let record = Self {
            transaction: TransactionId::from(statement.id(consortium)),
            statement,
            signature: Signature::new(from.array(WHAT)?),
            locator_key: LocatorKey::from_bytes(from.array(WHAT)?),
            delta: Delta::from_bytes(&from.array(WHAT)?)?,
            address: Address::new(from.array(WHAT)?),
        };
        from.finish(WHAT)?;
        Ok(record)
    }
}

/// A receipt as the patient opened it (`spec/formats.md`, M7).
#[derive(Clone)]
pub struct StoredReceipt {
    /// The transaction.
    pub transaction: TransactionId,
    /// LK.
    pub locator_key: LocatorKey,
    /// delta.
    pub delta: Delta,
}

impl StoredReceipt {
    /// Bytes of the encoding.
    pub const BYTES: usize = 32 + 16 + 32;

    /// Encodes a receipt, for its patient or a keystore.
    pub fn encode(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut out = Encoder::of_secrets(Self::BYTES);
        self.write(&mut out);
        zeroize::Zeroizing::new(out.finish())
    }

    /// Decodes an opened receipt.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(plain: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(plain);
        let receipt = Self::read(&mut from)?;
        from.finish("the doctor's receipt")?;
        Ok(receipt)
    }

    pub(crate) fn write(&self, out: &mut Encoder) {
        out.bytes(self.transaction.as_bytes())
            .bytes(self.locator_key.expose_bytes())
            .bytes(self.delta.expose_bytes().as_slice());
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "the doctor's receipt";
        Ok(Self {
            transaction: TransactionId::new(from.array(WHAT)?),
            locator_key: LocatorKey::from_bytes(from.array(WHAT)?),
            delta: Delta::from_bytes(&from.array(WHAT)?)?,
        })
    }
}

/// SK_D 32, n 8, inbox 16, certificate at most 512 with its length: under 1 KiB.
const HANDOVER_BYTES_MAX: usize = 1024;

/// The subject of a hand-over: enc(institution, UID), as the doctor knows it before opening.
pub(crate) fn handover_subject(institution: InstitutionId, uid: &Uid) -> Vec<u8> {
    enc(&[
        &u64::from(institution.number()).to_be_bytes(),
        uid.as_bytes(),
    ])
}
