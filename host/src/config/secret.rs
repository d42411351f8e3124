//! Secrets: never in the file, only where they are found.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::section::Section;

/// The longest secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// Where a secret is found. It is read when it is used, so that a new one holds from the next connection on, and never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// `env:NAME`: an environment variable.
    Env(String),
    /// `file:PATH`: a file, without the line's end behind it. Relative paths are relative to the configuration's folder.
    File(PathBuf),
}

/// Why a secret cannot be had. Says nothing of the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret {place} cannot be read: {cause}; {remedy}")]
pub struct NoSecret {
    place: String,
    cause: String,
    remedy: &'static str,
}

impl fmt::Display for Secret {
    /// The reference, as the file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Env(name) => write!(f, "env:{name}"),
            Secret::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Secret {
    /// Reads it, from the environment or a file of at most 64 KiB. Blocks for as long as the file takes.
    #[expect(
        clippy::disallowed_methods,
        reason = "`env:NAME` asks for this one variable, by the operator's own word"
    )]
    pub fn read(&self) -> Result<String, NoSecret> {
        let fault = |cause: String, remedy| NoSecret {
            place: self.to_string(),
            cause,
            remedy,
        };
        match self {
            Secret::Env(name) => std::env::var(name).map_err(|error| {
                let remedy = "set it in the environment of the host, and start the host again";
                fault(error.to_string(), remedy)
            }),
            Secret::File(path) => {
                let remedy = "make the file, and let the host read it";
                let mut text = String::new();
                let read = std::fs::File::open(path)
                    .and_then(|file| file.take(MAX_SECRET + 1).read_to_string(&mut text));
                match read {
                    Err(error) => Err(fault(error.to_string(), remedy)),
                    Ok(length) if length as u64 > MAX_SECRET => Err(fault(
                        format!("it is longer than {MAX_SECRET} bytes"),
                        "write the secret alone into the file",
                    )),
                    Ok(_) => {
                        let whole = text.trim_end_matches(['\r', '\n']).len();
                        text.truncate(whole);
                        Ok(text)
                    }
                }
            }
        }
    }
}

/// Reads a reference to a secret, if it is there.
pub(super) fn secret(section: &Section<'_>, key: &str, folder: &Path) -> Option<Secret> {
    let text = section.string(key, "env:BULKHEAD_PASSWORD")?;
    let found = match text.split_once(':') {
        Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
            Some(Secret::Env(name.to_owned()))
        }
        Some(("file", path)) if !path.is_empty() => Some(Secret::File(folder.join(path))),
        _ => None,
    };
    if found.is_none() {
        section.fault_at(
            key,
            format!(
                "`{key}` must say where the secret is found, not what it is; write `env:NAME` or `file:PATH`"
            ),
        );
    }
    found
}
