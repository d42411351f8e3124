//! Server-sent events, kept as they come.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{PATIENCE, Stream};

/// What came so far: names and data.
pub type Recording = [(String, Value)];

/// Reads a stream in a thread of its own, until it ends.
#[derive(Debug)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tape: Mutex<Tape>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Tape {
    seen: Vec<(String, Value)>,
    /// How the stream ended.
    ended: Option<String>,
}

impl Recorder {
    /// Records from now on.
    #[must_use]
    pub fn start(stream: Stream) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        // Ends with the host, which every test ends.
        thread::spawn(move || {
            let mut ended = "the host ended it".to_owned();
            for event in stream {
                match event {
                    Ok(event) => {
                        writer.tape().seen.push(event);
                        writer.changed.notify_all();
                    }
                    Err(error) => {
                        ended = format!("{error:#}");
                        break;
                    }
                }
            }
            writer.tape().ended = Some(ended);
            writer.changed.notify_all();
        });
        Self(shared)
    }

    /// All that came so far.
    #[must_use]
    pub fn so_far(&self) -> Vec<(String, Value)> {
        self.0.tape().seen.clone()
    }

    /// Waits until the recording is as `wanted`.
    ///
    /// # Errors
    ///
    /// Where the stream ends, or [`PATIENCE`] does, before that; with the last of what came.
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&Recording) -> bool) -> Result<()> {
        let mut found = false;
        let waiting = |tape: &mut Tape| {
            found = wanted(&tape.seen);
            !found && tape.ended.is_none()
        };
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.0.tape(), PATIENCE, waiting);
        let (tape, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if found {
            return Ok(());
        }
        let why = tape.ended.as_deref().unwrap_or("it did not come in time");
        let last = tape.seen.len().saturating_sub(40);
        bail!(
            "waiting until {what}: {why}; at last: {:#?}",
            &tape.seen[last..]
        )
    }
}

impl Shared {
    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
