//! Keys in SoftHSM 2, as an institution would use a hardware security module.
#![allow(clippy::unwrap_used, reason = "a test")]

mod soft_hsm;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{env, fs, thread};

use cryptoki::object::ObjectClass;
use scheme::{ConsortiumId, Context, HeldKey, Signer, SignerError, VerifyingKey};
use soft_hsm::{PIN, SoftHsm, in_its_own_process, module};
use token::{Token, TokenError};
use zeroize::Zeroizing;

const HERE: ConsortiumId = ConsortiumId::new([7; 32]);

fn uri(attributes: &str) -> String {
    let module = module();
    format!(
        "pkcs11:{attributes}?module-path={}&pin-source=pin",
        module.display()
    )
}

fn open_with(attributes: &str, pin: &str) -> Result<Token, TokenError> {
    let pin = pin.to_owned();
    Token::open(uri(attributes).parse().unwrap(), move || {
        Ok(Zeroizing::new(pin.clone()))
    })
}

fn open(attributes: &str) -> Result<Token, TokenError> {
    open_with(attributes, PIN)
}

fn refused(attributes: &str) -> TokenError {
    match open(attributes) {
        Ok(_) => panic!("{attributes} was opened"),
        Err(error) => error,
    }
}

fn key_of(point: &[u8]) -> VerifyingKey {
    // DER: an OCTET STRING of 32 bytes.
    VerifyingKey::new(
        point
            .strip_prefix(&[0x04, 0x20])
            .unwrap()
            .try_into()
            .unwrap(),
    )
}

#[test]
fn a_token_signs_by_the_consortium_s_rule() {
    in_its_own_process("a_token_signs_by_the_consortium_s_rule", |_| {
        let hsm = SoftHsm::start();
        let (slot, other) = (
            hsm.make_token("Hospital of Linz"),
            hsm.make_token("another"),
        );
        let key = key_of(&hsm.make_key(slot, "institution", &[1]));
        hsm.make_key(slot, "next", &[2]);
        hsm.make_key(other, "institution", &[1]);
        let serial = hsm.serial(slot);
        for attributes in [
            "token=Hospital%20of%20Linz;object=institution".to_owned(),
            "token=Hospital%20of%20Linz;id=%01".to_owned(),
            format!("serial={serial};object=institution;id=%01"),
            format!("slot-id={};object=institution", slot.id()),
        ] {
            let token = open(&attributes).unwrap();
            assert_eq!(token.verifying_key(), key, "{attributes}");
            assert_eq!(token.check(), Ok(()));
            let held = HeldKey::elsewhere(Arc::new(token));
            let parts: [&[u8]; 3] = [b"a", b"", &[0xff; 5000]];
            let signature = held.sign(Context::Transaction, &HERE, &parts).unwrap();
            let stands = |context, parts: &[&[u8]]| key.verify(context, &HERE, parts, &signature);
            assert_eq!(stands(Context::Transaction, &parts), Ok(()));
            assert!(stands(Context::Request, &parts).is_err());
            assert!(stands(Context::Transaction, &parts[..2]).is_err());
        }
        let held = HeldKey::elsewhere(Arc::new(open("token=another;id=%01").unwrap()));
        thread::scope(|scope| {
            for number in 0..8_u8 {
                let held = held.clone();
                scope.spawn(move || {
                    for round in 0..5 {
                        let parts: [&[u8]; 1] = [&[number, round]];
                        let signature = held.sign(Context::Call, &HERE, &parts).unwrap();
                        let public = held.verifying_key();
                        assert!(
                            public
                                .verify(Context::Call, &HERE, &parts, &signature)
                                .is_ok()
                        );
                    }
                });
            }
        });
    });
}

