//! Codes that people copy from one screen to another: a patient's inbox, a hospital's UID.

use scheme::{InboxHandle, Uid};

use crate::error::{WorkError, not};

/// A patient's or an agent's inbox as a doctor types it: handle and salt in 64 hexadecimal digits.
pub fn inbox_to_text((handle, salt): &(InboxHandle, [u8; 16])) -> String {
    format!("{}{}", hex::encode(handle.as_bytes()), hex::encode(salt))
}

/// The inbox of such a code. Spaces and dashes between its digits do not matter.
///
/// # Errors
/// [`WorkError::Not`] if it is none.
pub fn inbox_from_text(text: &str) -> Result<(InboxHandle, [u8; 16]), WorkError> {
    let separator = |c: char| c == '-' || c.is_whitespace();
    let digits: String = text.chars().filter(|c| !separator(*c)).collect();
    let mut bytes = [0; 32];
    if hex::decode_to_slice(&digits, &mut bytes).is_err() {
        return not(
            "an inbox's code has 64 hexadecimal digits, as the patient's or the agent's program shows it: scan it again, or copy it whole",
        );
    }
    let (mut handle, mut salt) = ([0; 16], [0; 16]);
    handle.copy_from_slice(&bytes[..16]);
    salt.copy_from_slice(&bytes[16..]);
    Ok((InboxHandle::new(handle), salt))
}

/// A UID as a hospital gives it.
///
/// # Errors
/// [`WorkError::Not`] if it is none.
pub fn uid_from_text(text: &str) -> Result<Uid, WorkError> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits {
        return not("a UID has 16 hexadecimal digits, as the hospital gave it");
    }
    Ok(Uid::new(text.to_ascii_lowercase().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_copy_it() {
        let code = "00112233 44556677-8899aabb\nccddeeff00112233445566778899aabbccddeeff";
        let inbox = inbox_from_text(code).unwrap();
        assert_eq!(inbox.0.as_bytes(), &inbox.1);
        let plain = code.replace([' ', '-', '\n'], "");
        assert_eq!(inbox_to_text(&inbox), plain);
        for wrong in ["", "0011", &plain[1..], &plain.replace('0', "z")] {
            assert!(inbox_from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_uid_is_16_digits_and_nothing_else() {
        let uid = uid_from_text("00112233445566AA").unwrap();
        assert_eq!(uid.as_bytes(), b"00112233445566aa");
        for wrong in ["", "0011", "00112233445566zz", "00112233445566aa1"] {
            assert!(uid_from_text(wrong).is_err(), "{wrong}");
        }
    }
}
