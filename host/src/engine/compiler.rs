//! Who compiles, and what can come of it.
//!
//! A component is compiled in a child process, since a compiler has no limits of its own: a component of a few megabytes
//! can take it minutes, or gigabytes. The child is this program again, under a hidden command. It is handed
//! the bytes that were verified, not their path, so nobody can exchange them in between; what it has compiled the host
//! takes from the cache, by a hash of the same bytes.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use rustix::process::Signal;

use super::child::Answer;
use super::{EngineOptions, cache};
use crate::text::shown;

/// The hidden command of the child.
pub(crate) const COMMAND: &str = "compile-component";
/// How long after its own time limit a child is killed, should it be unable to do so itself.
const GRACE: Duration = Duration::from_secs(10);
/// What is kept of a child's output, in bytes: the end.
const MAX_OUTPUT: usize = 16 * 1024;

/// Who compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// This process, without limits. For tests and benches that bring their own components.
    InProcess,
    /// A child: this program, which must be a `bulkhead`.
    Child(PathBuf),
}

impl Compiler {
    /// A child that is this very program, whatever has become of its file since.
    pub fn this_program() -> Self {
        Self::Child(PathBuf::from("/proc/self/exe"))
    }

    pub(super) fn is_child(&self) -> bool {
        matches!(self, Compiler::Child(_))
    }
}

/// Why a component is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The compiler, or the pool, does not take it.
    #[error("{reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
    /// It takes more than it may.
    #[error("it takes more than {limit} to compile")]
    Limit {
        /// Which limit.
        limit: CompileLimit,
    },
    /// The compiler broke down over it.
    #[error("the compiler {how}")]
    Broke {
        /// How it ended.
        how: String,
    },
    /// The host could not have it compiled, which is no fault of the component.
    #[error("{reason}")]
    Host {
        /// What failed.
        reason: String,
    },
    /// It was compiled, and cannot be found.
    #[error(
        "the host does not find what it has had compiled in {path}; make sure that nothing else empties that folder, and \
         remove the folder if this comes again"
    )]
    NotInCache {
        /// The cache folder.
        path: PathBuf,
    },
}

/// A limit of the compiler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileLimit {
    /// Of its memory.
    #[error("{} MiB of memory", .0 >> 20)]
    Memory(u64),
    /// Of processor time, over all threads.
    #[error("{} s of processor time", .0.as_secs())]
    ProcessorTime(Duration),
    /// Of time on the clock.
    #[error("{} s", .0.as_secs())]
    Time(Duration),
}

impl CompileLimit {
    /// The key of the configuration that raises it.
    pub fn key(&self) -> &'static str {
        match self {
            CompileLimit::Memory(_) => "host.compile.memory",
            CompileLimit::ProcessorTime(_) => "host.compile.processor_time",
            CompileLimit::Time(_) => "host.compile.time",
        }
    }
}

/// Has a component compiled by a child, into the cache. Blocks until the child has ended.
pub(super) fn compile(
    program: &Path,
    options: &EngineOptions,
    component: &[u8],
) -> Result<(), CompileError> {
    let host = |reason: String| CompileError::Host { reason };
    let cache_dir = options
        .cache_dir
        .canonicalize()
        .map_err(|error| host(format!("{}: {error}", options.cache_dir.display())))?;
    let workshop = cache::workshop(&cache_dir).map_err(|error| host(error.to_string()))?;
    let limits = &options.compile;
    let cannot = |error: std::io::Error| {
        host(format!(
            "the compile child cannot be started: {error}; let this user start {}",
            program.display()
        ))
    };
    let (reader, writer) = std::io::pipe().map_err(cannot)?;
    let mut command = Command::new(program);
    command
        .arg(COMMAND)
        .arg("--parent")
        .arg(std::process::id().to_string())
        .arg("--cache-dir")
        .arg(&cache_dir)
        .arg("--workshop")
        .arg(workshop.path())
        .args(["--max-memory", &options.pool.max_memory.to_string()])
        .args(["--memory", &limits.memory.to_string()])
        .args([
            "--processor-seconds",
            &limits.processor_time.as_secs().to_string(),
        ])
        .args(["--milliseconds", &limits.time.as_millis().to_string()])
        .env_clear()
        // Without this the allocator takes a gigabyte of address space at its start, which would count.
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().map_err(cannot)?)
        .stderr(writer)
        // A signal from a terminal is for the host, which ends its children itself.
        .process_group(0);
    let child = command.spawn().map_err(cannot)?;
    // It holds the writing ends of the pipe, which must end with the child.
    drop(command);
    let (status, output) = wait(child, reader, component, limits.time.saturating_add(GRACE))
        .map_err(|error| host(format!("the compile child cannot be waited for: {error}")))?;
    judge(status, &output, options)
}

