//! A Modbus TCP device that gets single answers wrong, by a script, and whose every value says what it is.
//!
//! It has registers only, all of them there. Four that follow each other from an address that divides by four make a
//! [`Reading`]: a mark, the address, and the number of the request that was answered. So a value that was shifted, mixed
//! up, kept from an earlier answer or taken from a spoilt one betrays itself, whatever it looks like.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::PATIENCE;

/// Stands in each reading of a right answer.
const RIGHT: u16 = 0x600d;
/// Stands in each reading of an answer that must not be believed.
const WRONG: u16 = 0xbad0;
/// The length of the header.
const HEADER: usize = 7;

/// How an answer goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    /// The first bytes only; the connection stays open.
    Truncated(usize),
    /// The last so many bytes are missing, and the header agrees.
    Short(usize),
    /// So many bytes too many, and the header agrees.
    Long(usize),
    /// The byte count is off.
    ByteCount(i8),
    /// More than a frame may have.
    Oversized,
    /// The header says that so many bytes follow.
    Length(u16),
    /// The transaction of another request: so far from the right one.
    Transaction(i16),
    /// Another protocol.
    Protocol,
    /// Another unit.
    Unit,
    /// Another function.
    Function,
    /// 1 to 260 random bytes, from this seed and the number of the request.
    Random(u64),
    /// So many random bytes, then the right answer.
    Preceded(usize),
    /// The whole answer before, with its own transaction.
    Previous,
    /// The right answer, one byte at a time.
    OneByte,
    /// The right answer, twice.
    Twice,
    /// The first bytes, then the end of the connection.
    Cut(usize),
    /// Nothing.
    Silence,
    /// The end of the connection.
    Close,
    /// A refusal.
    Exception(u8),
    /// The answer, so late; nothing else is answered meanwhile.
    Late(Duration),
}

/// The value of four registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Whether the answer that it stood in was right.
    pub right: bool,
    /// Where it belongs.
    pub address: u16,
    /// The request that was answered, from 1.
    pub request: u32,
}

impl Reading {
    /// What the four registers say; `None` where they are not four of this device's in their order.
    #[must_use]
    pub fn decode(value: u64) -> Option<Self> {
        let right = match (value >> 48) as u16 {
            RIGHT => true,
            WRONG => false,
            _ => return None,
        };
        Some(Self {
            right,
            address: (value >> 32) as u16,
            request: value as u32,
        })
    }
}

/// The device. Dropping it ends it.
#[derive(Debug)]
pub struct Scripted {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    spent: Condvar,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Option<Spoilt>>,
    requests: u32,
    connections: u32,
    struck: Vec<u32>,
    previous: Vec<u8>,
    ended: bool,
}

impl Scripted {
    /// Listens on a free port.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let device = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                {
                    let mut state = device.state();
                    if state.ended {
                        break;
                    }
                    state.connections += 1;
                }
                let device = Arc::clone(&device);
                // Ends with its connection.
                thread::spawn(move || device.serve(stream));
            }
        });
        Ok(Self { address, shared })
    }

    /// The next answers, in order; then all are right again.
    pub fn script(&self, answers: impl IntoIterator<Item = Option<Spoilt>>) {
        let mut state = self.shared.state();
        state.script = answers.into_iter().collect();
        state.struck.clear();
    }

    /// Waits until the script is spent. Gives the requests that got a spoilt answer.
    ///
    /// # Errors
    ///
    /// Where too few requests come.
    pub fn spent(&self) -> Result<Vec<u32>> {
        let waiting = |state: &mut State| !state.script.is_empty();
        let waited = self
            .shared
            .spent
            .wait_timeout_while(self.shared.state(), PATIENCE, waiting);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!waited.timed_out(), "nobody asks any more: {state:?}");
        Ok(state.struck.clone())
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.shared.state().connections
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        // Wakes the listener; where that fails it has ended.
        TcpStream::connect(self.address).ok();
    }
}

/// What is asked: a read of registers.
struct Request {
    transaction: u16,
    unit: u8,
    function: u8,
    first: u16,
    count: u16,
}

impl Request {
    /// `None` where it is no such read.
    fn decode(bytes: [u8; 12]) -> Option<Self> {
        let [t0, t1, 0, 0, 0, 6, unit, function @ (3 | 4), f0, f1, c0, c1] = bytes else {
            return None;
        };
        Some(Self {
            transaction: u16::from_be_bytes([t0, t1]),
            unit,
            function,
            first: u16::from_be_bytes([f0, f1]),
            count: u16::from_be_bytes([c0, c1]).min(125),
        })
    }

    fn answer(&self, mark: u16, number: u32) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.transaction.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend([self.unit, self.function, (2 * self.count) as u8]);
        for address in self.first..self.first + self.count {
            let word = match address % 4 {
                0 => mark,
                1 => address - 1,
                2 => (number >> 16) as u16,
                _ => number as u16,
            };
            frame.extend(word.to_be_bytes());
        }
        set_length(&mut frame);
        frame
    }
}

