//! Who a hospital's system is: SMART Backend Services (SMART App Launch 2.2, "Backend Services" and
//! "Asymmetric client authentication"). A system signs an assertion with its own key; the gateway holds
//! the public key from its configuration and gives a token of five minutes for the scopes that the
//! configuration allows.
//!
//! Tokens are remembered until they end, or until the gateway is started again. Used assertions are
//! remembered until they end, by the gateway's register too, so that none is used a second time after a
//! start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rand_core::Rng;
use scheme::Digest;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

/// How long a token lasts: the longest that SMART recommends.
const TOKEN_SECONDS: u64 = 300;
/// How far ahead an assertion may end (SMART: at most five minutes).
const ASSERTION_SECONDS_MAX: u64 = 300;
/// By how much the clocks of a system and of the gateway may differ.
const LEEWAY_SECONDS: u64 = 30;
/// Tokens of one system that stand at a time: three a second for the five minutes that each lasts are 900.
/// Each system has its own, so that none locks others out.
const TOKENS_MAX: usize = 1_024;
/// Assertions of one system that were used and have not ended: as many as tokens, for the six and a half
/// minutes that one can stand with the clocks' difference.
const ASSERTIONS_MAX: usize = 1_536;
/// Bytes of an RSA key's modulus: from 2,048 bits on, with which RS384 can be trusted, to 8,192, as long as
/// the library takes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 2_048 / 8..=8_192 / 8;
/// Bytes of a coordinate on P-384.
const P384_BYTES: usize = 384 / 8;
/// Bytes of an assertion; real ones are below 2 KiB.
const ASSERTION_BYTES_MAX: usize = 8_192;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Signatures that SMART asks for.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS384, Algorithm::ES384];

/// A system that may call.
pub struct System {
    /// Its client id.
    id: String,
    /// What people call it; it stands in audit events.
    name: String,
    /// Its public keys, as a JWK set.
    keys: JwkSet,
    /// What it may do at most, as SMART writes it: `system/DocumentReference.rs`.
    scopes: String,
}

impl System {
    /// A system with the public keys of a JWK set in JSON.
    ///
    /// # Errors
    /// What is wrong with the keys or the scopes, for whoever writes the configuration.
    pub fn read(id: &str, name: &str, keys: &str, scopes: &str) -> Result<Self, &'static str> {
        if id.is_empty() {
            return Err("its id is empty; give it the client id that it signs its assertions with");
        }
        let keys: JwkSet = serde_json::from_str(keys)
            .map_err(|_| "its keys are no JWK set; give an object with the list keys")?;
        if keys.keys.is_empty() || !keys.keys.iter().all(verifies) {
            return Err(
                "one of its keys has no kid, or is neither RSA of 2,048 bits or more nor EC on P-384 for signatures by RS384 or ES384; give public keys for these",
            );
        }
        let kids: BTreeSet<_> = keys.keys.iter().map(|key| &key.common.key_id).collect();
        if kids.len() < keys.keys.len() {
            return Err("two of its keys have the same kid; give each key a kid of its own");
        }
        if Scopes::read(scopes).0.is_empty() {
            return Err("its scopes allow nothing; write them like system/DocumentReference.crs");
        }
        Ok(Self {
            id: id.to_owned(),
            name: name.to_owned(),
            keys,
            scopes: scopes.to_owned(),
        })
    }
}

/// Whether a key has a name and can verify RS384 or ES384.
fn verifies(key: &Jwk) -> bool {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let (algorithm, usable) = match &key.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = bytes(&rsa.n);
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            let usable = RSA_BYTES.contains(&(modulus.len() - zeros)) && !bytes(&rsa.e).is_empty();
            (KeyAlgorithm::RS384, usable)
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let lengths = [&ec.x, &ec.y].map(|text| bytes(text).len());
            let usable = ec.curve == EllipticCurve::P384 && lengths == [P384_BYTES; 2];
            (KeyAlgorithm::ES384, usable)
        }
        _ => return false,
    };
    let common = &key.common;
    let signs = common
        .public_key_use
        .as_ref()
        .is_none_or(|of| *of == PublicKeyUse::Signature)
        && common
            .key_operations
            .as_ref()
            .is_none_or(|of| of.contains(&KeyOperations::Verify));
    let said = common.key_algorithm.is_none_or(|one| one == algorithm);
    usable && signs && said && common.key_id.is_some() && DecodingKey::from_jwk(key).is_ok()
}

