//! AES-GCM does not commit to its key: one ciphertext and tag that two keys open (Dodis, Grubbs,
//! Ristenpart, Woodage, *Fast Message Franking: From Invisible Salamanders to Encryptment*, 2018).

use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};

/// A ciphertext with tag that opens under both keys with the same nonce and AAD. `plain` is what the
/// first key gives up to the last block of 16 bytes, which comes out of the equation; the second key
/// gives what comes.
pub(crate) fn collide(keys: [&[u8; 32]; 2], nonce: [u8; 12], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    assert!(plain.len().is_multiple_of(16));
    let sides: Vec<Side> = keys.iter().map(|key| Side::new(key, nonce)).collect();
    let mut ciphertext: Vec<u8> = plain
        .chunks(16)
        .enumerate()
        .flat_map(|(place, block)| {
            let stream = sides[0].stream(place as u32 + 2);
            block
                .iter()
                .zip(stream)
                .map(|(byte, other)| byte ^ other)
                .collect::<Vec<_>>()
        })
        .collect();
    // tag = GHASH_H(AAD, C, lengths) + E(J0) is linear in the last block X, which stands two powers
    // of H from the end: rest_1 + X H_1^2 + e_1 = rest_2 + X H_2^2 + e_2.
    ciphertext.extend_from_slice(&[0; 16]);
    let rests: Vec<u128> = sides
        .iter()
        .map(|side| side.ghash(aad, &ciphertext) ^ side.first)
        .collect();
    let squares: Vec<u128> = sides.iter().map(|side| times(side.h, side.h)).collect();
    let x = times(rests[0] ^ rests[1], inverse(squares[0] ^ squares[1]));
    let last = ciphertext.len() - 16;
    ciphertext[last..].copy_from_slice(&x.to_be_bytes());
    let tag = sides[0].ghash(aad, &ciphertext) ^ sides[0].first;
    assert_eq!(tag, sides[1].ghash(aad, &ciphertext) ^ sides[1].first);
    ciphertext.extend_from_slice(&tag.to_be_bytes());
    ciphertext
}

/// One key's view: H = E(0), E(J0) and the key stream.
struct Side {
    cipher: Aes256,
    nonce: [u8; 12],
    h: u128,
    first: u128,
}

impl Side {
    fn new(key: &[u8; 32], nonce: [u8; 12]) -> Self {
        let cipher = Aes256::new(&(*key).into());
        let mut side = Self {
            cipher,
            nonce,
            h: 0,
            first: 0,
        };
        side.h = u128::from_be_bytes(side.block([0; 16]));
        side.first = u128::from_be_bytes(side.stream(1));
        side
    }

    fn block(&self, input: [u8; 16]) -> [u8; 16] {
        let mut block = input.into();
        self.cipher.encrypt_block(&mut block);
        block.into()
    }

    fn stream(&self, counter: u32) -> [u8; 16] {
        let mut input = [0; 16];
        input[..12].copy_from_slice(&self.nonce);
        input[12..].copy_from_slice(&counter.to_be_bytes());
        self.block(input)
    }

    fn ghash(&self, aad: &[u8], ciphertext: &[u8]) -> u128 {
        let lengths = (aad.len() as u128 * 8) << 64 | (ciphertext.len() as u128 * 8);
        let mut acc = 0;
        for part in [aad, ciphertext] {
            for chunk in part.chunks(16) {
                let mut block = [0; 16];
                block[..chunk.len()].copy_from_slice(chunk);
                acc = times(acc ^ u128::from_be_bytes(block), self.h);
            }
        }
        times(acc ^ lengths, self.h)
    }
}

/// The product in GCM's field, whose bits run from the most significant one.
fn times(x: u128, y: u128) -> u128 {
    let (mut product, mut power) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= power;
        }
        let carry = power & 1;
        power >>= 1;
        if carry == 1 {
            power ^= 0xe1 << 120;
        }
    }
    product
}

/// x^(2^128 - 2).
fn inverse(x: u128) -> u128 {
    let one = 1 << 127;
    let (mut product, mut square) = (one, x);
    for _ in 1..128 {
        square = times(square, square);
        product = times(product, square);
    }
    assert_eq!(times(product, x), one);
    product
}
