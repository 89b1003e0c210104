//! A key in a token: the one file that names the library for PKCS#11.
//!
//! - **Opening.** Load the module; find the one token and the one private key that the URI means, and
//!   the public key of its pair; sign once, so that a pair that is none is found before anything is
//!   signed for the chain.
//! - **Signing.** One session, behind a lock: CKM_EDDSA without parameters, which is pure Ed25519. If
//!   the session was lost (the device was pulled, the library was finalised, somebody logged out), the
//!   key is found anew, once, and must be the same.
//! - **PIN.** Asked of the caller for each login and not kept. One that the token refused is kept until
//!   another is given, so that it is not sent a second time; none is sent if a wrong one would lock the
//!   token.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use scheme::{ConsortiumId, Context, Signature, Signer, SignerError, VerifyingKey, signed_text};
use zeroize::Zeroizing;

use crate::error::TokenError;
use crate::point::public_key;
use crate::uri::KeyUri;

/// After which time within one operation a token counts as silent.
const SILENT: Duration = Duration::from_secs(10);
/// What is signed once when a token is opened: a call in a consortium whose id no founding document
/// hashes to, so it stands nowhere.
const PROBE: (Context, ConsortiumId) = (Context::Call, ConsortiumId::new([0; 32]));

/// Gives the PIN, or says why there is none and what to do.
type PinSource = Box<dyn Fn() -> Result<Zeroizing<String>, String> + Send + Sync>;

/// A key in a token.
pub struct Token {
    uri: KeyUri,
    public: VerifyingKey,
    pin: PinSource,
    state: Mutex<State>,
    /// Since when an operation is under way.
    begun: Mutex<Option<Instant>>,
}

struct State {
    module: Pkcs11,
    open: Option<Open>,
    refused: Option<Zeroizing<String>>,
}

struct Open {
    session: Session,
    key: ObjectHandle,
}

impl Token {
    /// Opens the token and finds the key. `pin` gives the PIN each time that it is needed; its error
    /// says what happened and what to do.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn open(
        uri: KeyUri,
        pin: impl Fn() -> Result<Zeroizing<String>, String> + Send + Sync + 'static,
    ) -> Result<Self, TokenError> {
        let unusable = |error: Error| TokenError::Module(uri.module.clone(), words(&error));
        let module = Pkcs11::new(&uri.module).map_err(unusable)?;
        let mut state = State {
            module,
            open: None,
            refused: None,
        };
        let public = state.connect(&uri, &pin)?;
        let token = Self {
            uri,
            public,
            pin: Box::new(pin),
            state: Mutex::new(state),
            begun: Mutex::new(None),
        };
        let (context, consortium) = PROBE;
        let signature = token.sign_text(&signed_text(context, &consortium, &[]))?;
        public
            .verify(context, &consortium, &[], &signature)
            .map_err(|_| TokenError::WrongSignature)?;
        Ok(token)
    }

    fn sign_text(&self, text: &[u8]) -> Result<Signature, TokenError> {
        let mut state = locked(&self.state);
        *locked(&self.begun) = Some(Instant::now());
        let signed = self.sign_with(&mut state, text);
        *locked(&self.begun) = None;
        signed
    }

    fn sign_with(&self, state: &mut State, text: &[u8]) -> Result<Signature, TokenError> {
        if let Some(open) = &state.open {
            match open.sign(text) {
                // An object or session that is not there any more, or a token that just is not.
                Err(Error::Pkcs11(..)) => state.open = None,
                signed => return signature(signed),
            }
        }
        let open = self.reconnect(state)?;
        signature(open.sign(text))
    }

    fn reconnect<'a>(&self, state: &'a mut State) -> Result<&'a Open, TokenError> {
        if state.connect(&self.uri, &self.pin)? != self.public {
            state.open = None;
            return Err(TokenError::Changed);
        }
        Ok(state.open.as_ref().expect("it was connected a line ago"))
    }

    fn look(&self) -> Result<(), TokenError> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody is signing: whether that goes on is seen by how long it takes.
            Err(TryLockError::WouldBlock) => {
                let begun = *locked(&self.begun);
                return match begun.map(|begun| begun.elapsed()) {
                    Some(time) if time > SILENT => Err(TokenError::Silent(time.as_secs())),
                    _ => Ok(()),
                };
            }
        };
        *locked(&self.begun) = Some(Instant::now());
        let there = state.open.as_ref().is_some_and(Open::is_there);
        let looked = match there {
            true => Ok(()),
            false => self.reconnect(&mut state).map(|_| ()),
        };
        *locked(&self.begun) = None;
        looked
    }
}