/// Makes the header agree with what follows.
fn set_length(frame: &mut [u8]) {
    let length = (frame.len() - HEADER + 1) as u16;
    frame[4..6].copy_from_slice(&length.to_be_bytes());
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut bytes = [0; 12];
        while stream.read_exact(&mut bytes).is_ok() {
            let Some(request) = Request::decode(bytes) else {
                return;
            };
            if self.reply(&mut stream, &request).is_err() {
                return;
            }
        }
    }

    /// An error ends the connection.
    fn reply(&self, stream: &mut TcpStream, request: &Request) -> std::io::Result<()> {
        let mut state = self.state();
        state.requests += 1;
        let number = state.requests;
        let spoilt = state.script.pop_front().flatten();
        if spoilt.is_some() {
            state.struck.push(number);
        }
        let believable = matches!(spoilt, None | Some(Spoilt::OneByte | Spoilt::Twice));
        let mark = if believable { RIGHT } else { WRONG };
        let answer = request.answer(mark, number);
        let previous = std::mem::replace(&mut state.previous, answer.clone());
        if state.script.is_empty() {
            self.spent.notify_all();
        }
        drop(state);
        match spoilt {
            None => stream.write_all(&answer),
            Some(spoilt) => spoilt.send(stream, answer, &previous, number),
        }
    }
}

impl Spoilt {
    fn send(
        self,
        stream: &mut TcpStream,
        mut answer: Vec<u8>,
        previous: &[u8],
        number: u32,
    ) -> std::io::Result<()> {
        let closed = || Err(ErrorKind::ConnectionAborted.into());
        let mut random = fastrand::Rng::with_seed(u64::from(number));
        let mut noise = |length| -> Vec<u8> {
            std::iter::repeat_with(|| random.u8(..))
                .take(length)
                .collect()
        };
        match self {
            Self::Truncated(length) => answer.truncate(length),
            Self::Short(missing) => {
                answer.truncate(answer.len() - missing);
                set_length(&mut answer);
            }
            Self::Long(more) => {
                answer.extend(noise(more));
                set_length(&mut answer);
            }
            Self::ByteCount(off) => {
                answer[HEADER + 1] = answer[HEADER + 1].wrapping_add_signed(off)
            }
            Self::Oversized => {
                answer.resize(600, 0xee);
                set_length(&mut answer);
            }
            Self::Length(length) => answer[4..6].copy_from_slice(&length.to_be_bytes()),
            Self::Transaction(off) => {
                let transaction = u16::from_be_bytes([answer[0], answer[1]]);
                let other = transaction.wrapping_add_signed(off);
                answer[..2].copy_from_slice(&other.to_be_bytes());
            }
            Self::Protocol => answer[3] = 1,
            Self::Unit => answer[6] = answer[6].wrapping_add(1),
            // 3 and 4 have answers of the same shape: the hardest to notice.
            Self::Function => answer[HEADER] ^= 3 ^ 4,
            Self::Random(seed) => {
                let mut random = fastrand::Rng::with_seed(seed ^ u64::from(number));
                let length = random.usize(1..=260);
                answer = std::iter::repeat_with(|| random.u8(..))
                    .take(length)
                    .collect();
            }
            Self::Preceded(length) => answer = [noise(length), answer].concat(),
            Self::Previous => previous.clone_into(&mut answer),
            Self::OneByte => {
                stream.set_nodelay(true)?;
                for byte in answer {
                    stream.write_all(&[byte])?;
                    thread::sleep(Duration::from_millis(1));
                }
                return Ok(());
            }
            Self::Twice => answer.extend_from_within(..),
            Self::Cut(length) => {
                stream.write_all(&answer[..length])?;
                return closed();
            }
            Self::Silence => return Ok(()),
            Self::Close => return closed(),
            Self::Exception(code) => {
                answer[HEADER] |= 0x80;
                answer.truncate(HEADER + 1);
                answer.push(code);
                set_length(&mut answer);
            }
            Self::Late(time) => thread::sleep(time),
        }
        stream.write_all(&answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: [u8; 12] = [0, 9, 0, 0, 0, 6, 7, 3, 0, 100, 0, 8];

    fn ask(stream: &mut TcpStream) -> Vec<u8> {
        stream.write_all(&ASK).unwrap();
        let mut answer = vec![0; 25];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    #[test]
    fn readings_say_what_they_are() -> Result<()> {
        let device = Scripted::start()?;
        let mut stream = TcpStream::connect(device.address)?;
        let decode = |answer: &[u8], at: usize| {
            let bytes = answer[at..at + 8].try_into().unwrap();
            Reading::decode(u64::from_be_bytes(bytes))
        };
        let reading = |right, address, request| {
            Some(Reading {
                right,
                address,
                request,
            })
        };
        let answer = ask(&mut stream);
        assert_eq!(answer[..9], [0, 9, 0, 0, 0, 19, 7, 3, 16]);
        assert_eq!(decode(&answer, 9), reading(true, 100, 1));
        assert_eq!(decode(&answer, 17), reading(true, 104, 1));
        assert_eq!(decode(&answer, 11), None, "shifted");

        device.script([None, Some(Spoilt::Function), Some(Spoilt::Previous)]);
        assert_eq!(decode(&ask(&mut stream), 9), reading(true, 100, 2));
        let spoilt = ask(&mut stream);
        assert_eq!((spoilt[7], decode(&spoilt, 9)), (4, reading(false, 100, 3)));
        assert_eq!(decode(&ask(&mut stream), 9), reading(false, 100, 3));
        assert_eq!(device.spent()?, [3, 4]);
        assert_eq!(decode(&ask(&mut stream), 9), reading(true, 100, 5));

        device.script([Some(Spoilt::Cut(3))]);
        stream.write_all(&ASK)?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        assert_eq!(rest, [0, 9, 0]);
        assert_eq!(device.connections(), 1);
        Ok(())
    }
}