/// Feeds a child and waits for its end; kills it after `most`.
fn wait(
    mut child: Child,
    mut reader: std::io::PipeReader,
    component: &[u8],
    most: Duration,
) -> std::io::Result<(ExitStatus, String)> {
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        let (done, ended) = sync_channel(1);
        scope.spawn(move || {
            // A child that ends early does not read to the end, and says itself why.
            if let Some(mut stdin) = stdin {
                drop(stdin.write_all(component));
            }
        });
        scope.spawn(move || {
            let output = read_end(&mut reader);
            // Nobody waits any more where the child could not be killed.
            drop(done.send(output));
        });
        let output = match ended.recv_timeout(most) {
            Ok(output) => output,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                child.kill()?;
                ended.recv().unwrap_or_default()
            }
        };
        Ok((child.wait()?, output))
    })
}

/// Reads to the end and keeps the last of it.
fn read_end(reader: &mut impl Read) -> String {
    let mut output = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut chunk) {
        output.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let over = output.len().saturating_sub(MAX_OUTPUT);
        output.drain(..over);
    }
    String::from_utf8_lossy(&output).into_owned()
}

/// What the end of a child means.
fn judge(status: ExitStatus, output: &str, options: &EngineOptions) -> Result<(), CompileError> {
    let limits = &options.compile;
    let limit = |limit| Err(CompileError::Limit { limit });
    let out_of_memory = || limit(CompileLimit::Memory(limits.memory));
    if let Some(signal) = status.signal() {
        let is = |named: Signal| named.as_raw() == signal;
        return if is(Signal::ALARM) {
            limit(CompileLimit::Time(limits.time))
        } else if is(Signal::XCPU) {
            limit(CompileLimit::ProcessorTime(limits.processor_time))
        } else if is(Signal::XFSZ) || output.contains("memory allocation of") {
            out_of_memory()
        } else {
            Err(CompileError::Broke {
                how: format!("was ended by signal {signal}{}", last_words(output)),
            })
        };
    }
    let answer = output
        .lines()
        .next_back()
        .and_then(|line| serde_json::from_str(line).ok());
    match answer {
        Some(Answer::Done) if status.success() => Ok(()),
        Some(Answer::Refused(reason)) => Err(CompileError::Refused { reason }),
        Some(Answer::OutOfMemory) => out_of_memory(),
        Some(Answer::Failed(reason)) => Err(CompileError::Host { reason }),
        Some(Answer::Done) | None => Err(CompileError::Broke {
            how: format!("ended with {status}{}", last_words(output)),
        }),
    }
}

/// What a child said last, on one short line.
fn last_words(output: &str) -> String {
    match output.lines().rfind(|line| !line.trim().is_empty()) {
        None => String::new(),
        Some(line) => {
            let line = shown(line, 300);
            format!(" ({line})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pool;
    use super::*;
    use crate::config::CompileLimits;

    fn options() -> EngineOptions {
        EngineOptions {
            pool: Pool::even(1, 1 << 20),
            cache_dir: PathBuf::new(),
            compiler: Compiler::InProcess,
            compile: CompileLimits::default(),
        }
    }

    /// What `sh` ends with, as what becomes of the component.
    fn check(script: &str, expected: Result<(), &str>) {
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let judged = judge(output.status, &said, &options()).map_err(|error| error.to_string());
        assert_eq!(judged, expected.map_err(str::to_owned), "{script}");
    }

    #[test]
    fn the_end_of_a_child_is_told_by_its_answer_or_its_signal() {
        check(r#"echo noise; echo '"done"'"#, Ok(()));
        check(r#"echo '{"refused":"bad wasm"}'"#, Err("bad wasm"));
        check(
            r#"echo '"out-of-memory"'"#,
            Err("it takes more than 2048 MiB of memory to compile"),
        );
        check(
            "echo 'memory allocation of 7 bytes failed'; kill -ABRT $$",
            Err("it takes more than 2048 MiB of memory to compile"),
        );
        check("kill -ALRM $$", Err("it takes more than 120 s to compile"));
        check(
            "kill -XCPU $$",
            Err("it takes more than 240 s of processor time to compile"),
        );
        check(
            "echo 'thread panicked'; kill -ABRT $$",
            Err("the compiler was ended by signal 6 (thread panicked)"),
        );
        check("kill -KILL $$", Err("the compiler was ended by signal 9"));
        check("exit 7", Err("the compiler ended with exit status: 7"));
        check(
            r#"echo '"done"'; exit 7"#,
            Err(r#"the compiler ended with exit status: 7 ("done")"#),
        );
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' TERM; exec sleep 1000"])
            .stdin(Stdio::piped())
            .stdout(writer);
        let child = command.spawn().unwrap();
        drop(command);
        // More than a pipe holds: whoever feeds it hangs until the child is gone.
        let component = vec![0; 1 << 20];
        let (status, output) = wait(child, reader, &component, Duration::from_millis(50)).unwrap();
        assert_eq!((status.signal(), output.as_str()), (Some(9), ""));
    }
}