impl Signer for Token {
    fn verifying_key(&self) -> VerifyingKey {
        self.public
    }

    fn sign(&self, text: &[u8]) -> Result<Signature, SignerError> {
        Ok(self.sign_text(text)?)
    }

    fn check(&self) -> Result<(), SignerError> {
        Ok(self.look()?)
    }
}

impl Open {
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, Error> {
        let pure = EddsaParams::new(EddsaSignatureScheme::Ed25519);
        self.session.sign(&Mechanism::Eddsa(pure), self.key, text)
    }

    /// Whether session, login and key still are.
    fn is_there(&self) -> bool {
        let kind = self
            .session
            .get_attributes(self.key, &[AttributeType::KeyType]);
        kind.is_ok_and(|found| !found.is_empty())
    }
}

impl State {
    /// A fresh session with the key; what was open before is closed.
    fn connect(
        &mut self,
        uri: &KeyUri,
        pin: &dyn Fn() -> Result<Zeroizing<String>, String>,
    ) -> Result<VerifyingKey, TokenError> {
        // First of all, so that a stale handle cannot close the session that takes its number.
        self.open = None;
        let (slot, session) = match self.begin(uri) {
            Err(TokenError::Tokens { found: 0, .. } | TokenError::Failed(_)) => {
                // Some modules look for tokens only when they begin.
                let _ = self.module.clone().finalize();
                self.begin(uri)?
            }
            begun => begun?,
        };
        self.login(slot, &session, pin)?;
        let (key, public) = find(&session, uri)?;
        self.open = Some(Open { session, key });
        Ok(public)
    }

