//! Dead letters: events that are kept away from their drivers.
//!
//! `retry` and `drop` both take a letter off the list, and with it the block: what is not on the list is not kept away. Neither sends
//! anything again. A write or a command was answered long ago, and whoever asked decides whether to ask once more; a group is polled at
//! its next moment, bytes are delivered when they come again. The two differ for a saved state alone: after `retry` the next life gets it,
//! `drop` gives it up.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::filter::Parameters;
use super::{ApiError, App, wire};
use crate::channel::Letter;
use crate::poison::Kind;
use crate::sink::Time;
use crate::store::StoreError;
use crate::supervisor::ChannelHandle;

/// Letters on one page.
const MAX_PAGE: usize = 1_000;

pub(super) async fn list(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<wire::DeadLetterPage>, ApiError> {
    let parameters = Parameters::read(query.as_deref(), &["channel", "limit", "cursor"])?;
    let limit = parameters.number("limit", MAX_PAGE, 1..=MAX_PAGE)?;
    let wanted = parameters.list("channel")?;
    for name in &wanted {
        app.channel(name)?;
    }
    let handles = app.channels();
    let begins = app.page_begins(&parameters)?;
    // The number of the first letter that may be on the page.
    let mut from = begins.item;
    let mut dead_letters: Vec<wire::DeadLetter> = Vec::new();
    for (place, channel) in handles.iter().enumerate().skip(begins.channel) {
        let from = std::mem::take(&mut from);
        if !wanted.is_empty() && !wanted.contains(&channel.id().as_str()) {
            continue;
        }
        for letter in channel.dead_letters() {
            if letter.number < from {
                continue;
            }
            if dead_letters.len() == limit {
                let next_cursor = Some(app.next_cursor(place, letter.number));
                return Ok(Json(wire::DeadLetterPage {
                    dead_letters,
                    next_cursor,
                }));
            }
            dead_letters.push(shown(channel, &letter));
        }
    }
    Ok(Json(wire::DeadLetterPage {
        dead_letters,
        next_cursor: None,
    }))
}

pub(super) async fn show(
    State(app): State<App>,
    Path((channel, number)): Path<(String, String)>,
) -> Result<Json<wire::DeadLetterDetail>, ApiError> {
    let channel = app.channel(&channel)?;
    let wanted = known_number(channel, &number)?;
    let found = channel.dead_letter(wanted).map_err(|error| away(&error))?;
    let (letter, payload) = found.ok_or_else(|| no_such_letter(channel, &number))?;
    let (effect, retry, discard) = meaning(letter.fingerprint.kind);
    Ok(Json(wire::DeadLetterDetail {
        whole: payload.len() as u64 == letter.fingerprint.length,
        payload_base64: BASE64.encode(payload),
        letter: shown(channel, &letter),
        effect: effect.to_owned(),
        retry: retry.to_owned(),
        drop: discard.to_owned(),
    }))
}

pub(super) async fn retry(
    State(app): State<App>,
    Path((channel, number)): Path<(String, String)>,
) -> Result<Json<wire::DeadLetter>, ApiError> {
    lift(&app, &channel, &number, false).await
}

pub(super) async fn discard(
    State(app): State<App>,
    Path((channel, number)): Path<(String, String)>,
) -> Result<Json<wire::DeadLetter>, ApiError> {
    lift(&app, &channel, &number, true).await
}

async fn lift(
    app: &App,
    channel: &str,
    number: &str,
    forget: bool,
) -> Result<Json<wire::DeadLetter>, ApiError> {
    let channel = app.channel(channel)?;
    let wanted = known_number(channel, number)?;
    let lifted = channel.lift_dead_letter(wanted, forget).await;
    match lifted.map_err(|error| away(&error))? {
        Some(letter) => Ok(Json(shown(channel, &letter))),
        None => Err(no_such_letter(channel, number)),
    }
}

/// What keeping an event away means, and what comes of lifting it: by `retry`, by `drop`.
fn meaning(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Started => (
            "the driver starts without this saved state",
            "the next life gets the saved state again, unless the driver has saved another; restart the channel to try it",
            "the saved state is given up, unless the driver has saved another",
        ),
        Kind::Poll => (
            "the group is not polled, and its tags are bad",
            "the group is polled again at its next moment",
            "the same as retry: what is not on the list is not kept away",
        ),
        Kind::Received => (
            "these bytes are dropped when they come over this link, and the connection is reset",
            "they are delivered when they come again",
            "the same as retry: what is not on the list is not kept away",
        ),
        Kind::Read | Kind::Write | Kind::Command => (
            "it is answered `quarantined` when it is asked for again",
            "it is handed to the driver when it is asked for again; nothing is sent by itself",
            "the same as retry: what is not on the list is not kept away",
        ),
    }
}

fn shown(channel: &ChannelHandle, letter: &Letter) -> wire::DeadLetter {
    let print = &letter.fingerprint;
    let mut sha256 = String::with_capacity(64);
    for byte in print.digest {
        // Two digits each; writing to a string does not fail.
        write!(sha256, "{byte:02x}").expect("a string takes everything");
    }
    wire::DeadLetter {
        channel: channel.id().to_string(),
        number: letter.number,
        kind: print.kind.to_string(),
        target: print.target.clone(),
        length: print.length,
        sha256,
        at: Time(letter.at).to_string(),
        at_ns: letter.at.0,
        incarnation: letter.incarnation,
        faults: letter.faults,
        exit: letter.exit.clone(),
        message: letter.sentence.clone(),
    }
}

fn known_number(channel: &ChannelHandle, number: &str) -> Result<u64, ApiError> {
    number.parse().map_err(|_| no_such_letter(channel, number))
}

fn no_such_letter(channel: &ChannelHandle, number: &str) -> ApiError {
    let number: String = number.chars().take(40).collect();
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no-such-letter",
        format!("channel {} has no dead letter {number}", channel.id()),
        "`bulkhead dead-letter list` or GET /api/v1/dead-letters shows those there are",
    )
}

fn away(error: &StoreError) -> ApiError {
    let sentence = error.to_string();
    let (message, remedy) = sentence
        .split_once("; ")
        .unwrap_or((sentence.as_str(), "see to the disk"));
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "store", message, remedy)
}
