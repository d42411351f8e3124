//! What comes of one case.

use serde::Serialize;

use crate::exit::Exit;

/// Why a case did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPass {
    /// The driver breaks the rule; what it did, in a few lines.
    Failed(String),
    /// It does not concern this driver, or cannot be tried with what is known of it; why.
    Skipped(String),
    /// The host itself is at fault.
    Broken(String),
}

/// Passed, with what is worth reporting; or not.
pub type CaseResult = Result<Option<String>, NoPass>;

impl NoPass {
    /// The driver is at fault.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    /// The case does not apply.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped(why.into())
    }
}

impl From<&Exit> for NoPass {
    fn from(exit: &Exit) -> Self {
        use std::fmt::Write as _;

        if exit.kind == crate::exit::ExitKind::HostFault {
            return Self::Broken(exit.to_string());
        }
        let mut text = format!("the driver ended, {exit}");
        // A panic's own machinery is the innermost dozen.
        for frame in exit.backtrace.iter().take(20) {
            let source = frame.source.as_deref().unwrap_or("");
            // Writing to a string cannot fail.
            let _written = write!(text, "\n  at {} {source}", frame.function);
        }
        Self::Failed(text)
    }
}

/// How a case ended, once expectations are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// In order.
    Passed,
    /// The driver breaks the rule.
    Failed,
    /// Not tried.
    Skipped,
    /// It failed, as the expectations file says.
    ExpectedFailure,
    /// It passed, and the expectations file says that it fails: the file is out of date.
    UnexpectedPass,
    /// The host is at fault.
    Broken,
}

impl Verdict {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
            Verdict::ExpectedFailure => "expected-failure",
            Verdict::UnexpectedPass => "unexpected-pass",
            Verdict::Broken => "broken",
        }
    }
}

/// One case in a report.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// Stable: `universal/stop`, or `script/FILE/CASE`.
    pub id: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it failed or was skipped; what it measured, where it passed.
    pub text: String,
    /// Where a script's case stands, as `FILE:LINE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Everything that came of one driver.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of the cases.
    pub conformance: &'static str,
    /// The driver's file.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
    /// What it calls itself, with its version.
    pub driver: String,
    /// Every case, in order.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// How many cases ended so.
    pub fn count(&self, verdict: Verdict) -> usize {
        let cases = self.cases.iter();
        cases.filter(|case| case.verdict == verdict).count()
    }

    /// Whether the driver is in order: nothing failed that was not expected, and something was tried, be it that it failed as expected.
    pub fn is_in_order(&self) -> bool {
        self.count(Verdict::Failed) == 0
            && self.count(Verdict::UnexpectedPass) == 0
            && self.count(Verdict::Broken) == 0
            && self.count(Verdict::Passed) + self.count(Verdict::ExpectedFailure) > 0
    }

    /// The last line of a report.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "conformance {}: {} passed, {} failed, {} skipped",
            self.conformance,
            self.count(Verdict::Passed),
            self.count(Verdict::Failed)
                + self.count(Verdict::UnexpectedPass)
                + self.count(Verdict::Broken),
            self.count(Verdict::Skipped)
        );
        let expected = self.count(Verdict::ExpectedFailure);
        if expected > 0 {
            text += &format!(", {expected} failed as expected");
        }
        text
    }
}
