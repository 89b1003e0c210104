//! The attacker's own arithmetic: what `spec/scheme.md` computes, from the document and on the curve
//! library alone, so that an attack can hold values that the crate's types never let out.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use blst::{blst_fp12, blst_scalar};
use blstrs::{G1Affine, G1Projective, G2Affine, G2Projective, Gt, Scalar};
use group::{Curve, Group};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use scheme::{ConsortiumId, enc};
use sha2::{Digest as _, Sha256};

use crate::support::consortium;

pub(crate) fn e(p: &G1Projective, q: &G2Projective) -> Gt {
    blstrs::pairing(&p.to_affine(), &q.to_affine())
}

pub(crate) fn g1() -> G1Projective {
    G1Projective::generator()
}

pub(crate) fn g2() -> G2Projective {
    G2Projective::generator()
}

/// A point that stands in public bytes.
pub(crate) fn point1(bytes: &[u8; 48]) -> G1Projective {
    G1Affine::from_compressed(bytes).unwrap().into()
}

/// A point that stands in public bytes.
pub(crate) fn point2(bytes: &[u8; 96]) -> G2Projective {
    G2Affine::from_compressed(bytes).unwrap().into()
}

pub(crate) fn bytes1(point: &G1Projective) -> [u8; 48] {
    point.to_affine().to_compressed()
}

pub(crate) fn bytes2(point: &G2Projective) -> [u8; 96] {
    point.to_affine().to_compressed()
}

/// `in(tag, parts)` of section 1.2.
fn input(tag: &str, parts: &[&[u8]]) -> Vec<u8> {
    let tag = format!("WILLIS-V1-{tag}");
    let here = consortium();
    let mut all: Vec<&[u8]> = vec![tag.as_bytes(), here.as_bytes()];
    all.extend_from_slice(parts);
    enc(&all)
}

/// E2.
pub(crate) fn h1(tag: &str, parts: &[&[u8]]) -> G1Projective {
    let dst = format!("WILLIS-V1-{tag}_BLS12381G1_XMD:SHA-256_SSWU_RO_");
    G1Projective::hash_to_curve(&input(tag, parts), dst.as_bytes(), &[])
}

/// E3.
pub(crate) fn hs(tag: &str, parts: &[&[u8]]) -> Scalar {
    let dst = format!("WILLIS-V1-{tag}_XMD:SHA-256");
    let reduced = blst_scalar::hash_to(&input(tag, parts), dst.as_bytes()).unwrap();
    Scalar::from_bytes_le(&reduced.b).unwrap()
}

/// E4.
pub(crate) fn prf(key: &[u8; 32], tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    mac.update(&input(tag, parts));
    mac.finalize().into_bytes().into()
}

/// E5, Extract.
pub(crate) fn extract(salt: &str, secret: &[u8]) -> [u8; 32] {
    Hkdf::<Sha256>::extract(Some(salt.as_bytes()), secret)
        .0
        .into()
}

/// E5, Expand.
pub(crate) fn expand(prk: &[u8; 32], tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    Hkdf::<Sha256>::from_prk(prk)
        .unwrap()
        .expand(&input(tag, parts), &mut out)
        .unwrap();
    out
}

/// HT of E5, of the pairing of two points.
pub(crate) fn ht(p: &G1Projective, q: &G2Projective) -> [u8; 32] {
    extract("willis/v1/HT", &enc_pairing(p, q))
}

/// enc_GT(e(p, q)), E6. The library writes pairs of coefficients interleaved; ours is depth first.
pub(crate) fn enc_pairing(p: &G1Projective, q: &G2Projective) -> [u8; 576] {
    let (p, q) = (p.to_affine(), q.to_affine());
    let library = blst_fp12::miller_loop(q.as_ref(), p.as_ref())
        .final_exp()
        .to_bendian();
    let mut out = [0; 576];
    for (ours, theirs) in [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11].iter().enumerate() {
        out[ours * 48..][..48].copy_from_slice(&library[theirs * 48..][..48]);
    }
    out
}

