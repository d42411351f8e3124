//! `cargo xtask test`: every test of the repository, with everything that the tests need.

use std::process::ExitCode;

use anyhow::Result;

use crate::{drivers, host, peers, process, python, workspace};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose path contains this
    filter: Option<String>,
    /// Only tests of this crate; may be given more than once
    #[arg(short, long = "package", value_name = "NAME")]
    packages: Vec<String>,
}

/// Installs, builds, tests. The last line of standard output is `N passed, M failed`.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let started = process::now();
    let peers_python = peers::prepare()?;
    drivers::build()?;
    python::build()?;
    let bulkhead = host::build()?;

    let mut cargo = workspace::cargo();
    cargo
        .env("BULKHEAD_BIN", bulkhead)
        .env("BULKHEAD_PYTHON", peers_python);
    cargo.args(["test", "--release", "--no-fail-fast"]);
    if args.packages.is_empty() {
        cargo.arg("--workspace");
        for guest in drivers::guests()? {
            cargo.args(["--exclude", &guest.name]);
        }
    }
    for package in &args.packages {
        cargo.args(["--package", package]);
    }
    if let Some(filter) = &args.filter {
        cargo.args(["--", filter]);
    }
    let mut tally = Tally::default();
    let status = process::lines(&mut cargo, |line| {
        process::say(line);
        tally.add(line);
    })?;

    if !status.success() && tally.failed == 0 {
        process::note(
            "cargo test failed, but not in a test (see above); this counts as one failure",
        );
        tally.failed = 1;
    }
    let nothing_ran = tally.passed + tally.failed == 0;
    if nothing_ran {
        process::note("no test has that name");
    }
    process::note(&format!(
        "all of it in {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    for line in &tally.failures {
        process::say(line);
    }
    process::say(&format!("{} passed, {} failed", tally.passed, tally.failed));
    Ok(if tally.failed > 0 || nothing_ran {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The sum over all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    /// What failed, and what it printed: shown again at the end, since dozens of binaries scroll by after it.
    failures: Vec<String>,
    in_failures: bool,
}

/// What a binary says before it shows its failures.
const FAILURES: &str = "failures:";

/// Lines of failures that are shown again. The rest stands above, where it was printed first.
const MAX_FAILURE_LINES: usize = 400;

impl Tally {
    /// Adds what a line such as `test result: ok. 3 passed; 0 failed; ...` says; other lines count nothing.
    fn add(&mut self, line: &str) {
        self.in_failures |= line == FAILURES;
        let Some(result) = line.strip_prefix("test result: ") else {
            if self.in_failures && self.failures.len() < MAX_FAILURE_LINES {
                self.failures.push(line.to_owned());
            }
            return;
        };
        self.in_failures = false;
        let Some((_verdict, counts)) = result.split_once(". ") else {
            return;
        };
        for count in counts.split("; ") {
            match count
                .split_once(' ')
                .map(|(number, what)| (number.parse::<u64>(), what))
            {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_summed() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.02s",
            "test some::thing ... FAILED",
            "failures:",
            "---- some::thing stdout ----",
            "failures:",
            "    some::thing",
            "test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.50s",
            "test result: nonsense",
            "something printed: 5 passed; 5 failed",
        ] {
            tally.add(line);
        }
        assert_eq!(
            tally,
            Tally {
                passed: 13,
                failed: 2,
                failures: [
                    "failures:",
                    "---- some::thing stdout ----",
                    "failures:",
                    "    some::thing",
                ]
                .map(str::to_owned)
                .to_vec(),
                in_failures: false,
            }
        );
    }
}
