//! A patient's pages: who asks now, who can read now, what happened; one question a page.

mod answering;
mod family;
mod own;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use client::now;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use scheme::{DoctorId, InstitutionId, Uid};
use tempfile::TempDir;
use workstation::{
    AccessView, AskedView, EpisodeView, GivenAppointmentView, GivenView, Network, PatientDevice,
    Silent, WorkError,
};

use crate::app::{App, Keeper, Shared, locked};
use crate::serve::PortalError;
use crate::vault::{Asked, Desk, Vault};
use crate::viewer::Shelf;

/// How often the chain is asked for all grants; what is done on these pages shows at once.
const GRANTS: Duration = Duration::from_secs(10);
/// How often doctors' receipts are fetched and checked.
const RECEIPTS: Duration = Duration::from_secs(15);

/// What the patient's pages show.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct View {
    episodes: Vec<EpisodeView>,
    asked: Vec<AskedView>,
    given: Vec<GivenView>,
    appointments: Vec<GivenAppointmentView>,
    /// Handle and salt of the inbox, as a doctor types them.
    code: String,
    /// Requests and receipts that do not stand.
    troubles: Vec<String>,
    wrong_receipts: Vec<String>,
    grants_asked: Asked,
    receipts_asked: Asked,
}

impl Desk for PatientDevice {
    type View = View;

    fn open(network: Network, keystore: &Path, passphrase: &str) -> Result<Self, WorkError> {
        Self::open(network, keystore, passphrase)
    }

    fn look(&self, view: &mut View) {
        view.episodes = self.episodes();
        view.appointments = self.appointments();
        let (handle, salt) = self.inbox();
        view.code = format!("{}{}", hex::encode(handle.as_bytes()), hex::encode(salt));
    }

    async fn follow(&mut self, view: &mut View) -> Result<(), WorkError> {
        self.catch_up(&mut Silent).await;
        (view.asked, view.troubles) = self.requests(Duration::ZERO).await?;
        if view.grants_asked.is_due(GRANTS) {
            view.given = self.grants().await?;
        }
        if view.receipts_asked.is_due(RECEIPTS) {
            (_, view.wrong_receipts) = self.receipts(&mut Silent).await?;
        }
        Ok(())
    }
}

/// Whether a grant opens something now.
fn stands(given: &GivenView, time: u64) -> bool {
    given.revoked == Some(false) && given.expiry > time
}

/// What the patient's pages have besides the keystore.
pub(crate) struct Patient {
    vault: Arc<Vault<PatientDevice>>,
    folder: TempDir,
    opened: Mutex<BTreeMap<String, Arc<Shelf>>>,
    /// Access logs that were read, by grant.
    logs: Mutex<BTreeMap<String, (u64, Vec<AccessView>)>>,
    /// What agents who were appointed here accept, by appointment.
    sealed: Mutex<BTreeMap<String, Vec<u8>>>,
    next: std::sync::atomic::AtomicU64,
}

impl Patient {
    fn fresh(&self) -> std::path::PathBuf {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.folder.path().join(number.to_string())
    }
}

impl Keeper for Patient {
    /// The patient's own reading has no end.
    fn tick(&self, _: &App) {}

    fn close(&self) {
        locked(&self.opened).clear();
        locked(&self.logs).clear();
    }
}

/// What a patient's handler is given.
#[derive(Clone)]
pub(crate) struct Place {
    app: Shared,
    patient: Arc<Patient>,
}

impl Place {
    /// "Doctor 3 at City Hospital", for each.
    async fn doctors(&self, team: &[(DoctorId, InstitutionId)]) -> Vec<String> {
        let language = self.app.language();
        let mut names = Vec::new();
        for (doctor, institution) in team {
            let hospital = self.app.network.name_of(*institution).await;
            names.push(language.doctor(doctor.number(), &hospital));
        }
        names
    }
}

