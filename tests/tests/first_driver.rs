//! The walk of somebody who writes a first driver, as `docs/FIRST_DRIVER.md` tells it: from `bulkhead new` to samples on the terminal.
//!
//! The commands are taken from that page, and every line that it shows of what they print has to come: it cannot tell another story.
//! Numbers may differ, for times and sizes do. What this test does not do as a new user would: the libraries are those that cargo has
//! fetched before, and `.venv` is the one of the tests, so that no registry needs to be there.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_tests::{Ended, Folder, Lines, Running, paths};

/// How long a compiler may take, on a machine that does much else.
const COMPILER: Duration = Duration::from_secs(1200);

/// A command of the page.
struct Step {
    typed: String,
    /// What the page shows of what it prints.
    shown: Vec<String>,
}

/// The commands of the page's block that begins with this one. Within a block `...` stands for lines that are left out, and a line
/// with `#` says how long it took.
fn steps(first: &str) -> Result<Vec<Step>> {
    let page = std::fs::read_to_string(paths::root().join("docs/FIRST_DRIVER.md"))?;
    let block = page
        .split("```")
        .find(|block| block.lines().nth(1) == Some(&format!("$ {first}")))
        .with_context(|| format!("no block of the page begins with `$ {first}`"))?;
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines().skip(1) {
        if let Some(typed) = line.strip_prefix("$ ") {
            steps.push(Step {
                typed: typed.to_owned(),
                shown: Vec::new(),
            });
        } else if !line.is_empty() && line != "..." && !line.starts_with("# ") {
            let step = steps.last_mut().context("a block begins with a command")?;
            step.shown.push(line.to_owned());
        }
    }
    Ok(steps)
}

/// A line without colours, with `0` in the place of each number and each digest, and one space in the place of many.
fn normal(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(
            part.split_once(|end: char| end.is_ascii_alphabetic())
                .map_or("", |(_, text)| text),
        );
    }
    let line = plain.as_str();
    let words = line.split_whitespace().map(|word| {
        if word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return "0".to_owned();
        }
        let mut short = String::new();
        for letter in word.chars() {
            let of_a_number = short.ends_with('0') && (letter.is_ascii_digit() || letter == '.');
            if !of_a_number {
                short.push(if letter.is_ascii_digit() { '0' } else { letter });
            }
        }
        short
    });
    words.collect::<Vec<_>>().join(" ")
}

impl Step {
    /// Waits until every line that the page shows has come.
    fn is_shown_by(&self, out: &Lines) -> Result<()> {
        let mut from = 0;
        for shown in &self.shown {
            let wanted = normal(shown);
            let mut seen = from;
            out.wait_for(from, |line| {
                seen += 1;
                normal(line).contains(&wanted).then_some(())
            })
            .with_context(|| format!("the page shows {shown:?}"))?;
            // Samples of one poll come in order; what tells of the start comes between them.
            if shown.contains("sensor-1/") && !shown.starts_with("first sample") {
                from = seen;
            }
        }
        Ok(())
    }

    /// Every line that the page shows has come.
    fn is_told_by(&self, said: &[String]) -> Result<()> {
        for shown in &self.shown {
            let wanted = normal(shown);
            ensure!(
                said.iter().any(|line| normal(line).contains(&wanted)),
                "after `{}` the page shows {shown:?}, and this came:\n{}",
                self.typed,
                said.join("\n")
            );
        }
        Ok(())
    }
}

/// Somebody at a terminal.
struct User {
    /// Goes with the user.
    _folder: Folder,
    at: PathBuf,
    sensor: Option<Running>,
}

impl User {
    fn new() -> Result<Self> {
        let folder = Folder::new()?;
        let at = folder.path().to_owned();
        Ok(Self {
            _folder: folder,
            at,
            sensor: None,
        })
    }

    fn command(&self, typed: &str) -> Result<Command> {
        let mut words = typed.split(' ');
        let program = match words.next().unwrap_or_default() {
            "bulkhead" => paths::bulkhead()?,
            program if program.starts_with('.') => self.at.join(program),
            program => PathBuf::from(program),
        };
        let mut command = Command::new(program);
        command
            .current_dir(&self.at)
            .args(words)
            .env("CARGO_NET_OFFLINE", "true")
            .env(
                "CARGO_TARGET_DIR",
                paths::root().join("target/first-driver"),
            );
        Ok(command)
    }

