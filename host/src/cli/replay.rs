//! `bulkhead replay`: a crash again.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::Replay;
use super::failure::{FAULT, Failure};
use super::loading::load_driver;
use super::output::{Output, Tone, plain};
use crate::driver::{Driver, digest};
use crate::limits::{COMPONENT_BYTES, MEMORY};
use crate::recorder::{Bundle, DriverRecord, FrameRecord};
use crate::replay::{Ending, Report, Verdict, replay as run};

#[derive(Serialize)]
struct Printed<'a> {
    bundle: String,
    driver: String,
    channel: &'a str,
    incarnation: u64,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) async fn replay(arguments: Replay) -> Result<(), Failure> {
    let path = arguments.bundle.clone();
    let read = tokio::task::spawn_blocking(move || Bundle::read(&path)).await;
    let bundle = match read {
        Ok(bundle) => bundle.map_err(|error| Failure::fault(error.to_string()))?,
        Err(error) => {
            return Err(Failure::host(format!(
                "reading the bundle failed: {error}; report it to Bulkhead's developers"
            )));
        }
    };
    let driver = load(&arguments, &bundle).await?;
    if arguments.to_script {
        let script = crate::conform::to_script(&bundle, &driver).await;
        let script = script.map_err(|error| Failure::fault(error.to_string()))?;
        Output::new().line(script.trim_end())?;
        return Ok(());
    }
    let report = run(&bundle, &driver)
        .await
        .map_err(|error| Failure::fault(error.to_string()))?;
    let mut out = Output::new();
    if arguments.json {
        out.json(&Printed {
            bundle: arguments.bundle.display().to_string(),
            driver: driver.path().display().to_string(),
            channel: &bundle.header.channel,
            incarnation: bundle.header.incarnation,
            report: &report,
        })?;
    } else {
        print(&mut out, &bundle, driver.path(), &report)?;
    }
    // A driver that was named is what is checked: it may not fault, even where it is the one that crashed.
    let in_order = match report.verdict {
        Verdict::Holds => true,
        Verdict::Reproduced => arguments.driver.is_none(),
        Verdict::NotReproduced | Verdict::Faults => false,
    };
    if in_order {
        Ok(())
    } else {
        Err(Failure::Said(FAULT))
    }
}

/// The driver that was named; else the one that crashed, if it is still where it was or stands beside the bundle.
async fn load(arguments: &Replay, bundle: &Bundle) -> Result<Driver, Failure> {
    let path = match &arguments.driver {
        Some(named) => named.clone(),
        None => find(&arguments.bundle, &bundle.header.driver)?,
    };
    load_driver(
        &path,
        bundle.header.limits.memory.clamp(MEMORY.least, MEMORY.most),
    )
    .await
}

/// The file of the driver that crashed, known by its digest.
fn find(bundle: &Path, recorded: &DriverRecord) -> Result<PathBuf, Failure> {
    let was_at = Path::new(&recorded.path);
    let beside = was_at
        .file_name()
        .map(|name| bundle.with_file_name(name))
        .filter(|beside| beside != was_at);
    let mut found = None;
    for path in std::iter::once(was_at.to_owned()).chain(beside) {
        let Some(sha256) = sha256(&path) else {
            continue;
        };
        if sha256 == recorded.sha256 {
            return Ok(path);
        }
        found.get_or_insert((path, sha256));
    }
    let was = plain(&recorded.sha256);
    Err(Failure::usage(match found {
        Some((path, is)) => format!(
            "{} has changed since it crashed (its sha256 was {was}, and is {is}); put the one that crashed beside the bundle, \
             or name one with --driver, to see whether that holds",
            plain(&path.display().to_string())
        ),
        None => format!(
            "the driver that crashed is not at {} any more; put it beside the bundle, or name one with --driver (its \
             sha256 is {was})",
            plain(&recorded.path)
        ),
    }))
}

/// `None` where there is no such file, or something that can be no driver.
fn sha256(path: &Path) -> Option<String> {
    let is = std::fs::metadata(path).ok()?;
    if !is.is_file() || is.len() > COMPONENT_BYTES {
        return None;
    }
    let digest = digest(&std::fs::read(path).ok()?);
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn print(out: &mut Output, bundle: &Bundle, driver: &Path, report: &Report) -> Result<(), Failure> {
    let header = &bundle.header;
    out.line(&format!(
        "channel   {}#{}, {} turns with {} events",
        plain(&header.channel),
        header.incarnation,
        header.turns,
        header.events
    ))?;
    let which = if report.same_driver {
        "the recorded one"
    } else {
        "another than the recorded one"
    };
    out.line(&format!("driver    {} ({which})", driver.display()))?;
    ending(out, "recorded", Some(&report.recorded))?;
    ending(out, "replayed", report.replayed.as_ref())?;
    if let Some(replayed) = &report.replayed {
        for FrameRecord { function, source } in &replayed.backtrace {
            let source = source
                .as_deref()
                .map(|source| format!(" ({})", plain(source)))
                .unwrap_or_default();
            out.line(&format!("          at {}{source}", plain(function)))?;
        }
    }
    if let Some(divergence) = &report.divergence {
        out.line(&format!(
            "differs   first at {}: recorded {}, replayed {}",
            divergence.at, divergence.recorded, divergence.replayed
        ))?;
    }
    for note in &report.notes {
        out.line(&format!("note      {}", plain(note)))?;
    }
    let effort = if report.best_effort {
        " (best effort)"
    } else {
        ""
    };
    let what = if report.recorded.in_order() {
        "session"
    } else {
        "crash"
    };
    let (tone, sentence) = match report.verdict {
        Verdict::Reproduced => (Tone::Good, format!("the {what} was reproduced")),
        Verdict::NotReproduced => (Tone::Bad, format!("the {what} was not reproduced")),
        Verdict::Holds => (
            Tone::Good,
            "the driver holds to the end of the recording".to_owned(),
        ),
        Verdict::Faults => (Tone::Bad, "the driver still faults".to_owned()),
    };
    let word = out.paint(tone, report.verdict.as_str());
    out.line(&format!("{word}: {sentence}{effort}"))?;
    Ok(())
}

fn ending(out: &mut Output, what: &str, ending: Option<&Ending>) -> Result<(), Failure> {
    let Some(ending) = ending else {
        out.line(&format!("{what:<9} no end: it took all of the recording"))?;
        return Ok(());
    };
    let fuel = ending
        .fuel
        .map(|fuel| format!(" after fuel {fuel}"))
        .unwrap_or_default();
    out.line(&format!(
        "{what:<9} {} in {}, turn {}{fuel}: {}",
        ending.exit,
        ending.during,
        ending.turn,
        plain(&ending.message)
    ))?;
    if !ending.events.is_empty() {
        out.line(&format!(
            "          given {}",
            plain(&ending.events.join(", "))
        ))?;
    }
    Ok(())
}