#[test]
fn what_does_not_fit_is_said_and_what_to_do() {
    in_its_own_process("what_does_not_fit_is_said_and_what_to_do", |_| {
        let hsm = SoftHsm::start();
        let slot = hsm.make_token("one");
        let point = hsm.make_key(slot, "institution", &[1]);
        let of = |found| TokenError::Tokens {
            found,
            key: "key \"institution\" in the token \"none\"".into(),
        };
        assert_eq!(refused("token=none;object=institution"), of(0));
        // The module began anew, to look again.
        let slot = hsm.slot("one");
        assert!(matches!(
            refused("object=x"),
            TokenError::Keys { found: 0, .. }
        ));
        assert!(matches!(
            refused("object=institution;id=%02"),
            TokenError::Keys { found: 0, .. }
        ));

        assert_eq!(
            open_with("object=institution", "471101").err(),
            Some(TokenError::WrongPin)
        );
        assert_eq!(
            open_with("object=institution", "1").err(),
            Some(TokenError::WrongPin)
        );
        let text = uri("object=institution");
        let no_pin = Token::open(text.parse().unwrap(), || Err("no PIN: write one".into()));
        assert_eq!(
            no_pin.err(),
            Some(TokenError::Pin("no PIN: write one".into()))
        );
        assert!(open("object=institution").is_ok());

        hsm.make_rsa_key(slot, "rsa", &[2]);
        assert!(matches!(refused("object=rsa"), TokenError::Kind(_)));
        hsm.make_key(slot, "institution", &[3]);
        let two = refused("object=institution");
        assert!(matches!(two, TokenError::Keys { found: 2, .. }), "{two}");
        assert!(
            two.to_string()
                .starts_with("2 private keys are as the URI says"),
            "{two}"
        );
        assert!(open("object=institution;id=%03").is_ok());

        // The private key's pair is gone; then another's public key stands in its place.
        hsm.remove(slot, ObjectClass::PUBLIC_KEY, &[3]);
        assert_eq!(refused("id=%03"), TokenError::PublicKeys(0));
        hsm.put_public_key(slot, "institution", &[3], &point);
        assert_eq!(refused("id=%03"), TokenError::WrongSignature);
        hsm.put_public_key(slot, "institution", &[3], &point);
        assert_eq!(refused("id=%03"), TokenError::PublicKeys(2));

        hsm.make_token("one");
        let two = refused("token=one;id=%01");
        assert!(matches!(two, TokenError::Tokens { found: 2, .. }), "{two}");

        for module in [
            Path::new("/no/such/module.so"),
            &env::current_exe().unwrap(),
        ] {
            let text = format!(
                "pkcs11:object=a?module-path={}&pin-source=p",
                module.display()
            );
            let opened = Token::open(text.parse().unwrap(), || Ok(Zeroizing::new(PIN.into())));
            assert!(matches!(opened.err(), Some(TokenError::Module(path, _)) if path == module));
        }
    });
}

#[test]
fn a_lost_session_is_opened_again_for_the_same_key_alone() {
    in_its_own_process(
        "a_lost_session_is_opened_again_for_the_same_key_alone",
        |folder| {
            let hsm = SoftHsm::start();
            let slot = hsm.make_token("one");
            hsm.make_key(slot, "institution", &[1]);
            let pin = Arc::new(Mutex::new(PIN.to_owned()));
            let source = Arc::clone(&pin);
            let token = Token::open(uri("object=institution").parse().unwrap(), move || {
                Ok(Zeroizing::new(source.lock().unwrap().clone()))
            });
            let held = HeldKey::elsewhere(Arc::new(token.unwrap()));
            let sign = || held.sign(Context::Call, &HERE, &[b"text"]).map(|_| ());
            assert_eq!((held.check(), sign()), (Ok(()), Ok(())));

            // Every session of the process is gone, seen by signing and by looking.
            hsm.stop();
            assert_eq!(sign(), Ok(()));
            SoftHsm::start().stop();
            assert_eq!((held.check(), sign()), (Ok(()), Ok(())));
            // Somebody logged out.
            let hsm = SoftHsm::start();
            hsm.session(hsm.slot("one")).logout().unwrap();
            assert_eq!(sign(), Ok(()));

            // The token is away, and comes back.
            let (tokens, away) = (folder.join("tokens"), folder.join("away"));
            hsm.stop();
            fs::rename(&tokens, &away).unwrap();
            fs::create_dir(&tokens).unwrap();
            let SignerError::Away(said) = sign().unwrap_err() else {
                panic!("a token that is away comes back");
            };
            assert!(said.starts_with("0 tokens are as the URI says"), "{said}");
            assert_eq!(held.check(), Err(SignerError::Away(said)));
            fs::remove_dir(&tokens).unwrap();
            fs::rename(&away, &tokens).unwrap();
            assert_eq!((sign(), held.check()), (Ok(()), Ok(())));

            // The PIN was changed: the wrong one is told, and the right one taken once it is there.
            SoftHsm::start().stop();
            *pin.lock().unwrap() = "471101".into();
            let wrong = SignerError::from(TokenError::WrongPin);
            assert_eq!(sign(), Err(wrong.clone()));
            assert_eq!((held.check(), sign()), (Err(wrong.clone()), Err(wrong)));
            *pin.lock().unwrap() = PIN.into();
            assert_eq!((sign(), held.check()), (Ok(()), Ok(())));

            // Another key under the same name is not the institution's.
            let hsm = SoftHsm::start();
            let slot = hsm.slot("one");
            hsm.remove(slot, ObjectClass::PRIVATE_KEY, &[1]);
            hsm.remove(slot, ObjectClass::PUBLIC_KEY, &[1]);
            let gone = sign().unwrap_err();
            assert!(
                gone.to_string()
                    .starts_with("0 private keys are as the URI says"),
                "{gone}"
            );
            hsm.make_key(slot, "institution", &[1]);
            let changed = SignerError::from(TokenError::Changed);
            assert_eq!((held.check(), sign()), (Err(changed.clone()), Err(changed)));
        },
    );
}