    /// Types a command, and waits until it is done.
    fn types(&mut self, typed: &str) -> Result<Vec<String>> {
        if let Some(folder) = typed.strip_prefix("cd ") {
            self.at.push(folder);
            return Ok(Vec::new());
        }
        if let Some(typed) = typed.strip_suffix(" &") {
            // A free port, for whoever has the usual one.
            let listening = format!("{typed} --listen 127.0.0.1:0");
            let running = Running::start(&mut self.command(&listening)?)?;
            let address = running.out().wait_for(0, |line| {
                Some(line.strip_prefix("listening on ")?.to_owned())
            })?;
            let path = self.at.join("bulkhead.toml");
            let config = std::fs::read_to_string(&path)?;
            ensure!(config.contains("127.0.0.1:5025"), "{config}");
            let config = config.replace("127.0.0.1:5025", &address);
            std::fs::write(path, config + "\n[http]\nlisten = \"127.0.0.1:0\"\n")?;
            self.sensor = Some(running);
            return Ok(vec![format!("listening on {address}")]);
        }
        let ended = Running::start(&mut self.command(typed)?)?.wait_at_most(COMPILER)?;
        done(typed, &ended)?;
        Ok([ended.out, ended.err].concat())
    }

    /// Types `bulkhead run` at a terminal, and waits for all that the page shows.
    fn watches(&self, step: &Step) -> Result<()> {
        let running = Running::start_at_terminal(&mut self.command(&step.typed)?)?;
        step.is_shown_by(running.out())?;
        done(&step.typed, &running.terminate()?)
    }

    /// Types `bulkhead run` where a program reads it, waits until samples have come, and ends it.
    fn runs(&self, typed: &str) -> Result<()> {
        let running = Running::start(&mut self.command(typed)?)?;
        let out: &Lines = running.out();
        let sample = |name: &'static str| {
            move |line: &str| {
                let sample: serde_json::Value = serde_json::from_str(line).ok()?;
                (sample["tag"] == name && sample["quality"] == "good")
                    .then(|| sample["value"].clone())
            }
        };
        let degrees = out
            .wait_for(0, sample("temperature"))
            .with_context(|| running.printed())?;
        let degrees = degrees.as_f64().context("degrees are a number")?;
        ensure!((19.9..23.1).contains(&degrees), "{degrees}");
        out.wait_for(0, sample("alarm"))?;
        let uptime = out.wait_for(0, sample("uptime"))?.as_u64();
        out.wait_for(0, move |line| {
            (sample("uptime")(line)?.as_u64() > uptime).then_some(())
        })?;
        done(typed, &running.terminate()?)
    }
}

/// Checks that the cases of its own script were tried besides the universal ones, and that none failed.
fn conforms(name: &str, said: &[String]) -> Result<()> {
    let own = format!("{name}/writes-and-reads-back");
    ensure!(
        said.iter().any(|line| line.contains(&own))
            && said.iter().any(|line| line.contains(" 0 failed")),
        "{said:#?}"
    );
    Ok(())
}

fn done(typed: &str, ended: &Ended) -> Result<()> {
    ensure!(
        ended.code() == Some(0),
        "`{typed}` ended with {}:\n{}\n{}",
        ended.status,
        ended.out.join("\n"),
        ended.err.join("\n")
    );
    Ok(())
}

/// One at a time: both keep every processor busy.
static TERMINAL: Mutex<()> = Mutex::new(());

