//! CKA_EC_POINT of an Ed25519 key.

/// PKCS#11 3.0, 2.3.5: the 32 bytes of RFC 8032 in a DER OCTET STRING. Some tokens give the bare bytes.
/// Nothing else is a point of this curve: not a compressed or uncompressed point of another one, nor
/// DER in a form of length that DER does not allow.
pub(crate) fn public_key(point: &[u8]) -> Option<[u8; 32]> {
    match point {
        [0x04, 0x20, key @ ..] if key.len() == 32 => key.try_into().ok(),
        key => key.try_into().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_octet_string_of_32_bytes_or_the_bare_bytes_are_a_point() {
        let key: Vec<u8> = (0..32).collect();
        let wrapped = [&[0x04, 0x20], key.as_slice()].concat();
        assert_eq!(
            public_key(&wrapped).as_ref().map(<[u8; 32]>::as_slice),
            Some(&key[..])
        );
        assert_eq!(
            public_key(&key).as_ref().map(<[u8; 32]>::as_slice),
            Some(&key[..])
        );
        // Bare bytes that begin as an octet string does are still bare bytes.
        let bare = [&[0x04, 0x20], &key[..30]].concat();
        assert_eq!(
            public_key(&bare).as_ref().map(<[u8; 32]>::as_slice),
            Some(&bare[..])
        );
    }

    #[test]
    fn nothing_else_is_a_point() {
        let key = [7; 32];
        let with = |before: &[u8], after: &[u8]| [before, &key, after].concat();
        let hostile = [
            vec![],
            vec![0x04],
            vec![0x04, 0x20],
            key[..31].to_vec(),
            with(&[], &[0]),
            with(&[0x04, 0x1f], &[]),
            with(&[0x04, 0x21], &[]),
            with(&[0x04, 0x20], &[0]),
            // The long form of the length, a BIT STRING, an indefinite length.
            with(&[0x04, 0x81, 0x20], &[]),
            with(&[0x03, 0x21, 0x00], &[]),
            with(&[0x24, 0x80, 0x04, 0x20], &[0, 0]),
            // Ed448, P-256 compressed and not, in their octet strings.
            [&[0x04, 0x39][..], &[7; 57]].concat(),
            with(&[0x02], &[]),
            [&[0x04, 0x41, 0x04][..], &[7; 64]].concat(),
        ];
        for point in hostile {
            assert_eq!(public_key(&point), None, "{point:02x?}");
        }
    }

    proptest! {
        #[test]
        fn only_these_two_lengths_are_taken(point in proptest::collection::vec(any::<u8>(), 0..80)) {
            let found = public_key(&point);
            match point.len() {
                32 => prop_assert!(found.is_some()),
                34 => prop_assert_eq!(found.is_some(), point.starts_with(&[0x04, 0x20])),
                _ => prop_assert!(found.is_none()),
            }
        }
    }
}
