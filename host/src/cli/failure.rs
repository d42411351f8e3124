//! How a command ends that does not do what it was asked.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use crate::config::Faults;
use crate::http::wire;

/// The thing checked, asked for or written to is at fault.
pub(super) const FAULT: u8 = 1;
/// Wrong usage. clap uses the same.
pub(super) const USAGE: u8 = 2;
/// The host's own failure: no host, a taken port, a locked folder.
pub(super) const HOST: u8 = 3;

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum Failure {
    /// In one message, with an exit code.
    Told {
        /// The exit code.
        code: u8,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// A running host refused.
    Refused(Box<wire::Error>),
    /// A configuration is at fault.
    Config(Faults),
    /// Everything has been said already.
    Said(u8),
    /// Nobody reads what is written. That is no fault.
    Quiet,
}

impl Failure {
    pub(super) fn fault(message: impl Into<String>) -> Self {
        Self::Told {
            code: FAULT,
            message: message.into(),
        }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Told {
            code: USAGE,
            message: message.into(),
        }
    }

    pub(super) fn host(message: impl Into<String>) -> Self {
        Self::Told {
            code: HOST,
            message: message.into(),
        }
    }

    pub(super) fn code(&self) -> u8 {
        match self {
            Failure::Told { code, .. } | Failure::Said(code) => *code,
            Failure::Refused(_) | Failure::Config(_) => FAULT,
            Failure::Quiet => 0,
        }
    }

    /// Says it on standard error; for programs as one JSON object.
    pub(super) fn report(self, json: bool) -> ExitCode {
        let code = self.code();
        if let Some(text) = self.text(json) {
            // There is nobody left to tell where even standard error is gone.
            drop(io::Write::write_all(
                &mut io::stderr().lock(),
                text.as_bytes(),
            ));
        }
        ExitCode::from(code)
    }

    fn text(&self, json: bool) -> Option<String> {
        let mut text = String::new();
        match self {
            Failure::Told { message, .. } if json => {
                let (message, remedy) = message.rsplit_once("; ").unwrap_or((message, ""));
                let code = match self.code() {
                    USAGE => "usage",
                    HOST => "host",
                    _ => "fault",
                };
                let (code, message, remedy) =
                    (code.to_owned(), message.to_owned(), remedy.to_owned());
                let error = wire::Error {
                    code,
                    message,
                    remedy,
                    quality: None,
                    device_code: None,
                    retry_after_ms: None,
                    trace: None,
                    faults: None,
                };
                text = serde_json::to_string(&wire::ErrorAnswer { error }).ok()?;
            }
            Failure::Told { message, .. } => write!(text, "error: {message}").ok()?,
            Failure::Refused(error) if json => {
                text = serde_json::to_string(&wire::ErrorAnswer {
                    error: (**error).clone(),
                })
                .ok()?;
            }
            Failure::Refused(error) => {
                write!(text, "error: {}", error.message).ok()?;
                if let Some(code) = error.device_code {
                    write!(text, " (code {code})").ok()?;
                }
                if !error.message.contains(&error.remedy) {
                    write!(text, "\n  {}", error.remedy).ok()?;
                }
            }
            Failure::Config(faults) if json => text = serde_json::to_string(faults).ok()?,
            Failure::Config(faults) => text = faults.to_string(),
            Failure::Said(_) | Failure::Quiet => return None,
        }
        text.push('\n');
        Some(text)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Told { message, .. } => f.write_str(message),
            Failure::Refused(error) => f.write_str(&error.message),
            Failure::Config(faults) => faults.fmt(f),
            Failure::Said(_) | Failure::Quiet => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Quiet,
            _ => Failure::host(format!(
                "standard output cannot be written: {error}; see to where it leads"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_output_is_no_fault() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code(), failure.text(false)), (0, None));
        assert_eq!(
            Failure::from(io::Error::from(io::ErrorKind::StorageFull)).code(),
            HOST
        );
    }

    #[test]
    fn a_message_is_for_people_or_for_programs() {
        let failure = Failure::host("the port is taken; take another");
        assert_eq!(
            failure.text(false).unwrap(),
            "error: the port is taken; take another\n"
        );
        assert_eq!(
            failure.text(true).unwrap(),
            "{\"error\":{\"code\":\"host\",\"message\":\"the port is taken\",\"remedy\":\"take another\"}}\n"
        );
    }
}