    /// A session with the token, before any login.
    fn begin(&self, uri: &KeyUri) -> Result<(Slot, Session), TokenError> {
        let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match self.module.initialize(threads) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed(&error)),
        }
        let slot = self.slot(uri)?;
        match self.module.get_mechanism_info(slot, MechanismType::EDDSA) {
            Ok(info) if info.sign() => {}
            Ok(_) | Err(Error::Pkcs11(RvError::MechanismInvalid, _)) => {
                return Err(TokenError::Mechanism);
            }
            Err(error) => return Err(failed(&error)),
        }
        let session = self.module.open_ro_session(slot);
        Ok((slot, session.map_err(|error| failed(&error))?))
    }

    /// The one token that the URI means.
    fn slot(&self, uri: &KeyUri) -> Result<Slot, TokenError> {
        let slots = self.module.get_slots_with_token();
        let mut slots = slots.map_err(|error| failed(&error))?;
        slots.retain(|slot| {
            // A token that does not say what it is, is not the one.
            let Ok(info) = self.module.get_token_info(*slot) else {
                return false;
            };
            info.token_initialized()
                && uri.slot.is_none_or(|number| number == slot.id())
                && is(uri.token.as_deref(), info.label())
                && is(uri.serial.as_deref(), info.serial_number())
        });
        match slots.as_slice() {
            [slot] => Ok(*slot),
            _ => Err(TokenError::Tokens {
                found: slots.len(),
                key: uri.to_string(),
            }),
        }
    }

    fn login(
        &mut self,
        slot: Slot,
        session: &Session,
        source: &dyn Fn() -> Result<Zeroizing<String>, String>,
    ) -> Result<(), TokenError> {
        let info = self.module.get_token_info(slot);
        let info = info.map_err(|error| failed(&error))?;
        if !info.login_required() {
            return Ok(());
        }
        if info.user_pin_locked() {
            return Err(TokenError::LockedPin);
        }
        if info.user_pin_final_try() {
            return Err(TokenError::LastTry);
        }
        let pin = source().map_err(TokenError::Pin)?;
        if self.refused.as_ref() == Some(&pin) {
            return Err(TokenError::WrongPin);
        }
        let given = AuthPin::new(pin.as_str().into());
        match session.login(UserType::User, Some(&given)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                self.refused = None;
                Ok(())
            }
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            )) => {
                self.refused = Some(pin);
                Err(TokenError::WrongPin)
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::LockedPin),
            Err(error @ Error::Pkcs11(RvError::UserPinNotInitialized | RvError::PinExpired, _)) => {
                Err(TokenError::NoUserPin(words(&error)))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

/// The private key that the URI means, and the public key of its pair.
fn find(session: &Session, uri: &KeyUri) -> Result<(ObjectHandle, VerifyingKey), TokenError> {
    let mut wanted = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    wanted.extend(
        uri.object
            .as_ref()
            .map(|label| Attribute::Label(label.clone().into())),
    );
    wanted.extend(uri.id.clone().map(Attribute::Id));
    let found = session.find_objects(&wanted);
    let found = found.map_err(|error| failed(&error))?;
    let [key] = found.as_slice() else {
        return Err(TokenError::Keys {
            found: found.len(),
            key: uri.to_string(),
        });
    };
    let asked = [
        AttributeType::KeyType,
        AttributeType::Id,
        AttributeType::Label,
    ];
    let said = session.get_attributes(*key, &asked);
    let said = said.map_err(|error| failed(&error))?;
    if !said.contains(&Attribute::KeyType(KeyType::EC_EDWARDS)) {
        return Err(TokenError::Kind(uri.to_string()));
    }
    // A pair has one id; a token that gives none has the label.
    let id = said
        .iter()
        .find(|one| matches!(one, Attribute::Id(id) if !id.is_empty()));
    let same = id.or_else(|| said.iter().find(|one| matches!(one, Attribute::Label(_))));
    let Some(same) = same else {
        return Err(TokenError::PublicKeys(0));
    };
    let of_the_pair = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::EC_EDWARDS),
        same.clone(),
    ];
    let public = session.find_objects(&of_the_pair);
    let public = public.map_err(|error| failed(&error))?;
    let [public] = public.as_slice() else {
        return Err(TokenError::PublicKeys(public.len()));
    };
    let point = session.get_attributes(*public, &[AttributeType::EcPoint]);
    let point = point.map_err(|error| failed(&error))?;
    let [Attribute::EcPoint(point)] = point.as_slice() else {
        return Err(TokenError::Point);
    };
    let public = public_key(point).map(VerifyingKey::new);
    let public = public.filter(VerifyingKey::can_verify);
    Ok((*key, public.ok_or(TokenError::Point)?))
}

fn is(wanted: Option<&str>, found: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

fn signature(signed: Result<Vec<u8>, Error>) -> Result<Signature, TokenError> {
    match signed.map(|bytes| bytes.try_into()) {
        Ok(Ok(bytes)) => Ok(Signature::new(bytes)),
        Ok(Err(_)) => Err(TokenError::WrongSignature),
        Err(Error::Pkcs11(RvError::MechanismInvalid | RvError::MechanismParamInvalid, _)) => {
            Err(TokenError::Mechanism)
        }
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &Error) -> TokenError {
    TokenError::Failed(words(error))
}

/// What the library says, in one line.
fn words(error: &Error) -> String {
    match error {
        Error::Pkcs11(value, function) => format!("{function:?} gives {value:?}"),
        Error::LibraryLoading(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// A panic elsewhere leaves a state that is right or is connected anew.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
