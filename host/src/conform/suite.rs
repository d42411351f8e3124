//! Every case of one driver, in order, into one report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::baseline::Baseline;
use super::expectations::Expectations;
use super::outcome::{CaseReport, CaseResult, NoPass, Report, Verdict};
use super::plant::Plant;
use super::script::{self, MAX_SCRIPT, Script, ScriptFaults, Section};
use super::universal::{Bench, CASES, needs_measured};
use super::{Measured, VERSION};
use crate::driver::{Driver, DriverInfo, Instance};

/// The most scripts in one folder.
const MAX_SCRIPTS: usize = 1_000;

/// Why nothing can be tried.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The driver cannot say what it is.
    #[error("the driver cannot say what it is: {0}")]
    Describe(String),
    /// Scripts have faults.
    #[error("{0}")]
    Script(#[from] ScriptFaults),
    /// A file or folder cannot be read.
    #[error("{path} cannot be read: {reason}")]
    File {
        /// The file or folder.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Everything that one driver is tried with.
pub struct Suite {
    driver: Driver,
    info: DriverInfo,
    scripts: Vec<Script>,
    plant: Plant,
    baseline: Option<Baseline>,
    expectations: Expectations,
    filter: Option<String>,
    seed: u64,
    memory: u64,
}

/// The scripts in a folder, by name.
pub fn scripts_in(folder: &Path) -> Result<Vec<Script>, SuiteError> {
    let entries =
        std::fs::read_dir(folder).map_err(|error| unreadable(folder, error.to_string()))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| unreadable(folder, error.to_string()))?
            .path();
        if path.extension().is_some_and(|ending| ending == "script") {
            paths.push(path);
        }
    }
    if paths.len() > MAX_SCRIPTS {
        return Err(unreadable(
            folder,
            format!("it has more than {MAX_SCRIPTS} scripts"),
        ));
    }
    paths.sort();
    let mut scripts = Vec::new();
    let mut faults = Vec::new();
    for path in paths {
        match script_in(&path) {
            Ok(script) => scripts.push(script),
            Err(SuiteError::Script(ScriptFaults(some))) => faults.extend(some),
            Err(error) => return Err(error),
        }
    }
    if faults.is_empty() {
        Ok(scripts)
    } else {
        Err(ScriptFaults(faults).into())
    }
}

/// The script in a file.
pub fn script_in(path: &Path) -> Result<Script, SuiteError> {
    let size = std::fs::metadata(path)
        .map_err(|error| unreadable(path, error.to_string()))?
        .len();
    if size > MAX_SCRIPT {
        return Err(unreadable(
            path,
            format!("it is larger than {MAX_SCRIPT} bytes"),
        ));
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| unreadable(path, error.to_string()))?;
    Ok(script::parse(path, &text)?)
}

fn unreadable(path: &Path, reason: String) -> SuiteError {
    SuiteError::File {
        path: path.display().to_string(),
        reason,
    }
}

impl Suite {
    /// Asks the driver what it is. The plant is the head of the first script with `reply` lines, else of the first; without scripts
    /// it is made up. The driver has the memory of a channel that says nothing of it.
    pub async fn new(driver: &Driver, scripts: Vec<Script>) -> Result<Self, SuiteError> {
        Self::within(crate::limits::MEMORY.default, driver, scripts).await
    }

    /// As [`Suite::new`], for a driver that may hold so many bytes.
    pub async fn within(
        memory: u64,
        driver: &Driver,
        scripts: Vec<Script>,
    ) -> Result<Self, SuiteError> {
        let now = super::stage::beginning();
        let spec = super::stage::spec(7, memory, 1);
        let ended = |exit: crate::exit::Exit| SuiteError::Describe(exit.to_string());
        let instance = Instance::start(driver, spec, now).await.map_err(ended)?;
        let (_, info) = instance.describe().await.map_err(ended)?;
        let best = scripts
            .iter()
            .find(|script| !script.plant.replies.is_empty())
            .or_else(|| scripts.first());
        let plant = match best {
            Some(script) => Plant::of(&script.plant, script.path.display().to_string()),
            None => Plant::derived(driver, &info, memory).await,
        };
        Ok(Self {
            driver: driver.clone(),
            info,
            scripts,
            plant,
            baseline: None,
            expectations: Expectations::default(),
            filter: None,
            seed: 1,
            memory,
        })
    }

