//! `serial:///dev/ttyX`: a serial line, raw and for this host alone.
//!
//! The line is locked twice: `flock` keeps out whoever asks for it as we do (other links of this host among them), and
//! `TIOCEXCL` whoever opens it without asking, but for the superuser. What was received before it was opened is thrown
//! away. A line that is pulled answers every call with an error or an end, and both are a stream that broke; the
//! device file is opened anew at each redial, so an adapter that is plugged in again is found.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios,
    ioctl_tiocexcl, isatty, tcdrain, tcflush, tcgetattr, tcsetattr,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::error::DialError;
use super::grant::SerialPermit;
use super::transport::Stream;
use crate::config::{Parity, SerialLine};

/// Lines that are opened at once, over the whole host: one that hangs in the kernel takes a blocking thread with it, and a redial
/// takes the next.
static OPENERS: Semaphore = Semaphore::const_new(16);

/// Opens the line and sets it up.
pub(super) async fn dial(permit: SerialPermit, deadline: Instant) -> Result<Stream, DialError> {
    let settings = permit.into_line();
    let path = settings.path.clone();
    let failed = |cause| DialError::LineFailed {
        path: path.clone(),
        cause,
    };
    // A driver of the kernel may take its time to open a line.
    let opening = async {
        let turn = OPENERS.acquire().await.map_err(io::Error::other)?;
        // It cannot be stopped, and holds its turn for as long as the kernel takes.
        let opening = spawn_blocking(move || {
            let _turn = turn;
            open(&settings)
        });
        opening.await.map_err(io::Error::other)
    };
    let file = match timeout_at(deadline, opening).await {
        Ok(Ok(opened)) => opened.map_err(failed)?,
        Ok(Err(gone)) => return Err(failed(gone)),
        Err(_elapsed) => return Err(failed(io::ErrorKind::TimedOut.into())),
    };
    let line = Arc::new(Line {
        file: watched(file).map_err(failed)?,
        drained: AtomicBool::new(false),
    });
    Ok(Stream {
        reader: Box::new(LineReader(Arc::clone(&line))),
        writer: Box::new(LineWriter {
            line,
            draining: None,
        }),
        peer: path.display().to_string(),
        local: None,
        secured: false,
    })
}

fn open(settings: &SerialLine) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&settings.path)?;
    if !isatty(&file) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no serial line",
        ));
    }
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        return Err(if error == rustix::io::Errno::WOULDBLOCK {
            in_use(&settings.path)
        } else {
            error.into()
        });
    }
    ioctl_tiocexcl(&file)?;
    let mut modes = tcgetattr(&file)?;
    set(&mut modes, settings)?;
    tcsetattr(&file, OptionalActions::Now, &modes)?;
    let now = tcgetattr(&file)?;
    // The system sets what the line can do, and calls that a success.
    let asked =
        ControlModes::CSIZE | ControlModes::PARENB | ControlModes::PARODD | ControlModes::CSTOPB;
    if now.output_speed() != settings.speed
        || (now.control_modes ^ modes.control_modes).intersects(asked)
    {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the line cannot do {} bit/s with this parity and these data and stop bits",
                settings.speed
            ),
        ));
    }
    tcflush(&file, QueueSelector::IOFlush)?;
    Ok(file)
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for the sake of types that do not own their descriptor; a file does"
)]
fn watched(file: File) -> io::Result<AsyncFd<File>> {
    AsyncFd::new(file)
}

fn in_use(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("somebody else has opened {}", path.display()),
    )
}

/// Raw, without flow control, a byte being there as soon as it came (termios(3)).
fn set(modes: &mut Termios, settings: &SerialLine) -> io::Result<()> {
    modes.make_raw();
    modes.input_modes -= InputModes::IXOFF | InputModes::IXANY;
    modes.special_codes[SpecialCodeIndex::VMIN] = 1;
    modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    let control = &mut modes.control_modes;
    *control -= ControlModes::CSIZE
        | ControlModes::PARENB
        | ControlModes::PARODD
        | ControlModes::CSTOPB
        | ControlModes::CRTSCTS
        // The end of a line is no hang-up of the other side's modem.
        | ControlModes::HUPCL;
    *control |= ControlModes::CREAD | ControlModes::CLOCAL;
    *control |= match settings.data_bits {
        5 => ControlModes::CS5,
        6 => ControlModes::CS6,
        7 => ControlModes::CS7,
        _ => ControlModes::CS8,
    };
    *control |= match settings.parity {
        Parity::None => ControlModes::empty(),
        Parity::Even => ControlModes::PARENB,
        Parity::Odd => ControlModes::PARENB | ControlModes::PARODD,
    };
    if settings.stop_bits == 2 {
        *control |= ControlModes::CSTOPB;
    }
    if settings.parity != Parity::None {
        // A byte whose parity is wrong is left out: a frame with a byte missing is refused by its checksum.
        modes.input_modes |= InputModes::INPCK | InputModes::IGNPAR;
    }
    Ok(modes.set_speed(settings.speed)?)
}

