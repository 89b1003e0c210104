//! The literal constructions: the paper's equations as they stand, or a published scheme where the
//! paper gives none, moved to a pairing with two source groups. They are what is attacked first.

use blstrs::{G1Projective, G2Projective, Gt, Scalar};
use ff::Field;
use rand_chacha::ChaCha20Rng;

use crate::model::{e, g1, g2, ht, prf, scalar};

/// H of the paper: a keyword, a pseudonym or both, hashed to G1.
pub(crate) fn h(text: &[u8]) -> G1Projective {
    G1Projective::hash_to_curve(text, b"THE-PAPERS-H", &[])
}

/// Equation (11), IndexGen: H(W)^r, H(PID)^r, pk^r.
pub(crate) struct PaperIndex {
    pub(crate) keyword: G1Projective,
    pub(crate) pid: G1Projective,
    pub(crate) key: G2Projective,
}

impl PaperIndex {
    pub(crate) fn generate(
        pk: &G2Projective,
        word: &[u8],
        pid: &[u8],
        rng: &mut ChaCha20Rng,
    ) -> Self {
        let r = scalar(rng);
        Self {
            keyword: h(word) * r,
            pid: h(pid) * r,
            key: pk * r,
        }
    }
}

/// Boneh, Di Crescenzo, Ostrovsky, Persiano, *Public Key Encryption with Keyword Search*, 2004:
/// (g2^r, H2(e(H(w), X)^r)).
pub(crate) struct Peks {
    u: G2Projective,
    tag: [u8; 32],
}

impl Peks {
    pub(crate) fn seal(x: &G2Projective, word: &[u8], rng: &mut ChaCha20Rng) -> Self {
        let r = scalar(rng);
        Self {
            u: g2() * r,
            tag: ht(&(h(word) * r), x),
        }
    }

    /// Equation (13) with a trapdoor H(w)^x.
    pub(crate) fn matches(&self, trapdoor: &G1Projective) -> bool {
        ht(trapdoor, &self.u) == self.tag
    }
}

/// Ateniese, Fu, Green, Hohenberger, *Improved Proxy Re-encryption Schemes with Applications to
/// Secure Distributed Storage*, 2005 (journal 2006), the third attempt of its section 3: the
/// unidirectional pairing scheme that equations (9) and (14) to (16) describe from outside.
/// Z = e(g1, g2); the owner's key is Z^a, the reader's g1^b.
#[derive(Clone)]
pub(crate) struct Afgh {
    /// g2^k.
    pub(crate) u: G2Projective,
    /// m Z^(a k).
    pub(crate) masked: Gt,
}

impl Afgh {
    /// (9) MDEnc, a ciphertext of the second level.
    pub(crate) fn encrypt(owner: &Gt, message: &Gt, rng: &mut ChaCha20Rng) -> Self {
        let k = scalar(rng);
        Self {
            u: g2() * k,
            masked: message + owner * k,
        }
    }

    /// (14) RKGen: (g1^b)^a. It has no condition.
    pub(crate) fn rekey(a: &Scalar, reader: &G1Projective) -> G1Projective {
        reader * a
    }

    /// (15) ReEnc: e(RK, g2^k) = Z^(a b k).
    pub(crate) fn reencrypt(rk: &G1Projective, u: &G2Projective) -> Gt {
        e(rk, u)
    }

    /// (16) Dec by the reader.
    pub(crate) fn open(&self, reencrypted: &Gt, b: &Scalar) -> Gt {
        self.masked - reencrypted * b.invert().unwrap()
    }

    /// What whoever holds g1^a reads.
    pub(crate) fn open_with(&self, weak_secret: &G1Projective) -> Gt {
        self.masked - e(weak_secret, &self.u)
    }
}

/// Equation (8), NameGen: the patient hands SK_aes to each doctor, who computes the pseudonym from it.
pub(crate) struct NameGen {
    pub(crate) sk_aes: [u8; 32],
}

impl NameGen {
    /// What a doctor is handed: it depends on nobody.
    pub(crate) fn hand_over(&self, _institution: u64, _doctor: u64) -> [u8; 32] {
        self.sk_aes
    }

    /// PID = H(SK_aes, UID), from what was handed over.
    pub(crate) fn pseudonym(handed: &[u8; 32], uid: &[u8]) -> [u8; 32] {
        prf(handed, "PIDN", &[uid])
    }
}

/// A random message of GT.
pub(crate) fn message(rng: &mut ChaCha20Rng) -> Gt {
    e(&g1(), &g2()) * scalar(rng)
}

/// Shamir in G1 for nodes 1 .. n, without commitments.
pub(crate) fn shamir(
    secret: &G1Projective,
    threshold: usize,
    nodes: u64,
    rng: &mut ChaCha20Rng,
) -> Vec<G1Projective> {
    let coefficients: Vec<G1Projective> = (1..threshold).map(|_| g1() * scalar(rng)).collect();
    (1..=nodes)
        .map(|m| {
            coefficients
                .iter()
                .rev()
                .fold(None, |acc: Option<G1Projective>, coefficient| {
                    Some(acc.map_or(*coefficient, |acc| acc * Scalar::from(m) + coefficient))
                })
                .map_or(*secret, |acc| acc * Scalar::from(m) + secret)
        })
        .collect()
}

/// Lagrange's coefficients at zero for these nodes.
pub(crate) fn lagrange(nodes: &[u64]) -> Vec<Scalar> {
    nodes
        .iter()
        .map(|m| {
            nodes
                .iter()
                .filter(|k| *k != m)
                .fold(Scalar::ONE, |acc, k| {
                    let (k, m) = (Scalar::from(*k), Scalar::from(*m));
                    acc * k * (k - m).invert().unwrap()
                })
        })
        .collect()
}
