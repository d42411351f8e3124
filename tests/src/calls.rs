//! A device that is a plain socket: the host calls, and the test does the rest.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::PATIENCE;

/// Takes the host's calls.
#[derive(Debug)]
pub struct Calls {
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
}

impl Calls {
    /// Listens on a free port.
    ///
    /// # Errors
    ///
    /// Where loopback has none.
    pub fn listen() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
        })
    }

    /// The next call. Its reads and writes fail after [`PATIENCE`].
    ///
    /// # Errors
    ///
    /// Where none comes.
    pub fn accept(&self) -> Result<TcpStream> {
        const STEP: Duration = Duration::from_millis(1);
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(STEP),
                Err(error) => return Err(error.into()),
            }
        }
        bail!("nobody calls {}", self.address)
    }
}
