//! What can be typed. The texts here are what `--help` says.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::author::{Build, New};
use super::browse::TagBrowse;
use super::conform::Conform;
use super::inspect::Inspect;
use super::manual::{Completions, Man};
use super::outbox::OutboxArguments;
use crate::config::CompileLimits;
use crate::engine::Order;
use crate::simulate;

/// A host for device-protocol drivers, each a WebAssembly component in a sandbox of its own.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, propagate_version = true, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = "\
Begin with:
  bulkhead simulate modbus                 a Modbus TCP device on this machine, on port 5020
  bulkhead run examples/quickstart.toml    channels that read it, samples on the terminal
  bulkhead tag watch 'press-1/*'           in a second terminal: the same through the HTTP API
  bulkhead tag write press-1/setpoint 6.5 --read-back

Exit codes: 0 fine, 1 the thing checked is at fault, 2 wrong usage, 3 the host's own failure.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the channels of a configuration until SIGINT or SIGTERM
    Run(Run),
    /// Check a configuration and its drivers without running anything; every fault at once
    Check(Check),
    /// Make a project for a driver of your own
    New(New),
    /// Build a driver's project to one .wasm
    Build(Build),
    /// Show what a driver file is: its name, links, settings, imports, languages, digest
    Inspect(Inspect),
    /// Try whether a driver keeps the rules, without hardware
    Conform(Conform),
    /// Repeat a crash from its bundle, or see whether a fixed driver holds
    Replay(Replay),
    /// Run a simulated device
    Simulate(Simulate),
    /// Show how a running host is
    Status(Plain),
    /// Have a running host take up its configuration as it is in the file now
    Reload(Reload),
    /// List, show, start, stop, restart or reset the channels of a running host
    Channel(Channel),
    /// List, show, read, write or watch the tags of a running host; export and import those of a configuration
    Tag(Tag),
    /// List the devices of a channel, take them out of service, or put them into service again
    Device(Device),
    /// List, show, retry or drop the events that are kept away from their drivers
    DeadLetter(DeadLetter),
    /// List, show, empty or export what waits on the disk for sinks
    Outbox(OutboxArguments),
    /// Who wrote what, when, and with which answer
    Audit(Audit),
    /// Links: how they are, what happened to them, test, reconnect
    Link(Link),
    /// Print what a shell needs to complete what is typed
    Completions(Completions),
    /// Write the manual's pages
    Man(Man),
    /// Compile the component on standard input into the cache of the host that started this
    #[command(hide = true)]
    CompileComponent(CompileComponent),
}

