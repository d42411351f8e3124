//! The command line: `bulkhead ...`.
//!
//! - `arguments`: what can be typed. `failure`: how a command ends that does not do what it was asked.
//! - `run`, `check`, `inspect`, `conform`, `replay`: commands that are a host, or look at what one would run or has run. `logs` (through
//!   `log_writer`), `progress`: what these say while they work. `loading`: a driver for a command that looks at one.
//! - `author`: `new` and `build`, for whoever writes a driver. `manual`: shell completions and pages for `man`.
//! - `tags_file`: tags of a configuration out to CSV and in again.
//! - `client`: how the others ask a running host; `status`, `channel`, `command`, `dead_letter`, `link`, `outbox`, `past`, `reload`, `tag` and `watch` are
//!   these others. They go through the
//!   HTTP API and nothing else.
//! - `output`: tables, JSON lines, colours; `typed`: what was typed as the value of a tag.
//!
//! Exit codes: 0 fine, 1 the thing checked is at fault, 2 wrong usage, 3 the host's own failure.
//!
//! Everything for programs goes to standard output, everything else to standard error. A reader that closes
//! standard output early (`head`) ends a command quietly. Here alone the environment is read.

mod arguments;
mod audit;
mod author;
mod browse;
mod channel;
mod check;
mod client;
mod command;
mod conform;
mod dead_letter;
mod device;
mod failure;
mod inspect;
mod link;
mod loading;
mod log_writer;
mod logs;
mod manual;
mod outbox;
mod output;
mod pages;
mod past;
mod progress;
mod reload;
mod replay;
mod run;
mod status;
mod tag;
mod tags_file;
mod test_read;
mod typed;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::time::Instant;

use arguments::{Arguments, Command};
use failure::Failure;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let began = Instant::now();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are no faults; clap prints each to where it belongs.
        Err(error) => {
            let code = if error.use_stderr() {
                failure::USAGE
            } else {
                0
            };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let json = arguments.command.is_json();
    let done = dispatch(arguments.command, began);
    // What is said last comes after the log.
    logs::finish();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

fn dispatch(command: Command, began: Instant) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => in_runtime(run::run(arguments, began))?,
        Command::Check(arguments) => in_runtime(check::check(arguments))?,
        Command::Inspect(arguments) => in_runtime(inspect::inspect(arguments))?,
        Command::Conform(arguments) => in_runtime(conform::conform(arguments))?,
        Command::New(arguments) => author::new(&arguments),
        Command::Build(arguments) => author::build(&arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::man(&arguments),
        Command::Replay(arguments) => in_runtime(replay::replay(arguments))?,
        Command::Simulate(arguments) => in_runtime(simulate(arguments.command))?,
        Command::Status(arguments) => status::status(&arguments),
        Command::Reload(arguments) => reload::reload(&arguments),
        Command::Channel(arguments) => channel::channel(&arguments.command),
        Command::Tag(arguments) => tag::tag(arguments.command),
        Command::Link(arguments) => link::link(&arguments.command),
        Command::DeadLetter(arguments) => dead_letter::dead_letter(&arguments.command),
        Command::Outbox(arguments) => outbox::outbox(&arguments.command),
        Command::Audit(arguments) => audit::audit(&arguments.command),
        Command::Device(arguments) => device::device(&arguments.command),
        // No runtime: the process must limit itself before it starts threads.
        Command::CompileComponent(arguments) => {
            crate::engine::run_child(&arguments.order()).map_err(Failure::from)
        }
    }
}

async fn simulate(command: crate::simulate::Command) -> Result<(), Failure> {
    use crate::simulate::modbus::Error;

    match crate::simulate::run(command).await {
        Ok(()) => Ok(()),
        Err(Error::System { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Quiet)
        }
        Err(error) if error.is_usage() => Err(Failure::usage(error.to_string())),
        Err(error) => Err(Failure::host(error.to_string())),
    }
}

fn in_runtime<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Failure::host(format!("no threads can be started: {error}")))?;
    let done = runtime.block_on(work);
    // A sink may hang in a write that nobody takes; it must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(done)
}
