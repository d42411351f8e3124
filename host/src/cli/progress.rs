//! What a start-up says while drivers compile: a spinner on a terminal, a line each elsewhere.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::say;
use crate::supervisor;

/// Drivers that load faster than this are not worth a line.
const WORTH_A_LINE: Duration = Duration::from_millis(250);

/// The progress of a start-up, on standard error.
pub(super) struct Progress {
    bar: Mutex<Option<ProgressBar>>,
    terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            bar: Mutex::new(None),
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Takes in what the start-up does.
    pub(super) fn report(&self, progress: supervisor::Progress) {
        match progress {
            supervisor::Progress::Compiling { driver, index, of } => {
                self.begin(&format!("loading {} ({index} of {of})", name(&driver)));
            }
            supervisor::Progress::Compiled {
                driver,
                from_cache,
                took,
            } => {
                self.end();
                if !from_cache || took >= WORTH_A_LINE {
                    let how = if from_cache { "loaded" } else { "compiled" };
                    say(&format!(
                        "{how} {} in {:.1} s",
                        name(&driver),
                        took.as_secs_f64()
                    ));
                }
            }
            supervisor::Progress::Starting { channels } => {
                self.end();
                say(&format!(
                    "starting {channels} {}",
                    if channels == 1 { "channel" } else { "channels" }
                ));
            }
        }
    }

    /// Shows that something goes on.
    pub(super) fn begin(&self, what: &str) {
        if !self.terminal {
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    /// Takes it away.
    pub(super) fn end(&self) {
        if let Some(bar) = self
            .bar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
