//! An enrolment's states as they come.

use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use client::EnrolmentStatus;
use futures::stream;
use scheme::{Subject, VerifyingKey};
use tokio::time::Instant;

use crate::centre::CentreService;
use crate::http::{Events, Listeners, ListenersMax, Refused};

/// A quarter of the connections; a few devices of one enrolment, and one that broke off unnoticed.
const LISTENERS_MAX: ListenersMax = ListenersMax { all: 256, each: 4 };
/// How long a stream lasts; then it is opened anew.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// Who listens, and to whose enrolment.
pub(super) type EnrolmentListeners = Listeners<Subject, Subject>;

pub(super) fn listeners() -> Arc<EnrolmentListeners> {
    Listeners::new(LISTENERS_MAX)
}

/// The present state, then each later one, until the service stops or the stream is old.
pub(super) async fn events(
    service: Arc<CentreService>,
    subject: Subject,
    account: VerifyingKey,
) -> Result<Events, Refused> {
    // A stranger takes no place.
    service.own(subject, &account).await?;
    let mut listening = service.listeners.listen(subject, subject)?;
    listening.catch_up();
    let first = service
        .own(subject, &account)
        .await?
        .status(&service.identity_key)?;
    let end = Instant::now() + LIFE;
    let state = (service, listening, Some(first), None);
    let states = stream::unfold(state, move |state| async move {
        let (service, mut listening, mut next, said) = state;
        loop {
            if let Some(status) = next.take()
                && said.as_ref() != Some(&status)
            {
                let event = event(&status)?;
                return Some((event, (service, listening, None, Some(status))));
            }
            let goes_on = tokio::select! {
                goes_on = listening.news() => goes_on,
                () = tokio::time::sleep_until(end) => false,
            };
            if !goes_on {
                return None;
            }
            listening.catch_up();
            // The database is away: the stream ends, and the client asks.
            let row = service.own(subject, &account).await.ok()?;
            next = Some(row.status(&service.identity_key).ok()?);
        }
    });
    Ok(crate::http::events(states))
}

fn event(status: &EnrolmentStatus) -> Option<Event> {
    Event::default().event("state").json_data(status).ok()
}