/// Why systems of a configuration cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SystemsError {
    /// One would be called by the other's name.
    #[error("two systems have the id {0}; give each an id of its own")]
    SameId(String),
    /// Each could sign as the other.
    #[error("the systems {0} and {1} have the same key; give each a key of its own")]
    SameKey(String, String),
}

/// What may be done with a resource type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    Create,
    Read,
    Update,
    Search,
}

/// A system that showed a token, and what it may do under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) id: String,
    pub(crate) name: String,
    scopes: Scopes,
}

impl Caller {
    pub(crate) fn may(&self, act: Act, kind: &str) -> bool {
        self.scopes.allow(act, kind)
    }
}

/// Why no token is given: the error of OAuth 2.0 (RFC 6749, section 5.2), and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoToken {
    pub(crate) error: &'static str,
    pub(crate) description: &'static str,
}

/// An assertion that was used: it is entered in the register before its token is given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Used {
    /// The id of the system that signed it.
    pub(crate) system: String,
    pub(crate) jti: String,
    /// Until when it is remembered, in seconds since 1970.
    pub(crate) until: u64,
}

/// The systems of a configuration and the tokens that they hold.
pub(crate) struct Systems {
    known: BTreeMap<String, System>,
    /// What each of them holds, by its id.
    state: Mutex<BTreeMap<String, Held>>,
}

/// What one system holds.
#[derive(Default)]
struct Held {
    /// By the digest of the token, so that no comparison takes longer the more of it is right.
    tokens: HashMap<Digest, (u64, Arc<Caller>)>,
    /// Assertions that were used, each until it ends.
    used: HashMap<String, u64>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: u64,
    jti: String,
}

impl Systems {
    /// # Errors
    /// [`SystemsError`] if two of them cannot be told apart.
    pub(crate) fn checked(systems: Vec<System>) -> Result<Self, SystemsError> {
        let mut known: BTreeMap<String, System> = BTreeMap::new();
        for system in systems {
            if known.contains_key(&system.id) {
                return Err(SystemsError::SameId(system.id));
            }
            let has = |other: &System, key: &Jwk| {
                let mut keys = other.keys.keys.iter();
                keys.any(|one| one.algorithm == key.algorithm)
            };
            for other in known.values() {
                if system.keys.keys.iter().any(|key| has(other, key)) {
                    return Err(SystemsError::SameKey(other.id.clone(), system.id));
                }
            }
            known.insert(system.id.clone(), system);
        }
        Ok(Self {
            known,
            state: Mutex::default(),
        })
    }

    /// Remembers assertions that were used before this start.
    pub(crate) fn remember(&self, used: Vec<Used>) {
        let mut state = self.state();
        for one in used {
            let held = state.entry(one.system).or_default();
            held.used.insert(one.jti, one.until);
        }
    }

