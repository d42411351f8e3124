//! A child process whose output is watched line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::PATIENCE;

/// More lines than any test prints; the rest is dropped, and a line says so.
const MAX_LINES: usize = 200_000;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    out: Lines,
    err: Lines,
}

/// How a process ended, and all that it printed.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub out: Vec<String>,
    /// Standard error.
    pub err: Vec<String>,
}

impl Ended {
    /// The exit code; `None` where a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl Running {
    /// Starts a command and watches its output.
    ///
    /// # Errors
    ///
    /// Where it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().display().to_string();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let out = Lines::of(child.stdout.take().expect("standard output is piped"));
        let err = Lines::of(child.stderr.take().expect("standard error is piped"));
        let input = child.stdin.take();
        Ok(Self {
            name,
            child,
            input,
            out,
            err,
        })
    }

    /// Starts a command at a terminal of its own, where both of its outputs are [`Self::out`], as its user sees them. Nobody types
    /// there, and it is not the command's controlling terminal.
    ///
    /// # Errors
    ///
    /// Where it cannot be started, or the system has no more terminals.
    pub fn start_at_terminal(command: &mut Command) -> Result<Self> {
        let name = command.get_program().display().to_string();
        // Not the controlling terminal of the tests, and inherited by nobody.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let user = openpt(flags).context("cannot open a terminal")?;
        grantpt(&user)?;
        unlockpt(&user)?;
        let terminal = ioctl_tiocgptpeer(&user, flags).context("cannot open a terminal")?;
        command
            .stdin(terminal.try_clone()?)
            .stdout(terminal.try_clone()?)
            .stderr(terminal);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"));
        // What is read ends when the last of these is closed.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self {
            name,
            child: child?,
            input: None,
            out: Lines::of(File::from(user)),
            err: Lines::of(std::io::empty()),
        })
    }

    /// Standard output so far.
    #[must_use]
    pub fn out(&self) -> &Lines {
        &self.out
    }

    /// Standard error so far.
    #[must_use]
    pub fn err(&self) -> &Lines {
        &self.err
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    ///
    /// Where it reads no more.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("standard input is closed")?;
        // In one piece.
        let line = format!("{line}\n");
        input
            .write_all(line.as_bytes())
            .with_context(|| format!("{} does not listen", self.name))
    }

    /// Asks it to end, with SIGTERM, and waits until it has.
    ///
    /// # Errors
    ///
    /// Where it takes longer than [`PATIENCE`]; it is killed then.
    pub fn terminate(self) -> Result<Ended> {
        // Not reaped yet, so the id is still its own.
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("cannot signal {}", self.name))?;
        self.wait()
    }

    /// Sends it a SIGHUP.
    ///
    /// # Errors
    ///
    /// Where that fails.
    pub fn hang_up(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::HUP)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// Kills it, with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// Where that fails.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// Where it takes longer than [`PATIENCE`]; it is killed then.
    pub fn wait(self) -> Result<Ended> {
        self.wait_at_most(PATIENCE)
    }

    /// The same with another patience, for what takes several waits of its own.
    ///
    /// # Errors
    ///
    /// Where it takes longer; it is killed then.
    pub fn wait_at_most(mut self, patience: Duration) -> Result<Ended> {
        const STEP: Duration = Duration::from_millis(5);
        for _ in 0..patience.as_millis() / STEP.as_millis() {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Ended {
                    status,
                    out: self.out.all()?,
                    err: self.err.all()?,
                });
            }
            thread::sleep(STEP);
        }
        bail!(
            "{} did not end within {patience:?}; it printed:\n{}",
            self.name,
            self.printed()
        )
    }

    /// All that it printed so far, for messages.
    #[must_use]
    pub fn printed(&self) -> String {
        [self.out.so_far(), self.err.so_far()].concat().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only where it has ended and been reaped.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Lines that a process prints, as they come. Clones see the same lines.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    fn of(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let writer = lines.clone();
        // Ends with its source: when the process and all that inherited the pipe have ended.
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            let keep = |line: &[u8]| {
                let line = String::from_utf8_lossy(line);
                writer.push(line.trim_end_matches(['\n', '\r']).to_owned());
            };
            while matches!(source.read_until(b'\n', &mut line), Ok(1..)) {
                keep(&line);
                line.clear();
            }
            // A terminal ends with an error, which may come behind the beginning of a line.
            if !line.is_empty() {
                keep(&line);
            }
            writer.state().closed = true;
            writer.0.changed.notify_all();
        });
        lines
    }

    fn push(&self, line: String) {
        let mut state = self.state();
        match state.lines.len() {
            0..MAX_LINES => state.lines.push(line),
            MAX_LINES => state.lines.push(format!(
                "(more than {MAX_LINES} lines; the rest is not kept)"
            )),
            _ => {}
        }
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines so far.
    #[must_use]
    pub fn so_far(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// How many lines there are so far: a place from which to wait for the next.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().lines.len()
    }

    /// Waits for the first line from the `from`-th on of which `wanted` makes something.
    ///
    /// # Errors
    ///
    /// Where the output ends, or [`PATIENCE`] does, without such a line; with all lines that came.
    pub fn wait_for<T>(&self, from: usize, mut wanted: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let mut next = from;
        let mut found = None;
        let waiting = |state: &mut State| {
            while found.is_none() && next < state.lines.len() {
                found = wanted(&state.lines[next]);
                next += 1;
            }
            found.is_none() && !state.closed
        };
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.state(), PATIENCE, waiting);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        match found {
            Some(found) => Ok(found),
            None => {
                let why = if waited.timed_out() {
                    "no such line in time"
                } else {
                    "the output ended without such a line"
                };
                bail!("{why}; what came:\n{}", state.lines.join("\n"))
            }
        }
    }

    /// All lines, once the output has ended.
    fn all(&self) -> Result<Vec<String>> {
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.state(), PATIENCE, |state| !state.closed);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            bail!("the process has ended, but something that it started still holds its output");
        }
        Ok(std::mem::take(&mut state.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        Running::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn output_is_watched_line_by_line() {
        let mut running =
            shell("echo one; echo ready 7; read line; echo \"got $line\" >&2; exit 3");
        let port: u16 = running
            .out()
            .wait_for(0, |line| line.strip_prefix("ready ")?.parse().ok())
            .unwrap();
        assert_eq!((port, running.out().count()), (7, 2));
        running.tell("hello").unwrap();
        let ended = running.wait().unwrap();
        assert_eq!(
            (ended.code(), ended.out, ended.err),
            (
                Some(3),
                vec!["one".into(), "ready 7".into()],
                vec!["got hello".into()]
            )
        );
    }

    #[test]
    fn a_command_at_a_terminal_knows_it_and_is_ended_itself() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "trap 'sleep 0.1; printf bye >&2; exit 5' TERM; test -t 0 && test -t 1 && test -t 2 && echo yes; while :; do sleep 0.01; done",
        ]);
        let running = Running::start_at_terminal(&mut command).unwrap();
        running
            .out()
            .wait_for(0, |line| (line == "yes").then_some(()))
            .unwrap();
        let ended = running.terminate().unwrap();
        assert_eq!(
            (ended.code(), ended.out, ended.err.len()),
            (Some(5), vec!["yes".into(), "bye".into()], 0)
        );
    }

    #[test]
    fn an_output_that_ends_too_early_is_an_error_with_what_came() {
        let running = shell("echo one");
        let error = running
            .out()
            .wait_for(0, |line| (line == "two").then_some(()))
            .unwrap_err();
        assert!(error.to_string().ends_with("what came:\none"), "{error}");
    }

    #[test]
    fn a_process_ends_when_asked_or_dropped() {
        let running = shell("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
        running
            .out()
            .wait_for(0, |line| (line == "ready").then_some(()))
            .unwrap();
        assert_eq!(running.terminate().unwrap().code(), Some(5));

        let running = shell("echo ready; exec sleep 1000");
        let lines = running.out().clone();
        lines
            .wait_for(0, |line| (line == "ready").then_some(()))
            .unwrap();
        drop(running);
        assert_eq!(lines.all().unwrap(), ["ready"]);
    }
}
