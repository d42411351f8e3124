//! The walk of somebody who writes a first driver, as `docs/FIRST_DRIVER.md` tells it: from `bulkhead new` to samples on the terminal.
//!
//! The commands are taken from that page, so it cannot tell another story. What this test does not do as a new user would: the
//! libraries are those that cargo has fetched before, and `.venv` is the one of the tests, so that no registry needs to be there.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Ended, Folder, Lines, Running, paths};

/// How long a compiler may take, on a machine that does much else.
const COMPILER: Duration = Duration::from_secs(1200);

/// The commands of the page that stand in blocks which begin with this one.
fn commands(first: &str) -> Result<Vec<String>> {
    let page = std::fs::read_to_string(paths::root().join("docs/FIRST_DRIVER.md"))?;
    let block = page
        .split("```")
        .find(|block| block.lines().nth(1) == Some(&format!("$ {first}")))
        .with_context(|| format!("no block of the page begins with `$ {first}`"))?;
    let typed = block.lines().filter_map(|line| line.strip_prefix("$ "));
    Ok(typed.map(str::to_owned).collect())
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
            return Ok(Vec::new());
        }
        let ended = Running::start(&mut self.command(typed)?)?.wait_at_most(COMPILER)?;
        done(typed, &ended)?;
        Ok([ended.out, ended.err].concat())
    }

    /// Types `bulkhead run`, waits until samples have come, and ends it.
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
        // The channel needs its first start's compilation, which may take as long as a test waits at once.
        running
            .err()
            .wait_for(0, |line| line.starts_with("compiled ").then_some(()))?;
        let degrees = out.wait_for(0, sample("temperature"))?;
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
    let commands = commands("bulkhead new furnace --lang rust")?;
    ensure!(commands.len() == 8, "{commands:?}");
    for typed in &commands[..7] {
        let said = user.types(typed)?;
        match typed.as_str() {
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
    user.runs(&commands[7])
}

#[test]
fn a_first_driver_in_python() -> Result<()> {
    let _terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
    let mut user = User::new()?;
    let commands = commands("bulkhead new oven --lang python")?;
    ensure!(commands.len() == 8, "{commands:?}");
    for typed in &commands[..7] {
        if typed == "bulkhead build" {
            let venv = paths::python()?;
            let venv = venv
                .parent()
                .and_then(|bin| bin.parent())
                .context("a virtual environment")?;
            symlink(venv, user.at.join(".venv"))?;
        }
        let said = user.types(typed)?;
        let all = said.join("\n");
        match typed.as_str() {
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
    user.runs(&commands[7])
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
