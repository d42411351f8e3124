//! Why a request was not answered as it should have been.

use std::time::Duration;

use bulkhead_sdk::{Closed, Error, Quality};
use thiserror::Error as ThisError;

use crate::exception::Exception;
use crate::pdu::Malformed;

/// What became of a request that has no data to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum Failure {
    /// There is no stream, or it ended before the answer had come.
    #[error(transparent)]
    NotConnected(#[from] Closed),
    /// The unit kept silent.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Whoever asked does not wait any more; nothing was sent.
    #[error("the time for the whole request was up before this part of it was sent")]
    Overdue,
    /// The answer, or else the request, began and did not end.
    #[error("the connection stopped in the middle of a frame")]
    CutShort,
    /// On a serial line somebody speaks all the time.
    #[error("the line does not fall silent: somebody speaks who was not asked")]
    Noise,
    /// A broadcast that wants an answer; nothing was sent.
    #[error("unit 0 is all units at once, and none answers: it can be written, not read")]
    Broadcast,
    /// The units call in, and none has.
    #[error("the unit has not called in")]
    NobodyCalled,
    /// What came is not the answer.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The unit refused.
    #[error("{}", .0.message())]
    Exception(Exception),
}

impl Failure {
    /// What it says of the tags that were asked for.
    pub fn quality(self) -> Quality {
        match self {
            Self::NotConnected(_) | Self::NobodyCalled => Quality::BadNotConnected,
            Self::Timeout(_) | Self::Overdue => Quality::BadTimeout,
            Self::CutShort | Self::Malformed(_) | Self::Noise => Quality::BadNoCommunication,
            Self::Broadcast => Quality::BadNotSupported,
            Self::Exception(exception) => exception.quality(),
        }
    }

    /// The exception, if it is one.
    pub fn code(self) -> Option<u32> {
        match self {
            Self::Exception(Exception(code)) => Some(code.into()),
            _ => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Error {
            code: failure.code(),
            ..Error::new(failure.to_string()).with_quality(failure.quality())
        }
    }
}