    /// Answers a request for a token at the endpoint `audience`, and says which assertion was used for it;
    /// `now` in seconds since 1970.
    ///
    /// # Errors
    /// [`NoToken`].
    pub(crate) fn give(
        &self,
        form: &[u8],
        audience: &str,
        now: u64,
    ) -> Result<(Value, Used), NoToken> {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(form) {
            if fields
                .insert(name.into_owned(), value.into_owned())
                .is_some()
            {
                return Err(NoToken {
                    error: "invalid_request",
                    description: "a parameter stands twice; send each once",
                });
            }
        }
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        if field("grant_type") != "client_credentials" {
            return Err(NoToken {
                error: "unsupported_grant_type",
                description: "grant_type must be client_credentials (SMART Backend Services)",
            });
        }
        if field("client_assertion_type") != ASSERTION_TYPE {
            return Err(NoToken {
                error: "invalid_request",
                description: "client_assertion_type must be urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            });
        }
        let (system, used) = self.asserted(field("client_assertion"), audience, now)?;
        let allowed = Scopes::read(&system.scopes);
        let asked = field("scope");
        let scopes = if asked.is_empty() {
            allowed
        } else {
            Scopes::read(asked).within(&allowed)
        };
        if scopes.0.is_empty() {
            return Err(NoToken {
                error: "invalid_scope",
                description: "none of these scopes is this system's; ask for those that the gateway's configuration gives it",
            });
        }
        let mut token = [0; 32];
        client::SystemRandom.fill_bytes(&mut token);
        let token = hex::encode(token);
        let said = scopes.to_string();
        let caller = Caller {
            id: system.id.clone(),
            name: system.name.clone(),
            scopes,
        };
        let mut state = self.state();
        let held = state.entry(system.id.clone()).or_default();
        held.tokens.retain(|_, (end, _)| *end > now);
        if held.tokens.len() >= TOKENS_MAX {
            return Err(NoToken {
                error: "temporarily_unavailable",
                description: "too many tokens of this system stand; use the one that you have, or ask again in a minute",
            });
        }
        let end = now.saturating_add(TOKEN_SECONDS);
        held.tokens.insert(digest(&token), (end, Arc::new(caller)));
        let given = json!({
            "access_token": token,
            "token_type": "bearer",
            "expires_in": TOKEN_SECONDS,
            "scope": said,
        });
        Ok((given, used))
    }

    /// Which system signed an assertion that was not used before; it counts as used from now on.
    fn asserted(
        &self,
        assertion: &str,
        audience: &str,
        now: u64,
    ) -> Result<(&System, Used), NoToken> {
        const UNKNOWN: NoToken = NoToken {
            error: "invalid_client",
            description: "the assertion is signed by no key of a system that this gateway knows; check kid, key and client id",
        };
        if assertion.len() > ASSERTION_BYTES_MAX {
            return Err(UNKNOWN);
        }
        let header = decode_header(assertion).map_err(|_| UNKNOWN)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(NoToken {
                error: "invalid_client",
                description: "sign the assertion with RS384 or ES384",
            });
        }
        let kid = header.kid.as_deref().ok_or(UNKNOWN)?;
        for system in self.known.values() {
            let Some(key) = system.keys.find(kid) else {
                continue;
            };
            let Ok(key) = DecodingKey::from_jwk(key) else {
                continue;
            };
            let mut validation = Validation::new(header.alg);
            validation.set_audience(&[audience]);
            validation.set_issuer(&[&system.id]);
            validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
            validation.leeway = LEEWAY_SECONDS;
            let Ok(token) = decode::<Claims>(assertion, &key, &validation) else {
                continue;
            };
            let claims = token.claims;
            if claims.iss != system.id || claims.sub != system.id {
                continue;
            }
            if claims.exp > now + ASSERTION_SECONDS_MAX + LEEWAY_SECONDS {
                return Err(NoToken {
                    error: "invalid_client",
                    description: "the assertion ends in more than five minutes; sign a shorter one",
                });
            }
            let mut state = self.state();
            let held = state.entry(system.id.clone()).or_default();
            held.used.retain(|_, end| *end > now);
            if claims.jti.is_empty() || held.used.contains_key(&claims.jti) {
                return Err(NoToken {
                    error: "invalid_client",
                    description: "the assertion has no jti, or it was used before; sign a new one for each call",
                });
            }
            if held.used.len() >= ASSERTIONS_MAX {
                return Err(NoToken {
                    error: "temporarily_unavailable",
                    description: "this system signed too many assertions; use the token that you have, or ask again in a minute",
                });
            }
            let until = claims.exp.saturating_add(2 * LEEWAY_SECONDS);
            held.used.insert(claims.jti.clone(), until);
            let used = Used {
                system: system.id.clone(),
                jti: claims.jti,
                until,
            };
            return Ok((system, used));
        }
        Err(UNKNOWN)
    }

    /// Who holds a token, if it stands.
    pub(crate) fn caller(&self, token: &str, now: u64) -> Option<Arc<Caller>> {
        let (state, digest) = (self.state(), digest(token));
        let mut all = state.values();
        let (end, caller) = all.find_map(|held| held.tokens.get(&digest))?;
        (*end > now).then(|| Arc::clone(caller))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Held>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(token: &str) -> Digest {
    scheme::sha256(token.as_bytes())
}

/// What may be done: resource types, `*` for all, and acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scopes(Vec<(String, Vec<Act>)>);

impl Scopes {
    /// Reads scopes as SMART writes them, of version 2 (`system/Patient.rs`) and 1
    /// (`system/Patient.read`, `.write`, `.*`). What is no scope of a system is passed over.
    pub(crate) fn read(text: &str) -> Self {
        let mut scopes = Vec::new();
        for word in text.split_whitespace() {
            let Some((kind, acts)) = word
                .strip_prefix("system/")
                .and_then(|rest| rest.split_once('.'))
            else {
                continue;
            };
            let acts: Vec<Act> = match acts {
                "read" => vec![Act::Read, Act::Search],
                "write" => vec![Act::Create, Act::Update],
                "*" => vec![Act::Create, Act::Read, Act::Update, Act::Search],
                letters => {
                    let acts: Option<Vec<Act>> = letters
                        .chars()
                        .filter(|letter| *letter != 'd')
                        .map(|letter| match letter {
                            'c' => Some(Act::Create),
                            'r' => Some(Act::Read),
                            'u' => Some(Act::Update),
                            's' => Some(Act::Search),
                            _ => None,
                        })
                        .collect();
                    // A scope with a query narrows in a way that is not known here.
                    acts.unwrap_or_default()
                }
            };
            if !acts.is_empty() {
                scopes.push((kind.to_owned(), acts));
            }
        }
        Self(scopes)
    }

    fn allow(&self, act: Act, kind: &str) -> bool {
        let mut scopes = self.0.iter();
        scopes.any(|(known, acts)| (known == "*" || known == kind) && acts.contains(&act))
    }

    /// What is asked for and allowed. All types asked for are those that are allowed.
    fn within(self, allowed: &Self) -> Self {
        let mut given: Vec<(String, Vec<Act>)> = Vec::new();
        for (kind, acts) in self.0 {
            let kinds: Vec<&String> = match kind.as_str() {
                "*" => allowed.0.iter().map(|(kind, _)| kind).collect(),
                _ => vec![&kind],
            };
            for kind in kinds {
                let acts: Vec<Act> = acts
                    .iter()
                    .copied()
                    .filter(|act| allowed.allow(*act, kind))
                    .collect();
                if !acts.is_empty() {
                    given.push((kind.clone(), acts));
                }
            }
        }
        Self(given)
    }
}

impl std::fmt::Display for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (kind, acts)) in self.0.iter().enumerate() {
            let letters = [
                (Act::Create, 'c'),
                (Act::Read, 'r'),
                (Act::Update, 'u'),
                (Act::Search, 's'),
            ];
            let letters: String = letters
                .iter()
                .filter(|(act, _)| acts.contains(act))
                .map(|(_, letter)| letter)
                .collect();
            let space = if place == 0 { "" } else { " " };
            write!(f, "{space}system/{kind}.{letters}")?;
        }
        Ok(())
    }
}

