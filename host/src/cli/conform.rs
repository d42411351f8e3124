//! `bulkhead conform`: whether a driver keeps the rules, proven without hardware.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::{FAULT, Failure};
use super::loading::load_driver;
use super::output::{Output, Tone, is_terminal, plain, say};
use super::progress::Progress;
use crate::config::{parse_size, show_size};
use crate::conform::{
    Baseline, BaselineError, CaseReport, Expectations, Finding, Fuzzer, NoPass, Report, Suite,
    SuiteError, Verdict, junit, script_in, scripts_in,
};
use crate::limits::MEMORY;

/// The folder of scripts beside a driver's crate.
const FOLDER: &str = "conformance";
/// The file of known failures in it.
const EXPECTATIONS: &str = "expectations.txt";
/// How long fuzzing takes at least to make a finding short.
const SHRINKING: Duration = Duration::from_secs(10);
/// How far up from the driver's file that folder is looked for.
const MAX_ANCESTORS: usize = 6;

#[derive(Debug, Args)]
#[command(after_help = "\
Universal cases hold of every driver; scripts are of its protocol. Without --scripts they are looked for in the folder
`conformance` of the driver's crate: beside the file, or in channels/NAME of a folder above it. The head of the first script
with `reply` lines is the plant that the universal cases use; without scripts one is made up from the driver's description.
Nothing is dialled, and no time passes but the processor's. docs/CONFORMANCE.md has the cases and the format of scripts.

Exit codes: 0 the driver is in order, 1 it is at fault, 2 wrong usage (a script with a fault among others), 3 the host's own
failure.")]
pub(super) struct Conform {
    /// The driver, a .wasm file
    driver: PathBuf,
    /// The folder of its scripts
    #[arg(long, value_name = "DIR")]
    scripts: Option<PathBuf>,
    /// A script whose head is the plant of the universal cases, instead of one of those in DIR
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How results are printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Human)]
    format: Format,
    /// Only cases whose id contains this
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// Cases that are known to fail, one id and its reason a line [default: expectations.txt beside the scripts]
    #[arg(long, value_name = "FILE")]
    expectations: Option<PathBuf>,
    /// What the driver may hold, as in a channel's `limits`
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "32MiB")]
    memory: u64,
    /// Where random bytes begin
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Write what events cost into baseline.toml beside the scripts, instead of holding it against it
    #[arg(long)]
    bless: bool,
    /// List the cases, without trying any
    #[arg(long, conflicts_with_all = ["bless", "fuzz"])]
    list: bool,
    /// Try random events for so long, such as `30s`, instead of the cases; what ends the driver is made short, which takes as long again at
    /// most, or ten seconds
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "bless")]
    fuzz: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each case
    Human,
    /// One JSON object
    Json,
    /// JUnit XML
    Junit,
}

/// A size that a channel's `limits` may have too.
fn memory(text: &str) -> Result<u64, String> {
    let range = MEMORY.range();
    parse_size(text)
        .filter(|bytes| range.contains(bytes))
        .ok_or_else(|| {
            format!(
                "write {} to {}, such as 64MiB",
                show_size(*range.start()),
                show_size(*range.end())
            )
        })
}

impl Conform {
    /// Whether the output is for programs.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }
}

#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    report: &'a Report,
    summary: String,
}

