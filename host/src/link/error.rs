//! Why a dial failed: for the log, with the remedy. The driver is told no more than the [`CloseReason`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::mail::CloseReason;
use super::tls::{TlsFault, fault_of};
use crate::ids::ChannelId;

/// A dial that led to no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The driver asked for a place that the operator did not grant.
    #[error("channel {channel} may not dial {target}; add it under its links")]
    NotGranted { channel: ChannelId, target: String },
    /// The driver named no place, and the link has none of its own.
    #[error(
        "channel {channel} names no address within the `dial` ranges of link {link}; add `connect` if there is one address, or mend the driver's settings"
    )]
    NoTarget { channel: ChannelId, link: String },
    /// The operator did not allow TLS on a plain link.
    #[error("link {link} does not allow its driver to begin TLS; add `start_tls = true`")]
    NoStartTls { link: String },
    /// The name has no address.
    #[error(
        "no address is known for {host} ({cause}); correct the name in `connect`, or write the address"
    )]
    Unresolved { host: String, cause: io::Error },
    /// The name leads to a place for which no name is leave enough.
    #[error(
        "the name {host} leads to {address}, which is not dialled by name; mend the name service, or write the address in `connect` if it is meant"
    )]
    LedAstray { host: String, address: IpAddr },
    /// The name service did not answer in time.
    #[error("the name {host} was not resolved within {}; mend the name service, or write the address in `connect`", humantime::format_duration(*within))]
    UnresolvedInTime { host: String, within: Duration },
    /// Nobody answered in time.
    #[error("{address} did not answer within {}; check that the device is on, or raise `connect_timeout`", humantime::format_duration(*within))]
    TimedOut {
        address: SocketAddr,
        within: Duration,
    },
    /// The operating system said no.
    #[error(
        "{address} cannot be reached ({cause}); check that the device is on and that `connect` is right"
    )]
    Failed {
        address: SocketAddr,
        cause: io::Error,
    },
    /// The certificate, or the peer's wish for one of ours, or no TLS at all; with the remedy.
    #[error("no TLS with {peer}: {why}")]
    TlsFailed { peer: String, why: String },
    /// The stream broke during the handshake.
    #[error(
        "{peer} ended the TLS handshake ({cause}); check that it speaks TLS on this port, and its own log"
    )]
    TlsBroken { peer: String, cause: io::Error },
    /// The handshake came to no end.
    #[error("{peer} did not answer the TLS handshake within {}; check that it speaks TLS on this port, or raise `connect_timeout`", humantime::format_duration(*within))]
    TlsTimedOut { peer: String, within: Duration },
    /// Our own part of TLS is not in order.
    #[error(transparent)]
    TlsSetUp(TlsFault),
    /// No such socket, or nobody behind it.
    #[error("{} cannot be reached ({cause}); check that its program runs, and that the host may use it", path.display())]
    UnixFailed { path: PathBuf, cause: io::Error },
    /// No such line, or not for us.
    #[error("the serial line {} cannot be opened ({cause}); check that it is plugged in and free, and that the host may use it", path.display())]
    LineFailed { path: PathBuf, cause: io::Error },
    /// The address is not ours, or taken.
    #[error(
        "cannot listen on {address} ({cause}); check that the address is one of this machine's and the port is free, and `listen`"
    )]
    CannotListen {
        address: SocketAddr,
        cause: io::Error,
    },
}

impl DialError {
    /// As the driver is told.
    pub(super) fn reason(&self) -> CloseReason {
        match self {
            DialError::NotGranted { .. }
            | DialError::NoTarget { .. }
            | DialError::NoStartTls { .. } => CloseReason::Denied,
            DialError::Unresolved { .. }
            | DialError::UnresolvedInTime { .. }
            | DialError::LedAstray { .. } => CloseReason::Unreachable,
            DialError::TimedOut { .. } | DialError::TlsTimedOut { .. } => CloseReason::TimedOut,
            DialError::TlsFailed { .. } | DialError::TlsBroken { .. } | DialError::TlsSetUp(_) => {
                CloseReason::TlsFailed
            }
            DialError::Failed { cause, .. }
            | DialError::UnixFailed { cause, .. }
            | DialError::LineFailed { cause, .. }
            | DialError::CannotListen { cause, .. } => {
                known_reason(cause).unwrap_or(CloseReason::Unreachable)
            }
        }
    }
}

/// Why a stream that was up broke.
pub(super) fn broken_reason(cause: &io::Error) -> CloseReason {
    known_reason(cause).unwrap_or(CloseReason::Reset)
}

fn known_reason(cause: &io::Error) -> Option<CloseReason> {
    if fault_of(cause).is_some() {
        return Some(CloseReason::TlsFailed);
    }
    match cause.kind() {
        io::ErrorKind::ConnectionRefused => Some(CloseReason::Refused),
        io::ErrorKind::TimedOut => Some(CloseReason::TimedOut),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => Some(CloseReason::Unreachable),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Some(CloseReason::Reset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_have_the_reasons_that_the_wit_names() {
        let dialled = |errno| {
            let cause = io::Error::from_raw_os_error(errno);
            DialError::Failed {
                address: ([127, 0, 0, 1], 502).into(),
                cause,
            }
            .reason()
        };
        let broken = |errno| broken_reason(&io::Error::from_raw_os_error(errno));
        // Linux: ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNRESET, EPIPE, EPERM (a local firewall).
        for (errno, when_dialling, when_up) in [
            (111, CloseReason::Refused, CloseReason::Refused),
            (110, CloseReason::TimedOut, CloseReason::TimedOut),
            (113, CloseReason::Unreachable, CloseReason::Unreachable),
            (101, CloseReason::Unreachable, CloseReason::Unreachable),
            (104, CloseReason::Reset, CloseReason::Reset),
            (32, CloseReason::Reset, CloseReason::Reset),
            (1, CloseReason::Unreachable, CloseReason::Reset),
        ] {
            assert_eq!(
                (dialled(errno), broken(errno)),
                (when_dialling, when_up),
                "errno {errno}"
            );
        }
    }
}