/// The patient's routes.
pub(crate) fn pages(app: &Shared, vault: Arc<Vault<PatientDevice>>) -> Result<Router, PortalError> {
    let place = Place {
        app: app.clone(),
        patient: Arc::new(Patient {
            vault,
            folder: crate::viewer::folder()?,
            opened: Mutex::default(),
            logs: Mutex::default(),
            sealed: Mutex::default(),
            next: 0.into(),
        }),
    };
    app.kept_by(place.patient.clone());
    let pages = Router::new()
        .route("/", get(answering::home))
        .route("/requests/{id}", get(answering::request))
        .route("/requests/{id}/sentence", post(answering::sentence))
        .route("/requests/{id}/grant", post(answering::grant))
        .route("/requests/{id}/decline", post(answering::decline))
        .route("/grants", get(answering::grants))
        .route("/grants/{gid}/revoke", post(answering::revoke))
        .route("/grants/{gid}/log", get(own::log).post(own::read_log))
        .route("/records", get(own::records))
        .route("/records/{record}", get(own::record).post(own::open))
        .route("/records/{record}/{file}", get(own::file))
        .route("/records/{record}/{file}/{frame}", get(own::picture))
        .route("/code", get(own::code))
        .route("/begin", get(own::begin_form).post(own::begin))
        .route("/words", get(own::words_form).post(own::words))
        .route("/agents", get(family::agents).post(family::appoint))
        .route("/agents/{id}/withdraw", post(family::withdraw))
        .route("/agents/{id}/appointment", get(family::sealed));
    Ok(pages.with_state(place))
}

/// A QR code as an SVG without a name, whose modules are dark on white in every mode.
pub(crate) fn qr(text: &str) -> String {
    // Hexadecimal digits are shorter in capitals: the code's alphanumeric mode has no small letters.
    let text = text.to_ascii_uppercase();
    match QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M) {
        Ok(code) => code
            .render::<svg::Color<'_>>()
            .min_dimensions(240, 240)
            .dark_color(svg::Color("#000"))
            .light_color(svg::Color("#fff"))
            .build()
            .replace("<?xml version=\"1.0\" standalone=\"yes\"?>", ""),
        Err(_) => String::new(),
    }
}

/// What a doctor shows a patient who begins an episode: hospital, UID and doctor.
pub(crate) fn begin_code(text: &str) -> Result<(InstitutionId, Uid, DoctorId), WorkError> {
    let parse = || {
        let mut parts = text.trim().split('-');
        let institution = parts.next()?.parse().ok()?;
        let uid = parts.next()?.to_ascii_lowercase();
        let digits = uid.len() == 16 && uid.bytes().all(|byte| byte.is_ascii_hexdigit());
        let uid = Uid::new(uid.as_bytes()).ok().filter(|_| digits)?;
        let doctor = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(())?;
        Some((InstitutionId::new(institution), uid, DoctorId::new(doctor)))
    };
    parse().ok_or_else(|| {
        WorkError::Not(
            "this is no hospital's code: it has three parts, such as 4-0011223344556677-12; copy it whole"
                .to_owned(),
        )
    })
}

/// Now, in ms since 1970.
fn time() -> u64 {
    now().number()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hospitals_code_is_read_whole_or_not_at_all() {
        let (institution, uid, doctor) = begin_code(" 4-0011223344556677-12\n").unwrap();
        assert_eq!((institution.number(), doctor.number()), (4, 12));
        assert_eq!(uid.as_bytes(), b"0011223344556677");
        for wrong in [
            "",
            "4",
            "4-0011-12",
            "4-0011223344556677-12-1",
            "x-0011223344556677-1",
            "<b>",
        ] {
            assert!(begin_code(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_code_becomes_a_picture() {
        let picture = qr(&"0a".repeat(32));
        assert!(
            picture.starts_with("<svg") && picture.ends_with("</svg>"),
            "{picture}"
        );
        assert!(!picture.contains("script"));
    }
}