pub(super) async fn conform(arguments: Conform) -> Result<(), Failure> {
    if let Some(folder) = arguments.scripts.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Failure::usage(format!(
            "{} is no folder; name the one that the scripts are in",
            folder.display()
        )));
    }
    let folder = arguments
        .scripts
        .clone()
        .or_else(|| find(&arguments.driver));
    let scripts = match &folder {
        Some(folder) => scripts_in(folder).map_err(unusable)?,
        None => Vec::new(),
    };
    let expectations = expectations(&arguments, folder.as_deref())?;
    let baseline = match &folder {
        Some(folder) if !arguments.bless => {
            Baseline::read(folder).map_err(|error| Failure::usage(error.to_string()))?
        }
        _ => None,
    };
    let driver = load_driver(&arguments.driver, arguments.memory).await?;
    let suite = Suite::within(arguments.memory, &driver, scripts)
        .await
        .map_err(unusable)?
        .with_filter(arguments.case.clone())
        .with_seed(arguments.seed)
        .with_baseline(baseline)
        .with_expectations(expectations);
    let suite = match &arguments.config {
        Some(path) => {
            let script = script_in(path).map_err(unusable)?;
            suite.with_plant(&script.plant, path.display().to_string())
        }
        None => suite,
    };
    let unknown = suite.unknown_expectations();
    if !unknown.is_empty() {
        return Err(Failure::usage(format!(
            "no case is called {}; correct it in the list of known failures or take it off, --list shows all",
            unknown.join(", ")
        )));
    }
    let mut out = Output::new();
    if arguments.bless {
        return bless(&suite, folder.as_deref(), &mut out).await;
    }
    let ids = suite.ids();
    if ids.is_empty() {
        let filter = arguments.case.unwrap_or_default();
        return Err(Failure::usage(format!(
            "no case has {filter:?} in its id; --list shows them"
        )));
    }
    if arguments.list {
        for id in ids {
            out.line(&id)?;
        }
        return Ok(());
    }
    if let Some(time) = arguments.fuzz {
        return fuzz(&suite, time, arguments.seed, &mut out).await;
    }
    run(&suite, &arguments, ids.len(), &mut out).await
}

async fn run(
    suite: &Suite,
    arguments: &Conform,
    count: usize,
    out: &mut Output,
) -> Result<(), Failure> {
    let progress = Progress::new();
    let shows_progress = arguments.format != Format::Human || is_terminal();
    let mut number = 0;
    let mut printing = Ok(());
    let report = suite
        .run(
            |id| {
                number += 1;
                if shows_progress {
                    progress.begin(&format!("{number} of {count}: {id}"));
                }
            },
            |case| {
                progress.end();
                if arguments.format == Format::Human && printing.is_ok() {
                    printing = print(out, case);
                }
            },
        )
        .await;
    printing?;
    match arguments.format {
        Format::Human => {
            out.line(&format!(
                "{}, {}",
                plain(&report.driver),
                &report.sha256[..12]
            ))?;
            let tone = if report.is_in_order() {
                Tone::Good
            } else {
                Tone::Bad
            };
            let summary = out.paint(tone, &report.summary());
            out.line(&summary)?;
        }
        Format::Json => out.json(&Printed {
            report: &report,
            summary: report.summary(),
        })?,
        Format::Junit => out.line(junit(&report).trim_end())?,
    }
    if report.count(Verdict::Broken) > 0 {
        return Err(Failure::host(
            "the host failed in a case; report it to Bulkhead's developers with the driver",
        ));
    }
    if report.is_in_order() {
        return Ok(());
    }
    if report
        .cases
        .iter()
        .all(|case| case.verdict == Verdict::Skipped)
    {
        say("every case was skipped, so nothing is proven");
    }
    Err(Failure::Said(FAULT))
}

fn print(out: &mut Output, case: &CaseReport) -> std::io::Result<()> {
    let (tone, word) = match case.verdict {
        Verdict::Passed => (Tone::Good, "ok"),
        Verdict::Failed => (Tone::Bad, "FAILED"),
        Verdict::Skipped => (Tone::Dim, "skipped"),
        Verdict::ExpectedFailure => (Tone::Doubtful, "known"),
        Verdict::UnexpectedPass => (Tone::Bad, "PASSED"),
        Verdict::Broken => (Tone::Bad, "BROKEN"),
    };
    let word = out.paint(tone, &format!("{word:<8}"));
    let mut lines = case.text.lines();
    let is_short = matches!(case.verdict, Verdict::Passed | Verdict::Skipped);
    let note = if is_short {
        lines
            .next()
            .map(|note| format!("  {}", plain(note)))
            .unwrap_or_default()
    } else {
        String::new()
    };
    out.line(&format!(
        "{word} {}{}",
        plain(&case.id),
        out.paint(Tone::Dim, &note)
    ))?;
    for line in lines {
        out.line(&format!("         {}", plain(line)))?;
    }
    Ok(())
}

