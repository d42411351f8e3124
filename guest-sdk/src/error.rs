//! What can go wrong, typed.
//!
//! Everything converts into [`Error`], the failure of one request, so that `?` works in every handler.

use std::fmt;

use crate::abi::{self, CloseReason, Outlook, Quality};

/// Why a request failed: what the host hands to whoever asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The protocol's own code (a Modbus exception, say), where it has one.
    pub code: Option<u32>,
    /// One sentence for an operator.
    pub message: String,
    /// For the driver's author, where there is more to say.
    pub trace: Option<String>,
    /// What kind of failure it is, for whoever asked; and what becomes of a group's tags when its poll ends with this error. Bad, if
    /// nothing more specific is known. The host is told [`Quality::Bad`] where it is none of the bad ones.
    pub quality: Quality,
}

impl Error {
    /// An error in one sentence, without a code, of quality [`Quality::Bad`].
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: None,
            message: message.into(),
            trace: None,
            quality: Quality::Bad,
        }
    }

    /// Adds the protocol's own code.
    #[must_use]
    pub fn with_code(mut self, code: u32) -> Self {
        self.code = Some(code);
        self
    }

    /// Says what kind of failure it is; one of the bad qualities.
    #[must_use]
    pub fn with_quality(mut self, quality: Quality) -> Self {
        self.quality = quality;
        self
    }

    /// This driver cannot do that.
    pub fn not_supported(what: &str) -> Self {
        Self::new(format!("this driver does not support {what}"))
            .with_quality(Quality::BadNotSupported)
    }

    pub(crate) fn cancelled(why: &str) -> Self {
        Self::new(format!("cancelled: {why}"))
    }
}

impl From<Error> for abi::Error {
    fn from(error: Error) -> Self {
        Self {
            quality: error.quality.max(Quality::Bad),
            code: error.code,
            message: cut(error.message, 4 * 1024),
            trace: error.trace.map(|trace| cut(trace, 64 * 1024)),
        }
    }
}

/// As much of a text as the host takes.
fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}

/// A stream has ended, or was not there to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Closed {
    /// Why it ended; `None` while the first dial is still under way.
    pub reason: Option<CloseReason>,
    /// Whether it is worth waiting for the next.
    pub outlook: Outlook,
}

impl Closed {
    /// The first dial is still under way.
    pub(crate) const NOT_YET: Self = Self {
        reason: None,
        outlook: Outlook::Redialling,
    };

    /// Whether the host dials right now, and has not said yet how that ended: at the very first, and after a reset, the driver's or the
    /// operator's.
    pub fn is_dialling(&self) -> bool {
        self.outlook == Outlook::Redialling
            && matches!(
                self.reason,
                None | Some(CloseReason::Requested | CloseReason::ByOperator)
            )
    }

    /// It ended, and the host dials the next.
    pub const fn redialling(reason: CloseReason) -> Self {
        Self {
            reason: Some(reason),
            outlook: Outlook::Redialling,
        }
    }

    /// It ended for good.
    pub(crate) const fn ended(reason: CloseReason) -> Self {
        Self {
            reason: Some(reason),
            outlook: Outlook::Ended,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason {
            None => "not open yet",
            Some(CloseReason::Requested) => "closed by this driver",
            Some(CloseReason::ByPeer) => "closed by the peer",
            Some(CloseReason::Reset) => "reset by the peer",
            Some(CloseReason::Refused) => "refused",
            Some(CloseReason::TimedOut) => "timed out",
            Some(CloseReason::Unreachable) => "peer unreachable",
            Some(CloseReason::Denied) => "not granted by the operator",
            Some(CloseReason::TlsFailed) => "TLS handshake failed",
            Some(CloseReason::HeartbeatLost) => "heartbeat lost",
            Some(CloseReason::HostStopping) => "the host is stopping",
            Some(CloseReason::ByOperator) => "reset by the operator",
            Some(CloseReason::PathGone) => "this machine's own address or interface is gone",
        };
        let then = match self.outlook {
            Outlook::GivenUp => ", and the attempts are spent",
            Outlook::Redialling | Outlook::Ended => "",
        };
        write!(formatter, "connection down: {why}{then}")
    }
}

impl From<Closed> for Error {
    fn from(closed: Closed) -> Self {
        Self::new(closed.to_string()).with_quality(Quality::BadNotConnected)
    }
}

/// The time was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer in time")]
pub struct Elapsed;

impl From<Elapsed> for Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(elapsed.to_string()).with_quality(Quality::BadTimeout)
    }
}

/// Why a stream is not under TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartTlsError {
    /// It ended, or the handshake failed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The host did not begin. There is a stream still, in plain.
    #[error("TLS was not begun: {why}")]
    Declined {
        /// In the host's words, with the remedy.
        why: String,
    },
}

impl From<StartTlsError> for Error {
    fn from(error: StartTlsError) -> Self {
        match error {
            StartTlsError::Closed(closed) => closed.into(),
            StartTlsError::Declined { .. } => {
                Self::new(error.to_string()).with_quality(Quality::BadConfiguration)
            }
        }
    }
}

/// Samples were handed on, and the host does not tell whether they are durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not known to be durable: {why}")]
pub struct NotDurable {
    /// In the host's words, with the remedy.
    pub why: String,
}

impl From<NotDurable> for Error {
    fn from(error: NotDurable) -> Self {
        Self::new(error.to_string()).with_quality(Quality::BadNotSupported)
    }
}

/// Why bytes could not be read from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The stream ended before enough had arrived.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// More was asked for, or came before the delimiter, than the reader allows.
    #[error("more than {max} bytes where a shorter message was due")]
    TooLong {
        /// The most that the reader takes.
        max: usize,
    },
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Closed(closed) => closed.into(),
            LinkError::TooLong { .. } => {
                Self::new(error.to_string()).with_quality(Quality::BadNoCommunication)
            }
        }
    }
}
