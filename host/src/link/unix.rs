//! `unix:///path`: a stream socket of this machine.

use std::io;

use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::error::DialError;
use super::grant::UnixPermit;
use super::transport::Stream;

pub(super) async fn dial(permit: &UnixPermit, deadline: Instant) -> Result<Stream, DialError> {
    let path = permit.path();
    let failed = |cause| DialError::UnixFailed {
        path: path.to_owned(),
        cause,
    };
    // A full queue of the listener is EAGAIN, which tokio waits out; nobody tells when.
    let stream = timeout_at(deadline, UnixStream::connect(path))
        .await
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
        .map_err(failed)?;
    let (reader, writer) = stream.into_split();
    Ok(Stream {
        reader: Box::new(reader),
        writer: Box::new(writer),
        peer: path.display().to_string(),
        local: None,
        secured: false,
    })
}