async fn bless(suite: &Suite, folder: Option<&Path>, out: &mut Output) -> Result<(), Failure> {
    let Some(folder) = folder else {
        return Err(Failure::usage(
            "there is no folder of scripts to write a baseline into; name one with --scripts",
        ));
    };
    // What was said by hand about tolerance stays.
    let before = Baseline::read(folder).map_err(|error| Failure::usage(error.to_string()))?;
    let fuel = suite.measure().await.map_err(|why| match why {
        NoPass::Broken(why) => Failure::host(why),
        NoPass::Failed(why) | NoPass::Skipped(why) => Failure::fault(format!(
            "the reference session fails, so there is nothing to measure: {why}"
        )),
    })?;
    let baseline = Baseline {
        tolerance_percent: before
            .map(|before| before.tolerance_percent)
            .unwrap_or_default(),
        fuel,
    };
    baseline.write(folder).map_err(|error| match error {
        BaselineError::File { .. } => Failure::host(error.to_string()),
        BaselineError::Bad { .. } => Failure::usage(error.to_string()),
    })?;
    for (kind, fuel) in &baseline.fuel {
        out.line(&format!("{kind:<10} {fuel}"))?;
    }
    say(&format!(
        "written to {}",
        folder.join(crate::conform::BASELINE).display()
    ));
    Ok(())
}

async fn fuzz(suite: &Suite, time: Duration, seed: u64, out: &mut Output) -> Result<(), Failure> {
    let mut fuzzer = Fuzzer::new(suite.bench(), seed);
    let until = tokio::time::Instant::now() + time;
    let shrunk_by = until + time.max(SHRINKING);
    let progress = Progress::new();
    progress.begin(&format!("trying random events, from seed {seed} on"));
    let before = |moment: tokio::time::Instant| move || tokio::time::Instant::now() < moment;
    let finding = fuzzer.run(before(until), before(shrunk_by)).await;
    drop(progress);
    match finding.map_err(|why| Failure::host(format!("{why:?}")))? {
        None => {
            out.line(&format!(
                "{} sessions with {} events, and nothing found",
                fuzzer.sessions(),
                fuzzer.events()
            ))?;
            Ok(())
        }
        Some(Finding {
            seed,
            steps,
            why,
            from,
        }) => {
            out.line(&format!(
                "found with seed {seed}, {} events of {from} are enough:",
                steps.len()
            ))?;
            for step in &steps {
                out.line(&format!("  {}", plain(step)))?;
            }
            for line in why.lines() {
                out.line(&plain(line))?;
            }
            Err(Failure::Said(FAULT))
        }
    }
}

fn expectations(arguments: &Conform, folder: Option<&Path>) -> Result<Expectations, Failure> {
    let usual = folder
        .map(|folder| folder.join(EXPECTATIONS))
        .filter(|path| path.is_file());
    match arguments.expectations.clone().or(usual) {
        Some(path) => Expectations::read(&path).map_err(|error| Failure::usage(error.to_string())),
        None => Ok(Expectations::default()),
    }
}

fn unusable(error: SuiteError) -> Failure {
    match error {
        SuiteError::Describe(_) => Failure::fault(error.to_string()),
        SuiteError::Script(_) | SuiteError::File { .. } => Failure::usage(error.to_string()),
    }
}

/// The folder of scripts of the driver's crate.
fn find(driver: &Path) -> Option<PathBuf> {
    let path = driver.canonicalize().ok()?;
    let name = path.file_stem()?.to_owned();
    let places = path
        .ancestors()
        .skip(1)
        .take(MAX_ANCESTORS)
        .flat_map(|folder| {
            let crates = ["channels", "tests/guests"]
                .map(|crates| folder.join(crates).join(&name).join(FOLDER));
            crates
                .into_iter()
                .chain([folder.join(&name).join(FOLDER), folder.join(FOLDER)])
        });
    places.into_iter().find(|place| place.is_dir())
}
