//! The only file that names the pairing library (`spec/scheme.md` section 1.3).
//!
//! G1, G2 and GT of BLS12-381, prime order p, written multiplicatively as in the spec. Points are
//! never the identity and always in the subgroup, scalars are never zero, also after combining:
//! whatever could leave that range returns an `Option` or an error. `e` is blst's value.
//!
//! Known imperfections: the pairing library is constant-time for products with secret scalars as
//! far as blst is; [`Gt::power`] is not, and is used with public exponents only. Secret values are
//! overwritten on drop; copies that the library leaves on the stack are out of reach.

use std::fmt;
use std::hint::black_box;

use blst::{blst_fp12, blst_fr, blst_scalar};
use blstrs::{G1Affine, G1Projective, G2Affine, G2Projective, Scalar as Fr};
use ff::Field;
use group::prime::PrimeCurveAffine;
use group::{Curve, Group};
use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use crate::encoding::DecodeError;
use crate::hash::RANDOM;

/// Bytes of a compressed G1 point.
pub(crate) const G1_BYTES: usize = 48;
/// Bytes of a compressed G2 point.
pub(crate) const G2_BYTES: usize = 96;
/// Bytes of `enc_GT`: twelve coefficients of 48 bytes.
pub(crate) const GT_BYTES: usize = 576;

/// A non-zero element of Zp. Wiped on drop, compared in constant time, without Debug.
#[derive(Clone)]
pub(crate) struct Scalar(Zeroizing<[u64; 4]>);

impl Scalar {
    /// Hs: expand_message_xmd to 48 bytes, reduced; `None` for 0.
    pub(crate) fn hash(message: &[u8], dst: &[u8]) -> Option<Self> {
        let mut reduced = blst_scalar::hash_to(message, dst)?;
        let fr = Option::<Fr>::from(Fr::from_bytes_le(&reduced.b));
        reduced.b.zeroize();
        fr.and_then(Self::from_fr)
    }

    /// Uniform but for a bias below 2^-128: 48 random bytes through the same reduction as `hash`.
    pub(crate) fn random(rng: &mut impl CryptoRng) -> Self {
        loop {
            let mut wide = Zeroizing::new([0; 48]);
            rng.fill_bytes(wide.as_mut_slice());
            if let Some(scalar) = Self::hash(wide.as_slice(), &RANDOM.scalar_dst()) {
                return scalar;
            }
        }
    }

    /// A random scalar below 2^128, for the weights of a batched check.
    pub(crate) fn random_weight(rng: &mut impl CryptoRng) -> Self {
        loop {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes[..16]);
            if let Some(scalar) =
                Option::<Fr>::from(Fr::from_bytes_le(&bytes)).and_then(Self::from_fr)
            {
                return scalar;
            }
        }
    }

    /// The small integer `number`; `None` for 0.
    pub(crate) fn small(number: u64) -> Option<Self> {
        Self::from_fr(Fr::from(number))
    }

    /// From 32 bytes, big-endian.
    pub(crate) fn from_bytes(what: &'static str, bytes: &[u8; 32]) -> Result<Self, DecodeError> {
        let fr = Option::<Fr>::from(Fr::from_bytes_be(bytes)).ok_or(DecodeError::Invalid {
            what,
            why: "it is not below the group's order",
        })?;
        Self::from_fr(fr).ok_or(DecodeError::Invalid {
            what,
            why: "it is zero",
        })
    }

    /// 32 bytes, big-endian.
    pub(crate) fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.fr().to_bytes_be())
    }

    /// The inverse.
    pub(crate) fn inverse(&self) -> Self {
        let inverse =
            Option::<Fr>::from(self.fr().invert()).expect("a non-zero scalar has an inverse");
        Self::from_fr(inverse).expect("an inverse is not zero")
    }

    /// The product; never zero in a field.
    pub(crate) fn times(&self, other: &Self) -> Self {
        Self::from_fr(self.fr() * other.fr()).expect("a field has no divisors of zero")
    }

    /// The sum; `None` if it is zero.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        Self::from_fr(self.fr() + other.fr())
    }

    /// The difference; `None` if it is zero.
    pub(crate) fn minus(&self, other: &Self) -> Option<Self> {
        Self::from_fr(self.fr() - other.fr())
    }

    fn from_fr(fr: Fr) -> Option<Self> {
        if bool::from(fr.is_zero()) {
            return None;
        }
        Some(Self(Zeroizing::new(blst_fr::from(fr).l)))
    }

    fn fr(&self) -> Fr {
        Fr::from(blst_fr { l: *self.0 })
    }
}

