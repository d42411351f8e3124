//! What a start-up says while drivers compile: a spinner on a terminal, a line each elsewhere.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::say;
use crate::supervisor;

/// Drivers that load faster than this are not worth a line.
const WORTH_A_LINE: Duration = Duration::from_millis(250);

/// The progress of a start-up, on standard error.
pub(super) struct Progress {
    now: Mutex<Now>,
    terminal: bool,
}

#[derive(Default)]
struct Now {
    bar: Option<ProgressBar>,
    /// The drivers that are being loaded.
    loading: Vec<PathBuf>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            now: Mutex::default(),
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Takes in what the start-up does.
    pub(super) fn report(&self, progress: supervisor::Progress) {
        match progress {
            supervisor::Progress::Compiling { driver, index, of } => {
                let names = {
                    let mut now = self.now();
                    now.loading.push(driver);
                    now.names()
                };
                self.begin(&format!("loading {names} ({index} of {of})"));
            }
            supervisor::Progress::Compiled {
                driver,
                from_cache,
                took,
            } => {
                let others = {
                    let mut now = self.now();
                    if let Some(at) = now.loading.iter().position(|path| *path == driver) {
                        now.loading.remove(at);
                    }
                    now.names()
                };
                self.end();
                if let Some(how) = match from_cache {
                    Some(false) => Some("compiled"),
                    Some(true) if took >= WORTH_A_LINE => Some("loaded"),
                    Some(true) | None => None,
                } {
                    say(&format!(
                        "{how} {} in {:.1} s",
                        name(&driver),
                        took.as_secs_f64()
                    ));
                }
                if !others.is_empty() {
                    self.begin(&format!("loading {others}"));
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

    /// Shows that something goes on, in place of what was shown before.
    pub(super) fn begin(&self, what: &str) {
        if !self.terminal {
            return;
        }
        let mut now = self.now();
        let bar = now.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(what.to_owned());
    }

    /// Takes it away.
    pub(super) fn end(&self) {
        if let Some(bar) = self.now().bar.take() {
            bar.finish_and_clear();
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn names(&self) -> String {
        let names: Vec<String> = self.loading.iter().map(|path| name(path)).collect();
        names.join(", ")
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
