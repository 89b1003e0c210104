//! Changed inputs, the same for the same seed on every machine.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part of it"
)]

/// A generator of numbers that gives the same ones for the same seed on every machine (xorshift64*).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }
}

/// Signs and openings that mean something in one of the formats.
const SIGNS: [&[u8]; 26] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"\\",
    b"\n",
    b"\r",
    b"|",
    b"^",
    b"~",
    b"&",
    b"<",
    b">",
    b"<a>",
    b"</component>",
    b"<![CDATA[",
    b"<!--",
    b"\0",
    b"\xff",
    b"[{\"a\":",
    b"\nMSH|^~\\&|",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\x08\x00\x32\x10SQ\0\0\xff\xff\xff\xff",
];

/// Changes a file in one to four ways, holes among them.
pub fn mutate(numbers: &mut Numbers, original: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        let end = (at + 1 + numbers.below(200)).min(bytes.len());
        match numbers.below(10) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = numbers.number() as u8;
                }
            }
            2 => drop(bytes.drain(at..end)),
            3 => {
                let span = bytes[at..end].to_vec();
                let to = numbers.below(bytes.len());
                bytes.splice(to..to, span);
            }
            4 => {
                let sign = SIGNS[numbers.below(SIGNS.len())];
                bytes.splice(at..at, sign.iter().copied());
            }
            5 => {
                let sign = SIGNS[numbers.below(SIGNS.len())];
                bytes.splice(at..at, sign.repeat(1 + numbers.below(300)));
            }
            // Lengths and counts beyond everything.
            6 => {
                for byte in bytes.iter_mut().skip(at).take(4) {
                    *byte = 0xff;
                }
            }
            7 => {
                let digits = vec![b'9'; 1 + numbers.below(40)];
                bytes.splice(at..at, digits);
            }
            8 => bytes[at..end].fill(0),
            _ => {
                for byte in &mut bytes[at..end] {
                    *byte ^= 1 << (numbers.number() % 8);
                }
            }
        }
    }
    bytes
}
