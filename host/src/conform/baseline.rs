//! What each kind of event may cost: a file beside the scripts, written by `--bless` and reviewed like a snapshot.
//!
//! Fuel is counted by the engine, instruction by instruction, so the figures are exact: the same file of a driver costs the same on
//! every machine. Another build of it (another compiler, another folder) may lay its code out in another way; `tolerance_percent`
//! says how much that may make.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The name of the file.
pub const BASELINE: &str = "baseline.toml";

/// Fuel by kind of event.
pub type Measured = BTreeMap<String, u64>;

/// What is expected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// By how many hundredths a figure may differ; 0 where nothing is said.
    #[serde(default)]
    pub tolerance_percent: u8,
    /// The most that one event of each kind costs.
    pub fuel: Measured,
}

/// A baseline that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It cannot be read or written.
    #[error("{path} cannot be {what}: {source}")]
    File {
        /// The file.
        path: String,
        /// `read`, `written`.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It is none.
    #[error("{path} is no baseline: {reason}; `bulkhead conform --bless` writes one")]
    Bad {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl Baseline {
    /// Reads the one in this folder, if there is one.
    pub fn read(folder: &Path) -> Result<Option<Self>, BaselineError> {
        let path = folder.join(BASELINE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(BaselineError::File {
                    path: path.display().to_string(),
                    what: "read",
                    source,
                });
            }
        };
        toml::from_str(&text)
            .map(Some)
            .map_err(|error| BaselineError::Bad {
                path: path.display().to_string(),
                reason: error.message().to_owned(),
            })
    }

    /// Writes it into this folder.
    pub fn write(&self, folder: &Path) -> Result<(), BaselineError> {
        let path = folder.join(BASELINE);
        let bad = |reason: String| BaselineError::Bad {
            path: path.display().to_string(),
            reason,
        };
        let body = toml::to_string(self).map_err(|error| bad(error.to_string()))?;
        let head = "# Fuel that one event of each kind costs at most in the reference session. Written by `bulkhead conform --bless`.\n";
        std::fs::write(&path, format!("{head}{body}")).map_err(|source| BaselineError::File {
            path: path.display().to_string(),
            what: "written",
            source,
        })
    }

    /// Where what was measured is not what is expected, one line each.
    pub fn differences(&self, measured: &Measured) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, expected) in &self.fuel {
            match measured.get(kind) {
                None => lines.push(format!(
                    "{kind}: expected {expected} fuel; there was no such event"
                )),
                Some(found) if self.is_within(*expected, *found) => {}
                Some(found) => {
                    lines.push(format!("{kind}: expected {expected} fuel, found {found}"))
                }
            }
        }
        let new = measured
            .iter()
            .filter(|(kind, _)| !self.fuel.contains_key(*kind));
        lines.extend(
            new.map(|(kind, found)| format!("{kind}: not in the baseline, found {found} fuel")),
        );
        lines
    }

    fn is_within(&self, expected: u64, found: u64) -> bool {
        let most = u128::from(expected) * u128::from(self.tolerance_percent);
        u128::from(expected.abs_diff(found)) * 100 <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_exact_unless_it_is_said() {
        let measured = |figures: &[(&str, u64)]| {
            figures
                .iter()
                .map(|(kind, fuel)| ((*kind).to_owned(), *fuel))
                .collect::<Measured>()
        };
        let check = |tolerance_percent: u8, found: &[(&str, u64)], expected: usize| {
            let baseline = Baseline {
                tolerance_percent,
                fuel: measured(&[("poll", 1000), ("timer", 50)]),
            };
            assert_eq!(
                baseline.differences(&measured(found)).len(),
                expected,
                "{found:?}"
            );
        };
        check(0, &[("poll", 1000), ("timer", 50)], 0);
        check(0, &[("poll", 1001), ("timer", 50)], 1);
        check(5, &[("poll", 1050), ("timer", 48)], 0);
        check(5, &[("poll", 1051), ("timer", 47)], 2);
        check(0, &[("poll", 1000), ("read", 1)], 2);
    }
}