    /// The universal cases are tried with this.
    #[must_use]
    pub fn with_plant(mut self, section: &Section, source: String) -> Self {
        self.plant = Plant::of(section, source);
        self
    }

    /// Events cost what stands there.
    #[must_use]
    pub fn with_baseline(mut self, baseline: Option<Baseline>) -> Self {
        self.baseline = baseline;
        self
    }

    /// These fail.
    #[must_use]
    pub fn with_expectations(mut self, expectations: Expectations) -> Self {
        self.expectations = expectations;
        self
    }

    /// Only cases whose id contains this.
    #[must_use]
    pub fn with_filter(mut self, filter: Option<String>) -> Self {
        self.filter = filter;
        self
    }

    /// Where random bytes begin.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What the driver says of itself.
    pub fn info(&self) -> &DriverInfo {
        &self.info
    }

    /// What the universal cases are tried with.
    pub fn bench(&self) -> Bench<'_> {
        Bench {
            driver: &self.driver,
            info: &self.info,
            plant: &self.plant,
            memory: self.memory,
            seed: self.seed,
            baseline: self.baseline.as_ref(),
        }
    }

    /// What each kind of event costs, for a baseline.
    pub async fn measure(&self) -> Result<Measured, NoPass> {
        needs_measured(&self.bench()).await
    }

    /// The ids of all cases that would run.
    pub fn ids(&self) -> Vec<String> {
        let mut ids = self.all_ids();
        ids.retain(|id| self.is_wanted(id));
        ids
    }

    /// The lines of the expectations that name no case at all, whatever the filter.
    pub fn unknown_expectations(&self) -> Vec<&str> {
        self.expectations.unknown(&self.all_ids())
    }

    fn all_ids(&self) -> Vec<String> {
        let universal = CASES.iter().map(|case| case.id.to_owned());
        let scripted = self
            .scripts
            .iter()
            .flat_map(|script| script.cases.iter().map(|case| id(script, &case.name)));
        universal.chain(scripted).collect()
    }

    fn is_wanted(&self, id: &str) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| id.contains(filter.as_str()))
    }

    /// Tries everything. `begins` is told the id of each case, `ends` what came of it.
    pub async fn run(
        &self,
        mut begins: impl FnMut(&str),
        mut ends: impl FnMut(&CaseReport),
    ) -> Report {
        let mut cases = Vec::new();
        let bench = self.bench();
        for case in CASES.iter().filter(|case| self.is_wanted(case.id)) {
            begins(case.id);
            let began = Instant::now();
            let result = case.run(&bench).await;
            let report = self.judge(case.id.to_owned(), None, result, began.elapsed());
            ends(&report);
            cases.push(report);
        }
        for script in &self.scripts {
            for case in &script.cases {
                let id = id(script, &case.name);
                if !self.is_wanted(&id) {
                    continue;
                }
                begins(&id);
                let began = Instant::now();
                let result = script::run(&bench, script, case).await;
                let place = format!("{}:{}", script.path.display(), case.line);
                let report = self.judge(id, Some(place), result, began.elapsed());
                ends(&report);
                cases.push(report);
            }
        }
        Report {
            conformance: VERSION,
            file: self.driver.path().display().to_string(),
            sha256: self.driver.sha256(),
            driver: format!("{} {}", self.info.name, self.info.version),
            cases,
        }
    }

    fn judge(
        &self,
        id: String,
        place: Option<String>,
        result: CaseResult,
        took: Duration,
    ) -> CaseReport {
        let reason = self.expectations.reason(&id);
        let (verdict, text) = match (result, reason) {
            (Ok(note), None) => (Verdict::Passed, note.unwrap_or_default()),
            (Ok(_), Some(reason)) => (
                Verdict::UnexpectedPass,
                format!("it passes, and was expected to fail: {reason}; take it off the list"),
            ),
            (Err(NoPass::Failed(text)), None) => (Verdict::Failed, text),
            (Err(NoPass::Failed(text)), Some(reason)) => {
                (Verdict::ExpectedFailure, format!("{reason}\n{text}"))
            }
            (Err(NoPass::Skipped(why)), _) => (Verdict::Skipped, why),
            (Err(NoPass::Broken(why)), _) => (Verdict::Broken, why),
        };
        CaseReport {
            id,
            verdict,
            text: crate::text::shown_lines(&text, 16 << 10),
            place,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn id(script: &Script, case: &str) -> String {
    format!("script/{}/{case}", script.name)
}