#[test]
fn a_first_driver_in_rust() -> Result<()> {
    let _terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
    let mut user = User::new()?;
    let steps = steps("bulkhead new furnace --lang rust")?;
    let [walk @ .., last] = &steps[..] else {
        bail!("the page has no commands");
    };
    ensure!(
        steps.len() == 8 && steps.iter().map(|step| step.shown.len()).sum::<usize>() > 35,
        "the page shows less than it did"
    );
    for step in walk {
        let said = user.types(&step.typed)?;
        step.is_told_by(&said)?;
        match step.typed.as_ref() {
            "cargo test" => {
                let passed = said
                    .iter()
                    .filter(|line| line.contains(" passed; 0 failed"));
                ensure!(passed.count() >= 2, "{said:#?}");
            }
            "bulkhead build" => {
                let ran = said
                    .iter()
                    .any(|line| line.contains("`cargo build --release --target wasm32-wasip2`"));
                ensure!(ran, "it says what it runs: {said:#?}");
            }
            "bulkhead conform furnace.wasm" => conforms("furnace", &said)?,
            "bulkhead inspect furnace.wasm" => {
                let all = said.join("\n");
                for part in [
                    "driver     furnace 0.1.0",
                    "world      bulkhead:channel@0.1.0",
                    "language   Rust",
                    "rustc 1.",
                ] {
                    ensure!(all.contains(part), "{part}: {all}");
                }
            }
            _ => {}
        }
    }
    user.watches(last)?;
    user.runs(&last.typed)
}

#[test]
fn a_first_driver_in_python() -> Result<()> {
    let _terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
    let mut user = User::new()?;
    let steps = steps("bulkhead new oven --lang python")?;
    let [walk @ .., last] = &steps[..] else {
        bail!("the page has no commands");
    };
    ensure!(
        steps.len() == 8 && steps.iter().map(|step| step.shown.len()).sum::<usize>() > 20,
        "the page shows less than it did"
    );
    for step in walk {
        if step.typed == "bulkhead build" {
            let venv = paths::python()?;
            let venv = venv
                .parent()
                .and_then(|bin| bin.parent())
                .context("a virtual environment")?;
            symlink(venv, user.at.join(".venv"))?;
        }
        let said = user.types(&step.typed)?;
        step.is_told_by(&said)?;
        let all = said.join("\n");
        match step.typed.as_ref() {
            "bulkhead build" => ensure!(
                all.contains("componentize oven"),
                "it says what it runs: {all}"
            ),
            ".venv/bin/python -m pytest" => ensure!(all.contains(" passed"), "{all}"),
            "bulkhead conform oven.wasm --memory 64MiB" => conforms("oven", &said)?,
            "bulkhead inspect oven.wasm" => {
                for part in [
                    "driver     oven 0.1.0",
                    "language   Python",
                    "componentize-py 0.",
                ] {
                    ensure!(all.contains(part), "{part}: {all}");
                }
            }
            _ => {}
        }
    }
    user.watches(last)?;
    user.runs(&last.typed)
}

#[test]
fn what_cannot_be_made_or_built_is_refused_with_its_remedy() -> Result<()> {
    let folder = Folder::new()?;
    let check = |arguments: &[&str], code: i32, says: &str| -> Result<()> {
        let ended = folder.run(arguments)?;
        let said = ended.err.join("\n");
        ensure!(
            ended.code() == Some(code) && said.contains(says),
            "{arguments:?}: {said}"
        );
        Ok(())
    };
    check(
        &["new", "json", "--lang", "python"],
        2,
        "Python has a module of this name",
    )?;
    check(&["new", "../up", "--lang", "rust"], 2, "a letter first")?;
    check(&["new", "furnace"], 2, "--lang")?;
    check(&["new", "furnace", "--lang", "rust"], 0, "go on with")?;
    check(
        &["new", "furnace", "--lang", "python"],
        2,
        "is there already",
    )?;
    check(&["build"], 2, "bulkhead new NAME")?;
    // A defect in a driver is the project's, and said by the compiler.
    folder.write("furnace/src/lib.rs", "this is no Rust")?;
    let mut build = Command::new(paths::bulkhead()?);
    build
        .current_dir(folder.path())
        .args(["build", "furnace"])
        .env("CARGO_NET_OFFLINE", "true")
        .env(
            "CARGO_TARGET_DIR",
            paths::root().join("target/first-driver"),
        );
    let ended = Running::start(&mut build)?.wait_at_most(COMPILER)?;
    let said = ended.err.join("\n");
    ensure!(
        ended.code() == Some(1) && said.contains("see what it printed"),
        "{said}"
    );
    Ok(())
}