/// What a client reads to learn where tokens are given (SMART App Launch, "Conformance").
pub(crate) fn configuration(token_endpoint: &str) -> Value {
    json!({
        "token_endpoint": token_endpoint,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "scopes_supported": [
            "system/AuditEvent.rs", "system/Binary.cr", "system/Consent.crus",
            "system/DocumentReference.crs", "system/ImagingStudy.rs", "system/List.crs",
            "system/Patient.crus", "system/Provenance.rs",
        ],
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    })
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD as BASE64;
    use jsonwebtoken::{EncodingKey, Header, encode};

    use super::*;

    /// A P-384 key made for these tests by `openssl ecparam -name secp384r1 -genkey`, as PKCS #8.
    const KEY: &str = include_str!("../tests/keys/es384.pem");
    const OTHER: &str = include_str!("../tests/keys/other-es384.pem");
    const AT: &str = "https://gateway.example/auth/token";
    const NOW_ALLOWANCE: u64 = 60;

    fn key(pem: &str) -> EncodingKey {
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        EncodingKey::from_ec_der(&BASE64.decode(text).unwrap())
    }

    /// The public key of a private one, as its system gives it to the gateway.
    fn jwk(pem: &str, kid: &str) -> Value {
        let mut jwk = Jwk::from_encoding_key(&key(pem), Algorithm::ES384).unwrap();
        jwk.common.key_id = Some(kid.into());
        serde_json::to_value(jwk).unwrap()
    }

    fn read(id: &str, keys: &Value) -> Result<System, &'static str> {
        let keys = json!({ "keys": keys }).to_string();
        let scopes = "system/DocumentReference.crs system/Patient.rs";
        System::read(id, "Hospital information system", &keys, scopes)
    }

    fn systems() -> Systems {
        Systems::checked(vec![read("his", &json!([jwk(KEY, "one")])).unwrap()]).unwrap()
    }

    /// Two systems whose keys are different and have the same name.
    fn two_systems() -> Systems {
        let his = read("his", &json!([jwk(KEY, "one")])).unwrap();
        let archive = read("archive", &json!([jwk(OTHER, "one")])).unwrap();
        Systems::checked(vec![his, archive]).unwrap()
    }

    fn now() -> u64 {
        jsonwebtoken::get_current_timestamp()
    }

    fn form(assertion: &str, scope: &str) -> Vec<u8> {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_assertion_type", ASSERTION_TYPE)
            .append_pair("client_assertion", assertion)
            .append_pair("scope", scope)
            .finish()
            .into_bytes()
    }

    fn assertion(pem: &str, kid: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES384);
        header.kid = Some(kid.into());
        encode(&header, claims, &key(pem)).unwrap()
    }

    fn claims(jti: &str) -> Value {
        json!({ "iss": "his", "sub": "his", "aud": AT, "exp": now() + NOW_ALLOWANCE, "jti": jti })
    }

    #[test]
    fn a_token_is_given_for_what_is_allowed_and_ends() {
        let systems = systems();
        let asked = "system/DocumentReference.r system/Consent.c system/Patient.read";
        let form = form(&assertion(KEY, "one", &claims("a")), asked);
        let (given, _) = systems.give(&form, AT, now()).unwrap();
        assert_eq!(
            given["scope"],
            "system/DocumentReference.r system/Patient.rs"
        );
        let token = given["access_token"].as_str().unwrap();
        let caller = systems.caller(token, now()).unwrap();
        assert!(caller.may(Act::Read, "DocumentReference"));
        assert!(
            !caller.may(Act::Create, "DocumentReference"),
            "it was not asked for"
        );
        assert!(
            !caller.may(Act::Create, "Consent"),
            "it is not this system's"
        );
        assert_eq!(systems.caller(token, now() + TOKEN_SECONDS + 1), None);
        assert_eq!(systems.caller("0", now()), None);
    }

    #[test]
    fn assertions_that_do_not_stand_give_no_token() {
        let systems = systems();
        let refused = |assertion: String| {
            let given = systems.give(&form(&assertion, ""), AT, now());
            given.unwrap_err().error
        };
        let with = |name: &str, value: Value| {
            let mut claims = claims("x");
            claims[name] = value;
            claims
        };
        assert_eq!(
            refused(assertion(OTHER, "one", &claims("b"))),
            "invalid_client"
        );
        assert_eq!(
            refused(assertion(KEY, "two", &claims("c"))),
            "invalid_client"
        );
        for (name, value) in [
            ("aud", json!("https://evil.example/token")),
            ("iss", json!("other")),
            ("sub", json!("other")),
            ("exp", json!(now() - 120)),
            ("exp", json!(now() + 3_600)),
            ("jti", json!("")),
        ] {
            let assertion = assertion(KEY, "one", &with(name, value));
            assert_eq!(refused(assertion), "invalid_client", "{name}");
        }
        // An unsigned one, and one that is signed with the public key as a shared secret.
        let none = "eyJhbGciOiJub25lIiwia2lkIjoib25lIn0.eyJpc3MiOiJoaXMifQ.";
        assert_eq!(refused(none.to_owned()), "invalid_client");
        let mut header = Header::new(Algorithm::HS384);
        header.kid = Some("one".into());
        let shared = encode(
            &header,
            &claims("d"),
            &EncodingKey::from_secret(KEY.as_bytes()),
        );
        assert_eq!(refused(shared.unwrap()), "invalid_client");
        assert_eq!(refused("a.b.c".to_owned()), "invalid_client");

        let once = assertion(KEY, "one", &claims("e"));
        assert!(systems.give(&form(&once, ""), AT, now()).is_ok());
        assert_eq!(refused(once), "invalid_client", "an assertion is used once");
    }

    fn of(id: &str, jti: &str) -> Value {
        let mut claims = claims(jti);
        claims["iss"] = id.into();
        claims["sub"] = id.into();
        claims
    }

    #[test]
    fn no_system_signs_as_another_though_their_keys_have_one_name() {
        let systems = two_systems();
        let given = |pem: &str, claims: &Value| {
            let form = form(&assertion(pem, "one", claims), "");
            let (given, used) = systems
                .give(&form, AT, now())
                .map_err(|refused| refused.error)?;
            assert_eq!(used.system, claims["iss"]);
            let caller = systems.caller(given["access_token"].as_str().unwrap(), now());
            Ok::<_, &str>(caller.unwrap().id.clone())
        };
        assert_eq!(given(KEY, &of("his", "a")), Ok("his".to_owned()));
        assert_eq!(given(OTHER, &of("archive", "a")), Ok("archive".to_owned()));
        assert_eq!(given(KEY, &of("archive", "b")), Err("invalid_client"));
        assert_eq!(given(OTHER, &of("his", "b")), Err("invalid_client"));
        for (name, other) in [("iss", "archive"), ("sub", "archive")] {
            let mut mixed = of("his", "c");
            mixed[name] = other.into();
            assert_eq!(given(KEY, &mixed), Err("invalid_client"), "{name}");
            assert_eq!(given(OTHER, &mixed), Err("invalid_client"), "{name}");
        }
    }

    #[test]
    fn no_system_locks_another_out() {
        let systems = two_systems();
        let ask = |pem: &str, id: &str, jti: &str| {
            let form = form(&assertion(pem, "one", &of(id, jti)), "");
            systems
                .give(&form, AT, now())
                .map_err(|refused| refused.error)
        };
        let caller = Arc::new(Caller {
            id: "his".into(),
            name: "his".into(),
            scopes: Scopes(Vec::new()),
        });
        let end = now() + TOKEN_SECONDS;
        let fill = |used: usize, tokens: usize| {
            let mut state = systems.state();
            let held = state.entry("his".into()).or_default();
            *held = Held::default();
            let used = (0..used).map(|number| (format!("used {number}"), end));
            held.used.extend(used);
            let tokens = (0..tokens).map(|number| digest(&number.to_string()));
            held.tokens
                .extend(tokens.map(|token| (token, (end, Arc::clone(&caller)))));
        };
        for (used, tokens) in [(ASSERTIONS_MAX, 0), (0, TOKENS_MAX)] {
            fill(used, tokens);
            assert_eq!(ask(KEY, "his", "more"), Err("temporarily_unavailable"));
            assert!(ask(OTHER, "archive", &format!("{used}")).is_ok());
        }
        // What has ended is forgotten.
        fill(ASSERTIONS_MAX - 1, TOKENS_MAX - 1);
        assert!(ask(KEY, "his", "last").is_ok());
    }

    #[test]
    fn attack_use_an_assertion_again_after_a_start() {
        let form = form(&assertion(KEY, "one", &claims("g")), "");
        let (_, used) = systems().give(&form, AT, now()).unwrap();
        // As long as it could stand with the clocks' difference.
        assert!(used.until >= now() + NOW_ALLOWANCE + LEEWAY_SECONDS);
        let started = systems();
        started.remember(vec![used]);
        let refused = started.give(&form, AT, now()).unwrap_err();
        assert!(refused.description.contains("was used before"));
    }

    #[test]
    fn systems_that_cannot_be_told_apart_are_refused() {
        let read = |id, pem, kid| read(id, &json!([jwk(pem, kid)])).unwrap();
        let refused = |systems| Systems::checked(systems).map(drop).unwrap_err();
        assert_eq!(
            refused(vec![read("his", KEY, "one"), read("his", OTHER, "one")]),
            SystemsError::SameId("his".into())
        );
        assert_eq!(
            refused(vec![read("his", KEY, "one"), read("archive", KEY, "two")]),
            SystemsError::SameKey("his".into(), "archive".into())
        );
    }

    #[test]
    fn only_keys_that_can_verify_are_taken() {
        let with = |name: &str, value: Value| {
            let mut jwk = jwk(KEY, "one");
            jwk[name] = value;
            json!([jwk])
        };
        let rsa = |bytes: usize, algorithm: &str| {
            let n = URL_SAFE_NO_PAD.encode(vec![0x8f; bytes]);
            json!([{ "kty": "RSA", "kid": "one", "n": n, "e": "AQAB", "alg": algorithm }])
        };
        for good in [
            with("alg", json!("ES384")),
            with("use", json!("sig")),
            with("key_ops", json!(["verify"])),
            rsa(256, "RS384"),
            json!([jwk(KEY, "one"), jwk(OTHER, "two")]),
        ] {
            assert!(read("his", &good).is_ok(), "{good}");
        }
        let p256 = json!([{
            "kty": "EC", "kid": "one", "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode([1; 32]), "y": URL_SAFE_NO_PAD.encode([1; 32]),
        }]);
        for bad in [
            json!([]),
            with("kid", Value::Null),
            with("alg", json!("ES256")),
            with("alg", json!("RS384")),
            with("use", json!("enc")),
            with("key_ops", json!(["sign"])),
            with("crv", json!("P-256")),
            with("x", json!("AQAB")),
            rsa(255, "RS384"),
            rsa(128, "RS384"),
            rsa(1_025, "RS384"),
            rsa(256, "RS256"),
            rsa(256, "PS384"),
            p256,
            json!([{ "kty": "oct", "kid": "one", "k": "AQAB", "alg": "HS384" }]),
            json!([{ "kty": "OKP", "kid": "one", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([1; 32]) }]),
            json!([jwk(KEY, "one"), jwk(OTHER, "one")]),
        ] {
            assert!(read("his", &bad).is_err(), "{bad}");
        }
        assert!(read("", &json!([jwk(KEY, "one")])).is_err());
    }

    #[test]
    fn other_grants_and_foreign_scopes_are_refused() {
        let systems = systems();
        let error = |form: &[u8]| systems.give(form, AT, now()).unwrap_err().error;
        assert_eq!(error(b"grant_type=password"), "unsupported_grant_type");
        assert_eq!(error(b"grant_type=client_credentials"), "invalid_request");
        assert_eq!(
            error(b"grant_type=a&grant_type=client_credentials"),
            "invalid_request"
        );
        let foreign = form(
            &assertion(KEY, "one", &claims("f")),
            "system/Consent.c user/*.*",
        );
        assert_eq!(error(&foreign), "invalid_scope");
    }

    #[test]
    fn scopes_of_both_versions_are_read() {
        let read = |text: &str| Scopes::read(text).to_string();
        assert_eq!(read("system/*.read"), "system/*.rs");
        assert_eq!(read("system/Patient.*"), "system/Patient.crus");
        assert_eq!(read("system/Patient.cruds"), "system/Patient.crus");
        assert_eq!(read("system/Patient.rs?x=1 patient/Patient.r openid"), "");
    }
}
