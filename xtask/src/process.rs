//! Child processes, none of which outlives us.
//!
//! Each child leads a process group of its own, so that a terminal's Ctrl-C reaches only us, and what a child started
//! in turn (rustc, a test's peers) ends with it. The first SIGINT, SIGTERM or SIGHUP is passed to the child started
//! last as SIGTERM: the others end in order as their [`Group`] is dropped. A second one, or ten seconds, kills all.
//! A group is signalled only until its leader is reaped, so never by an id that belongs to somebody else by then.
//!
//! What this cannot do: end the children where we are killed with SIGKILL.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::workspace;

/// How long children may take to end by themselves.
const GRACE: Duration = Duration::from_secs(10);

struct State {
    /// Groups whose leaders are not reaped yet, in the order of their start.
    groups: Vec<Pid>,
    signal: Option<i32>,
}

static STATE: Mutex<State> = Mutex::new(State {
    groups: Vec::new(),
    signal: None,
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, signals that ask us to end are passed on.
pub(crate) fn forward_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let mut state = state();
            if state.signal.replace(signal).is_some() {
                kill_all(&state);
            } else if let Some(&last) = state.groups.last() {
                send(last, Signal::TERM);
                thread::spawn(|| {
                    thread::sleep(GRACE);
                    kill_all(&self::state());
                });
            }
        }
    });
    Ok(())
}

fn kill_all(state: &State) {
    state
        .groups
        .iter()
        .for_each(|group| send(*group, Signal::KILL));
}

/// A group may be gone already, which is what we want.
fn send(group: Pid, signal: Signal) {
    kill_process_group(group, signal).ok();
}

/// The signal that asked us to end, if any.
pub(crate) fn interrupted() -> Option<i32> {
    state().signal
}

/// Prints a line of progress.
pub(crate) fn note(text: &str) {
    eprintln!("[xtask] {text}");
}

/// Prints a line of results. Whoever closed our output has seen enough; the exit code still tells.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

/// The clock by which progress is measured.
#[expect(
    clippy::disallowed_methods,
    reason = "xtask measures real builds and has no tokio"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Shows a command, runs it to its end and says how long it took.
///
/// Fails where it cannot start or where its exit code is not 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed: {}", shown(command), describe(status));
    }
    Ok(())
}

/// The same, with the exit status for the caller to judge. An interruption is a failure all the same.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    note(&shown(command));
    let started = now();
    let status = Group::spawn(command.stdin(Stdio::null()))?.wait()?;
    finished(started, status)?;
    Ok(status)
}

/// The same, with each line of standard output passed to `each`, which prints it or not.
pub(crate) fn lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    note(&shown(command));
    let started = now();
    let mut group = Group::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut reader = BufReader::new(group.child.stdout.take().expect("standard output is piped"));
    // Tests may print bytes that are not text.
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .context("cannot read the output")?
        > 0
    {
        each(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
    let status = group.wait()?;
    finished(started, status)?;
    Ok(status)
}

fn finished(started: Instant, status: ExitStatus) -> Result<()> {
    if interrupted().is_some() {
        bail!("interrupted");
    }
    let verdict = if status.success() {
        "done".to_owned()
    } else {
        describe(status)
    };
    note(&format!(
        "{verdict} in {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// What a quick command prints, or `None` where it is missing or fails. Not shown: it only asks.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut words: Vec<String> = environment
        .map(|(name, value)| format!("{}={}", name.display(), value.display()))
        .collect();
    words.push(
        short(Path::new(command.get_program()))
            .display()
            .to_string(),
    );
    words.extend(
        command
            .get_args()
            .map(|argument| match argument.display().to_string() {
                word if word.is_empty() || word.contains([' ', '*', '"', '$', ';', '&']) => {
                    format!("'{word}'")
                }
                word => word,
            }),
    );
    words.join(" ")
}

/// A program without the folders that nobody would type: relative to the root, or found on the path.
fn short(program: &Path) -> &Path {
    let on_path = program
        .file_name()
        .filter(|name| *name == "cargo")
        .map(Path::new);
    on_path.unwrap_or_else(|| program.strip_prefix(workspace::root()).unwrap_or(program))
}

/// The exit code of a child, as our own.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// A child and whatever it starts. Dropping it ends them all.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) child: Child,
    id: Pid,
    reaped: bool,
}

impl Group {
    /// Starts `command` as the leader of a new group, unless we are about to end.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let mut state = state();
        if state.signal.is_some() {
            bail!("interrupted");
        }
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let id = Pid::from_child(&child);
        state.groups.push(id);
        Ok(Self {
            child,
            id,
            reaped: false,
        })
    }

    /// Waits until the leader has ended, and ends what it left behind.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        // While the leader is not reaped, nobody else can get its id.
        while let Err(error) = waitid(
            WaitId::Pid(self.id),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        ) {
            if error != rustix::io::Errno::INTR {
                return Err(error).context("cannot wait for a child");
            }
        }
        self.reap()
    }

    fn reap(&mut self) -> Result<ExitStatus> {
        let mut state = state();
        send(self.id, Signal::KILL);
        state.groups.retain(|group| *group != self.id);
        self.reaped = true;
        self.child.wait().context("cannot wait for a child")
    }

    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(self.id), options), Ok(None))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        send(self.id, Signal::TERM);
        let deadline = now() + GRACE;
        while !self.has_ended() && now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        if let Err(error) = self.reap() {
            note(&format!("error: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("pip");
        command
            .args(["install", "pymodbus==3.16.*", ""])
            .env("A", "1");
        assert_eq!(shown(&command), "A=1 pip install 'pymodbus==3.16.*' ''");
    }

    #[test]
    fn failures_name_the_command_and_its_end() {
        let message = |script: &str| {
            run(Command::new("sh").args(["-c", script]))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(message("exit 3"), "`sh -c 'exit 3'` failed: exit code 3");
        assert_eq!(
            message("kill -9 $$"),
            "`sh -c 'kill -9 $$'` failed: ended by signal 9"
        );
        assert!(
            run(&mut Command::new("no-such-program"))
                .unwrap_err()
                .to_string()
                .contains("no-such-program")
        );
    }

    #[test]
    fn lines_are_passed_on_whole() {
        let mut seen = Vec::new();
        let status = lines(
            Command::new("printf").arg(r"one\ntwo \377\nthree"),
            |line| seen.push(line.to_owned()),
        );
        assert!(status.unwrap().success());
        assert_eq!(seen, ["one", "two \u{fffd}", "three"]);
    }

    /// Reads the pipe that a grandchild holds: it ends only when every holder has ended.
    #[test]
    fn nothing_is_left_behind() {
        for (script, ends_by_itself) in [
            ("sleep 1000 & echo ready", true),
            ("sleep 1000 & echo ready; wait", false),
            (
                "trap '' TERM; sleep 1000 & echo ready; exec 1>&-; exit 0",
                true,
            ),
        ] {
            let mut group = Group::spawn(
                Command::new("sh")
                    .args(["-c", script])
                    .stdout(Stdio::piped()),
            )
            .unwrap();
            let mut output = group.child.stdout.take().unwrap();
            let mut ready = [0; 6];
            output.read_exact(&mut ready).unwrap();
            if ends_by_itself {
                assert!(group.wait().unwrap().success());
            }
            drop(group);
            assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0, "{script}");
        }
    }
}