impl Command {
    /// Whether the output is for programs.
    pub(super) fn is_json(&self) -> bool {
        match self {
            Command::Run(arguments) => arguments.json,
            Command::Check(arguments) => arguments.json,
            Command::Inspect(arguments) => arguments.json,
            Command::Conform(arguments) => arguments.is_json(),
            Command::Replay(arguments) => arguments.json,
            Command::Simulate(_) | Command::CompileComponent(_) => false,
            Command::New(_) | Command::Build(_) | Command::Completions(_) | Command::Man(_) => {
                false
            }
            Command::Status(arguments) => arguments.api.json,
            Command::Reload(arguments) => arguments.api.json,
            Command::Channel(arguments) => arguments.command.api().json,
            Command::Tag(arguments) => arguments.command.is_json(),
            Command::Device(arguments) => arguments.command.api().json,
            Command::DeadLetter(arguments) => arguments.command.api().json,
            Command::Outbox(arguments) => arguments.command.api().json,
            Command::Audit(arguments) => arguments.command.is_json(),
            Command::Link(arguments) => arguments.command.api().json,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Samples go to the sinks of the configuration. A sink of kind `stdout` prints a line for people on a terminal, and JSON
lines otherwise or with --json. All else goes to standard error: progress while drivers compile, `ready: URL` as soon as
the HTTP API listens, `first sample after ...` once, and the log.

SIGINT or SIGTERM stops every channel in order, for at most 10 seconds; a second signal ends at once. SIGHUP reloads the
configuration, as `bulkhead reload` does.")]
pub(super) struct Run {
    /// The configuration, a TOML file
    pub(super) config: PathBuf,
    /// Stop after this time, such as `10s`
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) duration: Option<Duration>,
    /// Print samples as JSON lines, also on a terminal
    #[arg(long)]
    pub(super) json: bool,
    /// Reload whenever the file changes, as `bulkhead reload` does
    #[arg(long)]
    pub(super) watch: bool,
    #[command(flatten)]
    pub(super) log: Log,
}

#[derive(Debug, Clone, Args)]
pub(super) struct Log {
    /// How the log looks
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// How much is logged: error, warn, info, debug or trace; or directives such as `info,bulkhead::link=debug`
    /// [env: BULKHEAD_LOG] [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Reads the file, loads every driver, and gives each channel's settings to a scratch instance of its driver, so that the
driver's own faults appear with their line too. Nothing is started and no link is opened.")]
pub(super) struct Check {
    /// The configuration, a TOML file
    pub(super) config: PathBuf,
    /// Print one JSON object with all faults
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A bundle is a file of data_dir/crashes on the host, or a copy of one; `bulkhead channel show` names the last. The driver is
given what it was given then, without any device: the same configuration, seed, times and events.

Without --driver: exit code 0 if the crash was reproduced, 1 if not.
With --driver:    exit code 0 if that driver holds to the end of the recording, 1 if it faults.")]
pub(super) struct Replay {
    /// The crash bundle
    pub(super) bundle: PathBuf,
    /// Replay with this driver instead of the one at the recorded path
    #[arg(long, value_name = "FILE")]
    pub(super) driver: Option<PathBuf>,
    /// Print it as a script for `bulkhead conform`, instead of judging it
    #[arg(long, conflicts_with = "json")]
    pub(super) to_script: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Simulate {
    #[command(subcommand)]
    pub(super) command: simulate::Command,
}

/// What every command takes that asks a running host.
#[derive(Debug, Clone, Args)]
pub(super) struct Api {
    /// Where the host's API is [env: BULKHEAD_URL] [default: http://127.0.0.1:7070]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// Print JSON, one object per line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Plain {
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Channels that are as they were are not touched. One that has changed restarts its driver under the new configuration; its
connections over unchanged links stay open, and its unchanged tags keep their values. A file with any fault changes
nothing. Keys of [host] and [http] and the sinks take a restart of the host, and are refused by name.")]
pub(super) struct Reload {
    /// Only show what would change
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
pub(super) struct Channel {
    #[command(subcommand)]
    pub(super) command: ChannelCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ChannelCommand {
    /// List all channels
    List(Plain),
    /// Show everything that is known of a channel
    Show(NamedChannel),
    /// Show the last 100 things that happened to a channel, over restarts of the host
    History(NamedChannel),
    /// Start a channel that is stopped, broken or waiting for its next attempt
    Start(NamedChannel),
    /// Stop a channel; it stays stopped until it is started
    Stop(NamedChannel),
    /// Replace a channel's instance by a fresh one
    Restart(NamedChannel),
    /// Forget earlier attempts to restart a channel; start it if it is broken or waits for its next attempt
    Reset(NamedChannel),
    /// List the commands that a channel's driver offers, and those under way
    Commands(NamedChannel),
    /// Give a channel's driver a command, and wait for its answer
    Command(GiveCommand),
}

impl ChannelCommand {
    pub(super) fn api(&self) -> &Api {
        match self {
            ChannelCommand::List(plain) => &plain.api,
            ChannelCommand::Show(named)
            | ChannelCommand::History(named)
            | ChannelCommand::Start(named)
            | ChannelCommand::Stop(named)
            | ChannelCommand::Restart(named)
            | ChannelCommand::Reset(named)
            | ChannelCommand::Commands(named) => &named.api,
            ChannelCommand::Command(command) => &command.api,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct NamedChannel {
    /// The channel's id
    pub(super) channel: String,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The answer goes to standard output, progress to standard error. Ctrl-C takes the command back: the driver is told, and what
became of it is printed. A command that the driver has begun may have had its effect all the same.")]
pub(super) struct GiveCommand {
    /// The channel's id
    pub(super) channel: String,
    /// The command, as `bulkhead channel commands` lists it
    pub(super) command: String,
    /// What the command takes, as JSON
    #[arg(long, value_name = "JSON", conflicts_with = "payload_file")]
    pub(super) payload: Option<String>,
    /// The same as any bytes, out of a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) payload_file: Option<PathBuf>,
    /// How long it may take, up to 5min
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A device that keeps silent is polled less by itself (demoted), and comes back by itself. A locked device is not polled, its tags
are bad and say why, and nothing is read from it or written to it, also after a restart of the host, until it is unlocked.")]
pub(super) struct Device {
    #[command(subcommand)]
    pub(super) command: DeviceCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// List the devices of a channel, and how each stands
    List(NamedChannel),
    /// Take a device out of service
    Lock(LockDevice),
    /// Put a device into service again
    Unlock(NamedDevice),
}

impl DeviceCommand {
    pub(super) fn api(&self) -> &Api {
        match self {
            DeviceCommand::List(named) => &named.api,
            DeviceCommand::Lock(lock) => &lock.named.api,
            DeviceCommand::Unlock(named) => &named.api,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct NamedDevice {
    /// The device, as `channel/device`
    #[arg(value_name = "CHANNEL/DEVICE")]
    pub(super) device: String,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
pub(super) struct LockDevice {
    #[command(flatten)]
    pub(super) named: NamedDevice,
    /// Why, for those who come later
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) why: String,
}

#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    pub(super) command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List the writes, the newest first
    List(AuditList),
    /// Check that no entry was changed or removed; also while the host runs
    Verify(AuditVerify),
}

impl AuditCommand {
    pub(super) fn is_json(&self) -> bool {
        match self {
            AuditCommand::List(arguments) => arguments.api.json,
            AuditCommand::Verify(arguments) => arguments.json,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct AuditList {
    #[command(flatten)]
    pub(super) api: Api,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) limit: u64,
}

#[derive(Debug, Args)]
pub(super) struct AuditVerify {
    /// The host's `data_dir`, or a folder with copies of its `audit-*.jsonl`
    pub(super) data_dir: PathBuf,
    /// The first entry that must be there, if those before lie elsewhere
    #[arg(long, default_value_t = 1)]
    pub(super) since: u64,
    /// JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
An event that ends its driver at every encounter is kept away from it the third time: a group is not polled, bytes are
dropped, a read, write or command is refused, a saved state is not given to the driver. What is not on this list is not kept
away: retry and drop both lift the block, and neither sends anything again. They differ for a saved state alone, which the next
life gets after retry, and which drop gives up.")]
pub(super) struct DeadLetter {
    #[command(subcommand)]
    pub(super) command: DeadLetterCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DeadLetterCommand {
    /// List all dead letters
    List(LetterList),
    /// Show everything that is known of a dead letter
    Show(NamedLetter),
    /// Give its event another chance
    Retry(NamedLetter),
    /// Forget it; a saved state is given up
    Drop(NamedLetter),
}

impl DeadLetterCommand {
    pub(super) fn api(&self) -> &Api {
        match self {
            DeadLetterCommand::List(arguments) => &arguments.api,
            DeadLetterCommand::Show(named)
            | DeadLetterCommand::Retry(named)
            | DeadLetterCommand::Drop(named) => &named.api,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Link {
    #[command(subcommand)]
    pub(super) command: LinkCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum LinkCommand {
    /// List all links with their state
    List(LinkList),
    /// Show everything that is known of a link, and what happened to it last
    Show(NamedLink),
    /// Test whether a link leads anywhere; what is wrong is said with its remedy
    Test(LinkTest),
    /// Drop its connections, if there are any, and dial now, with all attempts
    Reconnect(NamedLink),
}

impl LinkCommand {
    pub(super) fn api(&self) -> &Api {
        match self {
            LinkCommand::List(arguments) => &arguments.api,
            LinkCommand::Test(arguments) => &arguments.named.api,
            LinkCommand::Show(named) | LinkCommand::Reconnect(named) => &named.api,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct LinkList {
    /// Only those of this channel; may be given more than once
    #[arg(long, value_name = "ID")]
    pub(super) channel: Vec<String>,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
pub(super) struct LinkTest {
    /// Dial a connection of its own even if the link is up; a device that takes one only may hang up on the other
    #[arg(long)]
    pub(super) dial: bool,
    #[command(flatten)]
    pub(super) named: NamedLink,
}

#[derive(Debug, Args)]
pub(super) struct NamedLink {
    /// The link, as `channel/link`
    #[arg(value_name = "CHANNEL/LINK")]
    pub(super) link: String,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
pub(super) struct LetterList {
    /// Only those of this channel; may be given more than once
    #[arg(long, value_name = "ID")]
    pub(super) channel: Vec<String>,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
pub(super) struct NamedLetter {
    /// The letter, as `channel/number`
    #[arg(value_name = "CHANNEL/NUMBER")]
    pub(super) letter: String,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
pub(super) struct Tag {
    #[command(subcommand)]
    pub(super) command: TagCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum TagCommand {
    /// List tags with their last values
    List(TagList),
    /// Show everything that is known of a tag, with the chain of reasons for its quality
    Show(NamedTag),
    /// Read tags from their devices, now
    Read(TagRead),
    /// Write a tag, and wait for the device's own answer
    Write(TagWrite),
    /// List what a tag can be made of; where the driver offers it
    Browse(TagBrowse),
    /// Read an address as a tag would, without there being a tag; where the driver offers it
    TestRead(TestRead),
    /// Follow samples and events as they come; goes on where it was when the connection breaks
    Watch(TagWatch),
    /// Write the tags of a configuration as CSV, for a spreadsheet
    Export(TagExport),
    /// Check a CSV file of tags, and put it into a configuration
    Import(TagImport),
}

impl TagCommand {
    pub(super) fn is_json(&self) -> bool {
        match self {
            TagCommand::List(arguments) => arguments.api.json,
            TagCommand::Show(arguments) => arguments.api.json,
            TagCommand::Read(arguments) => arguments.api.json,
            TagCommand::Write(arguments) => arguments.api.json,
            TagCommand::Browse(arguments) => arguments.api.json,
            TagCommand::TestRead(arguments) => arguments.api.json,
            TagCommand::Watch(arguments) => arguments.api.json,
            TagCommand::Export(arguments) => arguments.json,
            TagCommand::Import(arguments) => arguments.json,
        }
    }
}

const PATTERN_HELP: &str = "\
A pattern is `channel/tag`, or the tag's name alone; `*` stands for any characters, `?` for one:
`press-*/temp*`, `*/setpoint`, `temp?`. One of groups is `channel/group`, or the group's name alone:
`press-*/fast`, `fast`. Put it in quotes, so that the shell leaves it alone.";

#[derive(Debug, Args)]
#[command(after_help = PATTERN_HELP)]
pub(super) struct TagList {
    /// Only tags that fit one of these patterns
    pub(super) patterns: Vec<String>,
    /// Only tags of this channel; may be given more than once
    #[arg(long, value_name = "ID")]
    pub(super) channel: Vec<String>,
    /// Only tags of groups that fit this pattern; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pub(super) group: Vec<String>,
    /// At most so many tags
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
pub(super) struct NamedTag {
    /// The tag, as `channel/tag`
    #[arg(value_name = "CHANNEL/TAG")]
    pub(super) tag: String,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1 where a tag could not be read: refused, or read with a bad quality."
)]
pub(super) struct TagRead {
    /// The tags, as `channel/tag`
    #[arg(value_name = "CHANNEL/TAG", required = true)]
    pub(super) tags: Vec<String>,
    /// How long to wait for the device, up to 5min
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The value is read by the tag's type:
  bool                     true, false, on, off, 1, 0
  int8 .. uint64           42, -7, 0x2a
  float32, float64         21.5, 1e-3
  string                   the text as it is
  bytes                    0x and hexadecimal digits, or base64
  arrays, such as int16[3] 1,2,3 or [1,2,3]")]
pub(super) struct TagWrite {
    /// The tag, as `channel/tag`
    #[arg(value_name = "CHANNEL/TAG")]
    pub(super) tag: String,
    /// The value, in the tag's units
    #[arg(allow_hyphen_values = true)]
    pub(super) value: String,
    /// Read the tag from the device afterwards, and show what it holds
    #[arg(long)]
    pub(super) read_back: bool,
    /// How long to wait for the device, up to 5min
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
#[command(after_help = "\
For what is to become a tag: what an address holds, and in which order its bytes lie. The driver must have the command
`test-read`, which `bulkhead channel commands` shows; `bulkhead inspect` says how it writes addresses.")]
pub(super) struct TestRead {
    /// The channel's id
    pub(super) channel: String,
    /// The device, where the channel has several
    #[arg(long, value_name = "NAME")]
    pub(super) device: Option<String>,
    /// In the protocol's own syntax
    #[arg(long)]
    pub(super) address: String,
    /// At the device, such as float32 or int16\[8\]
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) data_type: String,
    /// What else the driver takes of a tag, as JSON
    #[arg(long, value_name = "JSON")]
    pub(super) settings: Option<String>,
    /// How long to wait for the device, up to 5min
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
#[command(after_help = PATTERN_HELP)]
pub(super) struct TagWatch {
    /// Only tags that fit one of these patterns
    pub(super) patterns: Vec<String>,
    /// Only this channel; may be given more than once
    #[arg(long, value_name = "ID")]
    pub(super) channel: Vec<String>,
    /// Only tags of groups that fit this pattern; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pub(super) group: Vec<String>,
    /// Show what happens to the channels as well: states, exits, links, devices, alarms
    #[arg(long)]
    pub(super) events: bool,
    /// Do not begin with the last known values
    #[arg(long)]
    pub(super) no_snapshot: bool,
    /// End after so many samples
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The columns are name, address, type and those that are in use; each is called like its key in the configuration. Tags come in
the order of their groups, then those outside of groups.")]
pub(super) struct TagExport {
    /// The configuration, a TOML file
    pub(super) config: PathBuf,
    /// The channel; may be left out where there is one only
    #[arg(long, value_name = "ID")]
    pub(super) channel: Option<String>,
    /// Only the tags of this group
    #[arg(long, value_name = "NAME")]
    pub(super) group: Option<String>,
    /// Where to write to, instead of standard output; a file that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Print JSON: an object for each tag, or what was written with --output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The file is checked as if it stood there, together with the rest of the configuration and by the drivers: every fault at once.
If there is none, it is put where the `tags_file` of the group leads, or beside the configuration if there is none yet, which
is named there then. Nothing else in the configuration is changed. A running host is not told.")]
pub(super) struct TagImport {
    /// The CSV file
    pub(super) file: PathBuf,
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// The channel
    #[arg(long, value_name = "ID")]
    pub(super) channel: String,
    /// The group; without it the tags stand outside of groups, and are not polled
    #[arg(long, value_name = "NAME")]
    pub(super) group: Option<String>,
    /// Check only, and say what would be written
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What the host passes on when it starts itself anew to compile; nobody types it.
#[derive(Debug, Args)]
pub(super) struct CompileComponent {
    #[arg(long)]
    parent: u32,
    #[arg(long)]
    cache_dir: PathBuf,
    #[arg(long)]
    workshop: PathBuf,
    #[arg(long)]
    max_memory: u64,
    #[arg(long)]
    memory: u64,
    #[arg(long)]
    processor_seconds: u64,
    #[arg(long)]
    milliseconds: u64,
}

impl CompileComponent {
    pub(super) fn order(self) -> Order {
        Order {
            parent: self.parent,
            cache_dir: self.cache_dir,
            workshop: self.workshop,
            max_memory: self.max_memory,
            limits: CompileLimits {
                memory: self.memory,
                processor_time: Duration::from_secs(self.processor_seconds),
                time: Duration::from_millis(self.milliseconds),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_told_with_code_2_and_help_is_no_fault() {
        let check = |line: &str, code: i32, part: &str| {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), code, "{line}");
            let text = error.to_string();
            assert!(text.contains(part), "{line}: {text}");
        };
        check("bulkhead", 2, "Usage: bulkhead");
        check("bulkhead run", 2, "<CONFIG>");
        check("bulkhead run a.toml --for soon", 2, "--for");
        check("bulkhead run a.toml --log-format xml", 2, "text, json");
        check("bulkhead tag read", 2, "CHANNEL/TAG");
        check("bulkhead tag write a/b", 2, "<VALUE>");
        check("bulkhead channel stpo a", 2, "stop");
        check("bulkhead --help", 0, "Exit codes");
        check("bulkhead run --help", 0, "SIGTERM");
        check("bulkhead tag write --help", 0, "0x2a");
    }

    #[test]
    fn the_command_of_the_compile_child_is_known_and_not_shown() {
        let mut command = Arguments::command();
        let child = command.find_subcommand(crate::engine::COMPILE_COMMAND);
        assert!(child.is_some_and(clap::Command::is_hide_set));
        assert!(
            !command
                .render_long_help()
                .to_string()
                .contains("compile-component")
        );
    }

    #[test]
    fn negative_values_and_flags_stand_side_by_side() {
        let line = "bulkhead tag write a/b -7 --read-back --json";
        let Command::Tag(Tag {
            command: TagCommand::Write(write),
        }) = Arguments::try_parse_from(line.split(' ')).unwrap().command
        else {
            panic!("another command");
        };
        assert_eq!(
            (write.value.as_str(), write.read_back, write.api.json),
            ("-7", true, true)
        );
    }
}
