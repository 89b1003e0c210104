//! The paper's search as its equations (11) to (13) stand: every entry of the chain is tested against
//! the trapdoor. The paper gives (H(W)^r, H(PID)^r, pk^r) as an entry and leaves the test open; one
//! that decides with little is taken, T = H(W)^(1/x) and e(H(W)^r, g2) = e(T, pk^r), two Miller loops
//! with one final exponentiation. Beside it plain PEKS (Boneh et al., 2004), which the paper builds
//! on: (g2^r, HT(e(H(W), pk)^r)), one pairing an entry.
//!
//! Both are favoured: entries are decoded points in memory, H(PID)^r is left out.

use blst::blst_fp12;
use blstrs::{G1Affine, G1Projective, G2Affine, G2Projective, Scalar};
use ff::Field;
use group::{Curve, Group};
use sha2::{Digest, Sha256};

/// An entry of equation (11).
pub(crate) struct PaperEntry {
    keyword: G1Affine,
    key: G2Affine,
}

/// An entry of plain PEKS.
pub(crate) struct PeksEntry {
    u: G2Affine,
    tag: [u8; 32],
}

/// Both indices over the same keywords, and the trapdoors of one of them.
pub(crate) struct LiteralIndex {
    pub(crate) paper: Vec<PaperEntry>,
    pub(crate) peks: Vec<PeksEntry>,
    paper_trapdoor: G1Affine,
    peks_trapdoor: G1Affine,
}

impl LiteralIndex {
    /// `count` entries of different keywords; the trapdoors are of the last.
    pub(crate) fn new(count: usize) -> Self {
        let mut seed = 0u64;
        let x = random(&mut seed);
        let pk = G2Projective::generator() * x;
        let mut paper = Vec::with_capacity(count);
        let mut peks = Vec::with_capacity(count);
        for number in 0..count {
            let word = h(number);
            let r = random(&mut seed);
            paper.push(PaperEntry {
                keyword: (word * r).to_affine(),
                key: (pk * r).to_affine(),
            });
            peks.push(PeksEntry {
                u: (G2Projective::generator() * r).to_affine(),
                tag: ht(&e(&(word * r).to_affine(), &pk.to_affine())),
            });
        }
        let wanted = h(count - 1);
        let inverse = Option::<Scalar>::from(x.invert()).expect("x is not zero");
        Self {
            paper,
            peks,
            paper_trapdoor: (wanted * inverse).to_affine(),
            peks_trapdoor: (wanted * x).to_affine(),
        }
    }

    /// Equation (13) over the first `count` entries from the back: where the wanted one is.
    pub(crate) fn paper_scan(&self, count: usize) -> Vec<usize> {
        let g2 = G2Projective::generator().to_affine();
        let entries = &self.paper[self.paper.len() - count..];
        positions(entries, |entry| {
            let left = blst_fp12::miller_loop(g2.as_ref(), entry.keyword.as_ref());
            let right = blst_fp12::miller_loop(entry.key.as_ref(), self.paper_trapdoor.as_ref());
            blst_fp12::finalverify(&left, &right)
        })
    }

    /// The same over plain PEKS.
    pub(crate) fn peks_scan(&self, count: usize) -> Vec<usize> {
        let entries = &self.peks[self.peks.len() - count..];
        positions(entries, |entry| {
            ht(&e(&self.peks_trapdoor, &entry.u)) == entry.tag
        })
    }
}

/// e(P, Q), as bare as the library has it.
pub(crate) fn e(p: &G1Affine, q: &G2Affine) -> blst_fp12 {
    blst_fp12::miller_loop(q.as_ref(), p.as_ref()).final_exp()
}

fn positions<E>(entries: &[E], matches: impl Fn(&E) -> bool) -> Vec<usize> {
    entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| matches(entry))
        .map(|(place, _)| place)
        .collect()
}

fn h(number: usize) -> G1Projective {
    let word = format!("keyword {number}");
    G1Projective::hash_to_curve(word.as_bytes(), b"THE-PAPERS-H", &[])
}

fn ht(value: &blst_fp12) -> [u8; 32] {
    Sha256::digest(value.to_bendian()).into()
}

/// Scalars that differ; nothing here is secret.
fn random(seed: &mut u64) -> Scalar {
    *seed += 1;
    let mut bytes: [u8; 32] = Sha256::digest(seed.to_be_bytes()).into();
    bytes[0] = 0;
    Option::<Scalar>::from(Scalar::from_bytes_be(&bytes)).expect("below the group's order")
}