impl ConstantTimeEq for Scalar {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

macro_rules! point {
    ($(#[$doc:meta])* $name:ident, $affine:ident, $projective:ident, $bytes:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub(crate) struct $name($affine);

        impl Drop for $name {
            fn drop(&mut self) {
                // Points can be secrets (trapdoors, re-encryption keys). The barrier keeps the
                // overwriting from being optimised away.
                self.0 = $affine::generator();
                black_box(&mut self.0);
            }
        }

        impl $name {
            /// From a compressed encoding: canonical, on the curve, in the subgroup, not the identity.
            pub(crate) fn from_bytes(what: &'static str, bytes: &[u8; $bytes]) -> Result<Self, DecodeError> {
                let point = Option::<$affine>::from($affine::from_compressed_unchecked(bytes)).ok_or(
                    DecodeError::Invalid { what, why: "it is no compressed point of the curve" },
                )?;
                if bool::from(point.is_identity()) {
                    return Err(DecodeError::Invalid { what, why: "it is the identity" });
                }
                if !bool::from(point.is_torsion_free()) {
                    return Err(DecodeError::Invalid { what, why: "it is outside the subgroup" });
                }
                Ok(Self(point))
            }

            /// The compressed encoding.
            pub(crate) fn to_bytes(&self) -> [u8; $bytes] {
                self.0.to_compressed()
            }

            /// The generator.
            #[allow(dead_code, reason = "only one of the two groups' generators is used by itself")]
            pub(crate) fn generator() -> Self {
                Self($affine::generator())
            }

            /// The point to a non-zero power; never the identity in a group of prime order.
            pub(crate) fn power(&self, exponent: &Scalar) -> Self {
                Self((self.0 * exponent.fr()).to_affine())
            }

            /// The point to a small public power, in a sequence of steps that depends on the power
            /// only; `None` if it is the identity, as for the power 0.
            #[allow(dead_code, reason = "only shares, which are in G1, are made by small powers")]
            pub(crate) fn small_power(&self, exponent: u8) -> Option<Self> {
                let mut acc = $projective::identity();
                for bit in (0..8).rev() {
                    acc = acc.double();
                    if exponent >> bit & 1 == 1 {
                        acc += self.0;
                    }
                }
                Self::from_projective(acc)
            }

            /// The product; `None` if it is the identity.
            pub(crate) fn times(&self, other: &Self) -> Option<Self> {
                Self::from_projective($projective::from(self.0) + other.0)
            }

            /// The quotient; `None` if it is the identity.
            #[allow(dead_code, reason = "only G2 quotients are taken")]
            pub(crate) fn over(&self, other: &Self) -> Option<Self> {
                Self::from_projective($projective::from(self.0) - $projective::from(other.0))
            }

            /// prod bases^exponents; `None` if it is the identity or nothing is given.
            #[allow(dead_code, reason = "only G1 products are batched")]
            pub(crate) fn product(terms: &[(&Self, &Scalar)]) -> Option<Self> {
                let mut sum = $projective::identity();
                for (base, exponent) in terms {
                    sum += base.0 * exponent.fr();
                }
                Self::from_projective(sum)
            }

            fn from_projective(point: $projective) -> Option<Self> {
                if bool::from(point.is_identity()) {
                    return None;
                }
                Some(Self(point.to_affine()))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.to_bytes() == other.to_bytes()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

point!(
    /// A point of G1, not the identity.
    G1, G1Affine, G1Projective, G1_BYTES
);
point!(
    /// A point of G2, not the identity.
    G2, G2Affine, G2Projective, G2_BYTES
);

impl G1 {
    /// RFC 9380 hash_to_curve. The identity has a chance of 2^-255 and no known input.
    pub(crate) fn hash(message: &[u8], dst: &[u8]) -> Self {
        Self::from_projective(G1Projective::hash_to_curve(message, dst, &[]))
            .expect("no message is known that hashes to the identity")
    }
}

impl G2 {
    /// g2 to a power.
    pub(crate) fn generator_power(exponent: &Scalar) -> Self {
        Self::generator().power(exponent)
    }
}

/// An element of GT, of order p, not 1. Wiped on drop.
#[derive(Clone)]
pub(crate) struct Gt(blst_fp12);

impl Drop for Gt {
    fn drop(&mut self) {
        for limbs in limbs_mut(&mut self.0) {
            limbs.zeroize();
        }
    }
}

impl fmt::Debug for Gt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gt")
    }
}

impl PartialEq for Gt {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes()
            .as_slice()
            .ct_eq(other.to_bytes().as_slice())
            .into()
    }
}

impl Eq for Gt {}

/// e(P, Q). Never 1, since neither point is the identity and the orders are prime.
pub(crate) fn pairing(p: &G1, q: &G2) -> Gt {
    Gt(blst_fp12::miller_loop(q.0.as_ref(), p.0.as_ref()).final_exp())
}

/// Whether e(p, q) = e(r, s), with one final exponentiation.
pub(crate) fn pairings_equal(p: &G1, q: &G2, r: &G1, s: &G2) -> bool {
    let left = blst_fp12::miller_loop(q.0.as_ref(), p.0.as_ref());
    let right = blst_fp12::miller_loop(s.0.as_ref(), r.0.as_ref());
    blst_fp12::finalverify(&left, &right)
}

impl Gt {
    /// From `enc_GT` (E6): coefficients below the field's prime, in the subgroup, not 1.
    pub(crate) fn from_bytes(
        what: &'static str,
        bytes: &[u8; GT_BYTES],
    ) -> Result<Self, DecodeError> {
        let mut raw = blst_fp12::default();
        for (coefficient, limbs) in bytes.chunks_exact(48).zip(limbs_mut(&mut raw)) {
            if coefficient >= FIELD_PRIME.as_slice() {
                return Err(DecodeError::Invalid {
                    what,
                    why: "a coefficient is not below the field's prime",
                });
            }
            for (limb, eight) in limbs.iter_mut().rev().zip(coefficient.chunks_exact(8)) {
                *limb = u64::from_be_bytes(eight.try_into().expect("chunks of eight bytes"));
            }
        }
        // The library's limbs are in Montgomery form (x * 2^384). `raw` holds the integers
        // themselves; one product with the element whose limbs are 2^768 mod q brings all twelve
        // into that form.
        let mut to_montgomery = blst_fp12::default();
        for limbs in limbs_mut(&mut to_montgomery) {
            *limbs = [0; 6];
        }
        to_montgomery.fp6[0].fp2[0].fp[0].l = MONTGOMERY_SQUARED;
        let value = Self(raw * to_montgomery);
        if !value.0.in_group() {
            return Err(DecodeError::Invalid {
                what,
                why: "it is outside the subgroup",
            });
        }
        value.unless_one().ok_or(DecodeError::Invalid {
            what,
            why: "it is the identity",
        })
    }

    /// `enc_GT` (E6): twelve coefficients of 48 bytes big-endian, c0.c0.c0, c0.c0.c1, c0.c1.c0, ...,
    /// c1.c2.c1.
    pub(crate) fn to_bytes(&self) -> Zeroizing<[u8; GT_BYTES]> {
        let library = Zeroizing::new(self.0.to_bendian());
        let mut out = Zeroizing::new([0; GT_BYTES]);
        // The library writes Fp12 as pairs of Fp6 coefficients interleaved; ours is depth first.
        for (ours, theirs) in LIBRARY_ORDER.iter().enumerate() {
            out[ours * 48..ours * 48 + 48].copy_from_slice(&library[theirs * 48..theirs * 48 + 48]);
        }
        out
    }

    /// The product; `None` if it is 1.
    pub(crate) fn times(&self, other: &Self) -> Option<Self> {
        Self(self.0 * other.0).unless_one()
    }

    /// The quotient; `None` if it is 1.
    pub(crate) fn over(&self, other: &Self) -> Option<Self> {
        self.times(&other.inverse())
    }

    /// A public power, in variable time.
    pub(crate) fn power(&self, exponent: &Scalar) -> Self {
        Self::product(&[(self, exponent)])
            .expect("a non-zero power in a group of prime order is not 1")
    }

    /// prod bases^exponents with shared squarings, in variable time, for public exponents; `None`
    /// if it is 1 or nothing is given.
    pub(crate) fn product(terms: &[(&Self, &Scalar)]) -> Option<Self> {
        let exponents: Vec<Zeroizing<[u8; 32]>> = terms
            .iter()
            .map(|(_, exponent)| exponent.to_bytes())
            .collect();
        let mut acc = blst_fp12::default();
        let mut started = false;
        for bit in 0..256 {
            if started {
                acc *= acc;
            }
            for ((base, _), exponent) in terms.iter().zip(&exponents) {
                if exponent[bit / 8] >> (7 - bit % 8) & 1 == 1 {
                    acc *= base.0;
                    started = true;
                }
            }
        }
        Self(acc).unless_one()
    }

    /// The inverse, which in GT is the conjugate over Fp6.
    fn inverse(&self) -> Self {
        let mut bytes = *self.to_bytes();
        for coefficient in bytes[GT_BYTES / 2..].chunks_exact_mut(48) {
            negate(coefficient);
        }
        let inverse = Self::from_bytes("inverse", &bytes)
            .expect("the conjugate of an element of GT is in GT");
        bytes.zeroize();
        inverse
    }

    fn unless_one(self) -> Option<Self> {
        if self.0 == blst_fp12::default() {
            None
        } else {
            Some(self)
        }
    }
}

/// q - x for 0 < x < q, and 0 for 0; big-endian.
fn negate(coefficient: &mut [u8]) {
    if coefficient.iter().all(|byte| *byte == 0) {
        return;
    }
    let mut borrow = 0i16;
    for (byte, prime) in coefficient.iter_mut().zip(&FIELD_PRIME).rev() {
        let difference = i16::from(*prime) - i16::from(*byte) - borrow;
        borrow = i16::from(difference < 0);
        *byte = (difference & 0xff) as u8;
    }
}

/// The twelve coefficients' limbs in the order of `enc_GT`.
fn limbs_mut(value: &mut blst_fp12) -> impl Iterator<Item = &mut [u64; 6]> {
    value
        .fp6
        .iter_mut()
        .flat_map(|fp6| fp6.fp2.iter_mut())
        .flat_map(|fp2| fp2.fp.iter_mut())
        .map(|fp| &mut fp.l)
}

/// Where the library's serialisation holds the coefficient that ours holds at each place.
const LIBRARY_ORDER: [usize; 12] = [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11];

/// q, the prime of the base field, big-endian.
const FIELD_PRIME: [u8; 48] = [
    0x1a, 0x01, 0x11, 0xea, 0x39, 0x7f, 0xe6, 0x9a, 0x4b, 0x1b, 0xa7, 0xb6, 0x43, 0x4b, 0xac, 0xd7,
    0x64, 0x77, 0x4b, 0x84, 0xf3, 0x85, 0x12, 0xbf, 0x67, 0x30, 0xd2, 0xa0, 0xf6, 0xb0, 0xf6, 0x24,
    0x1e, 0xab, 0xff, 0xfe, 0xb1, 0x53, 0xff, 0xff, 0xb9, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xaa, 0xab,
];

/// 2^768 mod q, little-endian limbs: the factor that turns an integer into Montgomery form.
const MONTGOMERY_SQUARED: [u64; 6] = [
    0xf4df_1f34_1c34_1746,
    0x0a76_e6a6_09d1_04f1,
    0x8de5_476c_4c95_b6d5,
    0x67eb_88a9_939d_83c0,
    0x9a79_3e85_b519_952d,
    0x1198_8fe5_92ca_e3aa,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn scalar(byte: u8) -> Scalar {
        Scalar::random(&mut ChaCha20Rng::from_seed([byte; 32]))
    }

    #[test]
    fn gt_encoding_is_the_one_of_the_spec() {
        let generator = pairing(&G1::generator(), &G2::generator());
        let digest = sha256(generator.to_bytes().as_slice()).to_string();
        // The value that an independent library gives for the same order of coefficients.
        assert_eq!(
            digest,
            "06fa588b89fdfb034dbc1c163ecb3dfac228f552b643c7294cc5f2c4dc170b84"
        );
    }

    #[test]
    fn gt_round_trips_and_inverts() {
        let value = pairing(&G1::generator().power(&scalar(1)), &G2::generator());
        let decoded = Gt::from_bytes("value", &value.to_bytes()).unwrap();
        assert!(decoded == value);
        assert!(value.over(&value).is_none());
        let other = pairing(&G1::generator(), &G2::generator());
        assert!(value.times(&other).unwrap().over(&other).unwrap() == value);
    }

    #[test]
    fn pairing_is_bilinear_and_powers_agree() {
        let (a, b) = (scalar(2), scalar(3));
        let left = pairing(&G1::generator().power(&a), &G2::generator_power(&b));
        let right = pairing(&G1::generator(), &G2::generator()).power(&a.times(&b));
        assert!(left == right);
        assert!(pairings_equal(
            &G1::generator().power(&a),
            &G2::generator_power(&b),
            &G1::generator().power(&b),
            &G2::generator_power(&a)
        ));
    }

    #[test]
    fn gt_refuses_what_is_outside() {
        let mut one = [0; GT_BYTES];
        one[47] = 1;
        assert!(matches!(
            Gt::from_bytes("v", &one),
            Err(DecodeError::Invalid {
                why: "it is the identity",
                ..
            })
        ));
        let mut two = [0; GT_BYTES];
        two[47] = 2;
        assert!(matches!(
            Gt::from_bytes("v", &two),
            Err(DecodeError::Invalid {
                why: "it is outside the subgroup",
                ..
            })
        ));
        let mut big = *pairing(&G1::generator(), &G2::generator()).to_bytes();
        big[..48].copy_from_slice(&FIELD_PRIME);
        assert!(Gt::from_bytes("v", &big).is_err());
        assert!(Gt::from_bytes("v", &[0; GT_BYTES]).is_err());
    }

    #[test]
    fn points_refuse_identity_and_small_order() {
        let mut identity = [0; G1_BYTES];
        identity[0] = 0xc0;
        assert!(matches!(
            G1::from_bytes("p", &identity),
            Err(DecodeError::Invalid {
                why: "it is the identity",
                ..
            })
        ));
        // x = 4 is on E(Fq) and outside the subgroup of order p.
        let mut outside = [0; G1_BYTES];
        outside[0] = 0x80;
        outside[47] = 4;
        assert!(matches!(
            G1::from_bytes("p", &outside),
            Err(DecodeError::Invalid {
                why: "it is outside the subgroup",
                ..
            })
        ));
    }

    #[test]
    fn small_powers_are_powers() {
        let point = G1::generator().power(&scalar(5));
        for exponent in [1u8, 2, 3, 7, 128, 255] {
            let expected = point.power(&Scalar::small(u64::from(exponent)).unwrap());
            assert!(point.small_power(exponent).unwrap() == expected);
        }
        assert!(point.small_power(0).is_none());
    }

    #[test]
    fn scalars_refuse_zero_and_the_order() {
        assert!(Scalar::from_bytes("s", &[0; 32]).is_err());
        assert!(Scalar::from_bytes("s", &[0xff; 32]).is_err());
        let s = scalar(9);
        assert!(bool::from(
            Scalar::from_bytes("s", &s.to_bytes()).unwrap().ct_eq(&s)
        ));
        assert!(s.minus(&s).is_none());
        assert!(bool::from(
            s.times(&s.inverse()).ct_eq(&Scalar::small(1).unwrap())
        ));
    }
}
