//! How bad a condition is.

use std::fmt;

/// How bad a condition is that a driver, or the host, raises an alarm for. One to one with the WIT's `severity`, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is wrong; good to know.
    Info,
    /// Nothing is lost yet, and somebody should look.
    Warning,
    /// Something does not work.
    Error,
    /// Somebody has to act at once.
    Critical,
}

impl Severity {
    /// The name, as the WIT and every interface of the host write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
