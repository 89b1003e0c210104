//! SoftHSM 2 with tokens of its own, made through PKCS#11 itself.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

/// The PIN of every token's user.
pub const PIN: &str = "471100";
const SO_PIN: &str = "00815000";
/// Set in the process that a test runs in: the folder of its tokens.
const FOLDER: &str = "WILLIS_SOFT_HSM";
/// CKA_EC_PARAMS: the PrintableString edwards25519, as PKCS#11 3.0 has it.
const CURVE: &[u8] = b"\x13\x0cedwards25519";

/// Runs a test in a process of its own, in a temporary folder. SoftHSM reads its configuration from the
/// environment, which a test does not change for the others; and a process has one login to a token,
/// whichever of its parts made it.
pub fn in_its_own_process(test: &str, body: impl FnOnce(&Path)) {
    if let Some(folder) = env::var_os(FOLDER) {
        body(Path::new(&folder));
        return;
    }
    module();
    let folder = tempfile::tempdir().unwrap();
    let (tokens, configuration) = (
        folder.path().join("tokens"),
        folder.path().join("softhsm2.conf"),
    );
    fs::create_dir(&tokens).unwrap();
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    fs::write(&configuration, text).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", &configuration)
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{test} in a process of its own:\n{said}\n{complained}"
    );
}

/// SoftHSM's module.
pub fn module() -> PathBuf {
    if let Some(named) = env::var_os("SOFTHSM2_MODULE") {
        return named.into();
    }
    let mut places = vec![PathBuf::from("/usr/lib/softhsm")];
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    places.extend(folders.map(|folder| folder.path().join("softhsm")));
    places.push("/usr/local/lib/softhsm".into());
    let mut found = places.iter().map(|place| place.join("libsofthsm2.so"));
    found.find(|path| path.is_file()).expect(
        "SoftHSM 2 is missing: on Debian, apt-get install softhsm2. Elsewhere set SOFTHSM2_MODULE to its libsofthsm2.so",
    )
}

/// SoftHSM as its administrator uses it.
pub struct SoftHsm(Pkcs11);

impl SoftHsm {
    pub fn start() -> Self {
        let hsm = Pkcs11::new(module()).unwrap();
        // Another part of the process may have begun with it.
        let _ = hsm.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        Self(hsm)
    }

    /// As if the process had lost its token: every session of it is gone.
    pub fn stop(self) {
        self.0.finalize().unwrap();
    }

    /// Makes a token.
    pub fn make_token(&self, label: &str) -> Slot {
        let slots = self.0.get_all_slots().unwrap();
        let fresh = slots.into_iter().find(|slot| {
            let info = self.0.get_token_info(*slot).unwrap();
            !info.token_initialized()
        });
        let security_officer = AuthPin::new(SO_PIN.into());
        let fresh = fresh.unwrap();
        self.0.init_token(fresh, &security_officer, label).unwrap();
        let slots = self.0.get_slots_with_initialized_token().unwrap();
        let slot = slots.into_iter().find(|slot| {
            let info = self.0.get_token_info(*slot).unwrap();
            info.label() == label && !info.user_pin_initialized()
        });
        let slot = slot.unwrap();
        let session = self.0.open_rw_session(slot).unwrap();
        session
            .login(UserType::So, Some(&security_officer))
            .unwrap();
        session.init_pin(&AuthPin::new(PIN.into())).unwrap();
        session.logout().unwrap();
        slot
    }

    /// The slot of a token: another one once SoftHSM was stopped after the token was made.
    pub fn slot(&self, label: &str) -> Slot {
        let mut slots = self.0.get_slots_with_initialized_token().unwrap();
        slots.retain(|slot| self.0.get_token_info(*slot).unwrap().label() == label);
        slots[0]
    }

    pub fn serial(&self, slot: Slot) -> String {
        let info = self.0.get_token_info(slot).unwrap();
        info.serial_number().to_owned()
    }

    /// A session of the token's user.
    pub fn session(&self, slot: Slot) -> Session {
        let session = self.0.open_rw_session(slot).unwrap();
        // Another session of this process may have logged in already.
        let _ = session.login(UserType::User, Some(&AuthPin::new(PIN.into())));
        session
    }

    /// Makes an Ed25519 pair, and gives CKA_EC_POINT of it.
    pub fn make_key(&self, slot: Slot, label: &str, id: &[u8]) -> Vec<u8> {
        let session = self.session(slot);
        let mut public = names(label, id);
        public.extend([Attribute::Token(true), Attribute::EcParams(CURVE.to_vec())]);
        let mut private = names(label, id);
        private.extend([
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ]);
        let made = session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private);
        let (public, _) = made.unwrap();
        let point = session.get_attributes(public, &[AttributeType::EcPoint]);
        match point.unwrap().as_slice() {
            [Attribute::EcPoint(point)] => point.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub fn make_rsa_key(&self, slot: Slot, label: &str, id: &[u8]) {
        let session = self.session(slot);
        let mut public = names(label, id);
        public.extend([
            Attribute::Token(true),
            Attribute::ModulusBits(1024.into()),
            Attribute::PublicExponent(vec![1, 0, 1]),
        ]);
        let mut private = names(label, id);
        private.extend([Attribute::Token(true), Attribute::Sign(true)]);
        let made = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private);
        made.unwrap();
    }

    /// Puts a public key into the token that no private key there belongs to.
    pub fn put_public_key(&self, slot: Slot, label: &str, id: &[u8], point: &[u8]) {
        let mut public = names(label, id);
        public.extend([
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::Token(true),
            Attribute::EcParams(CURVE.to_vec()),
            Attribute::EcPoint(point.to_vec()),
        ]);
        self.session(slot).create_object(&public).unwrap();
    }

    pub fn remove(&self, slot: Slot, class: ObjectClass, id: &[u8]) {
        let session = self.session(slot);
        let wanted = [Attribute::Class(class), Attribute::Id(id.to_vec())];
        for object in session.find_objects(&wanted).unwrap() {
            session.destroy_object(object).unwrap();
        }
    }
}

fn names(label: &str, id: &[u8]) -> Vec<Attribute> {
    vec![Attribute::Label(label.into()), Attribute::Id(id.to_vec())]
}