/// The line while it is open.
struct Line {
    file: AsyncFd<File>,
    /// All that was written has left.
    drained: AtomicBool,
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.drained.load(Ordering::Acquire) {
            // What nobody waits for any more must not keep `close` waiting for the wire, nor greet who comes next. Where
            // it fails the line is gone.
            tcflush(self.file.get_ref(), QueueSelector::IOFlush).ok();
        }
    }
}

struct LineReader(Arc<Line>);

impl AsyncRead for LineReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.file.poll_read_ready(context))?;
            let read = ready.try_io(|file| {
                let space = buffer.initialize_unfilled();
                match rustix::io::read(file, space)? {
                    // With VMIN at 1 a line that is there never has nothing to read: it was pulled.
                    0 => Err(io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "the line was pulled",
                    )),
                    count => Ok(count),
                }
            });
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(cause)) => return Poll::Ready(Err(cause)),
                Err(_would_block) => {}
            }
        }
    }
}

struct LineWriter {
    line: Arc<Line>,
    /// Waits for the wire.
    draining: Option<JoinHandle<()>>,
}

impl AsyncWrite for LineWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.line.file.poll_write_ready(context))?;
            match ready.try_io(|file| Ok(rustix::io::write(file, bytes)?)) {
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Waits until the last bit is on the wire.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = Arc::clone(&self.line);
        let draining = self.draining.get_or_insert_with(|| {
            spawn_blocking(move || {
                if tcdrain(line.file.get_ref()).is_ok() {
                    line.drained.store(true, Ordering::Release);
                }
            })
        });
        ready!(Pin::new(draining).poll(context)).map_err(io::Error::other)?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line with these settings is asked for, as far as it is about bits: control and input modes.
    fn asked(parity: Parity, data_bits: u8, stop_bits: u8) -> (ControlModes, InputModes) {
        // A pseudo-terminal has modes to begin with, and they are only looked at: it could do none of these.
        let terminal = File::options()
            .read(true)
            .write(true)
            .open("/dev/ptmx")
            .unwrap();
        let mut modes = tcgetattr(&terminal).unwrap();
        let settings = SerialLine {
            path: "/dev/ptmx".into(),
            speed: 19_200,
            parity,
            data_bits,
            stop_bits,
        };
        set(&mut modes, &settings).unwrap();
        let bits = ControlModes::CSIZE
            | ControlModes::PARENB
            | ControlModes::PARODD
            | ControlModes::CSTOPB;
        let checked = InputModes::INPCK | InputModes::IGNPAR | InputModes::PARMRK;
        (modes.control_modes & bits, modes.input_modes & checked)
    }

    #[test]
    fn a_line_is_asked_for_the_bits_of_the_file() {
        use ControlModes as Control;
        let unchecked = InputModes::empty();
        // What comes with a wrong parity is left out, not marked.
        let checked = InputModes::INPCK | InputModes::IGNPAR;
        for (parity, data_bits, stop_bits, control, input) in [
            (Parity::None, 8, 1, Control::CS8, unchecked),
            (
                Parity::None,
                8,
                2,
                Control::CS8 | Control::CSTOPB,
                unchecked,
            ),
            (Parity::Even, 8, 1, Control::CS8 | Control::PARENB, checked),
            (
                Parity::Odd,
                7,
                2,
                Control::CS7 | Control::PARENB | Control::PARODD | Control::CSTOPB,
                checked,
            ),
            (Parity::Even, 5, 1, Control::CS5 | Control::PARENB, checked),
            (Parity::None, 6, 1, Control::CS6, unchecked),
        ] {
            assert_eq!(
                asked(parity, data_bits, stop_bits),
                (control, input),
                "{parity:?} {data_bits} {stop_bits}"
            );
        }
    }
}