pub(crate) fn be(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub(crate) fn sha(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(crate) fn scalar(rng: &mut ChaCha20Rng) -> Scalar {
    hs("RANDOM", &[&bytes::<48>(rng)])
}

pub(crate) fn bytes<const N: usize>(rng: &mut ChaCha20Rng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill_bytes(&mut out);
    out
}

/// a, x and o of the patient `Patient::new(seed)`, by (6) and (7).
pub(crate) struct Secrets {
    pub(crate) a: Scalar,
    pub(crate) x: Scalar,
    pub(crate) o: Scalar,
}

pub(crate) fn secrets(seed: u8) -> Secrets {
    let derive = |tag| hs(tag, &[&[seed; 32], &be(0)]);
    Secrets {
        a: derive("KEY-a"),
        x: derive("KEY-x"),
        o: derive("KEY-o"),
    }
}

/// e = o + Hs_PID(PID).
pub(crate) fn episode_secret(seed: u8, pid: &[u8; 32]) -> Scalar {
    secrets(seed).o + hs("PID", &[pid])
}

/// BLS of E10 with any tag and parts.
pub(crate) fn bls(tag: &str, secret: &Scalar, parts: &[&[u8]]) -> [u8; 48] {
    bytes1(&(h1(tag, parts) * secret))
}

pub(crate) fn aes_seal(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: plain, aad };
    Aes256Gcm::new(&(*key).into())
        .encrypt(&nonce.into(), payload)
        .unwrap()
}

pub(crate) fn aes_open(
    key: &[u8; 32],
    nonce: [u8; 12],
    aad: &[u8],
    sealed: &[u8],
) -> Option<Vec<u8>> {
    let payload = Payload { msg: sealed, aad };
    Aes256Gcm::new(&(*key).into())
        .decrypt(&nonce.into(), payload)
        .ok()
}

/// The nonce of a section's chunk, E17.
pub(crate) fn chunk_nonce(number: u32, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

/// One section of a header under the attacker's hands.
#[derive(Clone)]
pub(crate) struct RawSection {
    pub(crate) label: [u8; 32],
    pub(crate) padded: u64,
    pub(crate) chunks: u32,
    pub(crate) kc: [u8; 32],
}

/// A header whose every field the attacker sets: E15 and E16.
#[derive(Clone)]
pub(crate) struct RawHeader {
    pub(crate) consortium: ConsortiumId,
    pub(crate) author: [u8; 32],
    pub(crate) institution: u32,
    pub(crate) nonce: [u8; 32],
    pub(crate) u: [u8; 96],
    pub(crate) sections: Vec<RawSection>,
    pub(crate) v: [u8; 48],
}

impl RawHeader {
    /// Takes a header apart.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let at = |from: usize, to: usize| bytes[from..to].to_vec();
        let count = usize::from(bytes[202]);
        let commitments = 203 + 44 * count;
        let sections = (0..count)
            .map(|place| {
                let start = 203 + 44 * place;
                RawSection {
                    label: at(start, start + 32).try_into().unwrap(),
                    padded: u64::from_be_bytes(at(start + 32, start + 40).try_into().unwrap()),
                    chunks: u32::from_be_bytes(at(start + 40, start + 44).try_into().unwrap()),
                    kc: at(commitments + 32 * place, commitments + 32 * place + 32)
                        .try_into()
                        .unwrap(),
                }
            })
            .collect();
        let v = commitments + 32 * count;
        Self {
            consortium: ConsortiumId::new(at(6, 38).try_into().unwrap()),
            author: at(38, 70).try_into().unwrap(),
            institution: u32::from_be_bytes(at(70, 74).try_into().unwrap()),
            nonce: at(74, 106).try_into().unwrap(),
            u: at(106, 202).try_into().unwrap(),
            sections,
            v: at(v, v + 48).try_into().unwrap(),
        }
    }

    /// HC.
    pub(crate) fn hc(&self) -> Vec<u8> {
        let mut out = b"WEMD\x01\x01".to_vec();
        out.extend_from_slice(self.consortium.as_bytes());
        out.extend_from_slice(&self.author);
        out.extend_from_slice(&self.institution.to_be_bytes());
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.u);
        out.push(self.sections.len() as u8);
        for section in &self.sections {
            out.extend_from_slice(&section.label);
            out.extend_from_slice(&section.padded.to_be_bytes());
            out.extend_from_slice(&section.chunks.to_be_bytes());
        }
        out
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.hc();
        for section in &self.sections {
            out.extend_from_slice(&section.kc);
        }
        out.extend_from_slice(&self.v);
        out
    }

    /// H1_U(HC).
    pub(crate) fn hashed(&self) -> G1Projective {
        h1("U", &[&self.hc()])
    }

    /// The data key and the key commitment of a section for HT(K).
    pub(crate) fn keys(&self, place: usize, prk: &[u8; 32]) -> ([u8; 32], [u8; 32]) {
        let hc = sha(&self.hc());
        let index = be(place as u64);
        let parts: [&[u8]; 3] = [&hc, &index, &self.sections[place].label];
        (expand(prk, "DATA", &parts), expand(prk, "COMMIT", &parts))
    }
}
