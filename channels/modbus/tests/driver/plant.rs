//! Units behind a connection, and the host that polls them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bulkhead_sdk::Quality;
use bulkhead_sdk::abi::Action;
use bulkhead_sdk::testing::{FakeHost, Setup};
use modbus::Modbus;

/// What a unit holds. An address that is not there is answered with exception 2.
#[derive(Debug, Default)]
pub(crate) struct Unit {
    pub(crate) coils: BTreeMap<u16, bool>,
    pub(crate) discrete: BTreeMap<u16, bool>,
    pub(crate) input: BTreeMap<u16, u16>,
    pub(crate) holding: BTreeMap<u16, u16>,
    /// Every request is answered with this.
    pub(crate) exception: Option<u8>,
    /// No request is answered.
    pub(crate) silent: bool,
    /// Functions that it has besides 1 to 6, 15 and 16: of 22 and 23.
    pub(crate) also: Vec<u8>,
}

/// A request, as far as the tests look at it: unit, function, start, and count or value.
pub(crate) type Seen = (u8, u8, u16, u16);

/// Given the request and the right answer, what is sent instead.
type Mangle = Box<dyn FnMut(&[u8], Vec<u8>) -> Vec<u8>>;

/// Everything behind one connection.
#[derive(Default)]
pub(crate) struct Plant {
    pub(crate) units: BTreeMap<u8, Unit>,
    /// It speaks RTU rather than Modbus TCP.
    rtu: bool,
    seen: Vec<Seen>,
    mangle: Option<Mangle>,
}

/// A handle that the test keeps while the host has another.
#[derive(Clone, Default)]
pub(crate) struct Handle(Rc<RefCell<Plant>>);

impl Handle {
    /// A plant of one unit 1 whose holding registers 0 to 199 hold 1000 and up.
    pub(crate) fn simple() -> Self {
        let handle = Self::default();
        handle.unit(1, |unit| {
            unit.holding = (0..200).map(|at| (at, 1000 + at)).collect()
        });
        handle
    }

    /// The same, speaking RTU.
    pub(crate) fn rtu() -> Self {
        let handle = Self::simple();
        handle.0.borrow_mut().rtu = true;
        handle
    }

    /// Changes a unit; it is made where it was not there.
    pub(crate) fn unit<T>(&self, number: u8, change: impl FnOnce(&mut Unit) -> T) -> T {
        change(self.0.borrow_mut().units.entry(number).or_default())
    }

    /// Sets a holding register of unit 1.
    pub(crate) fn set(&self, at: u16, value: u16) {
        self.unit(1, |unit| unit.holding.insert(at, value));
    }

    /// Lets every answer pass through `mangle`.
    pub(crate) fn mangle(&self, mangle: impl FnMut(&[u8], Vec<u8>) -> Vec<u8> + 'static) {
        self.0.borrow_mut().mangle = Some(Box::new(mangle));
    }

    /// Lets answers pass as they are.
    pub(crate) fn honest(&self) {
        self.0.borrow_mut().mangle = None;
    }

    /// The requests since the last call.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.borrow_mut().seen)
    }

    /// What the plant sends for a request.
    pub(crate) fn answer(&self, request: &[u8]) -> Vec<u8> {
        self.0.borrow_mut().answer(request)
    }

    /// A host with this plant at the end of its link.
    pub(crate) fn host(&self, setup: Setup) -> FakeHost<Modbus> {
        self.host_over("tcp", setup)
    }

    /// The same over a link of another kind.
    pub(crate) fn host_over(&self, kind: &str, setup: Setup) -> FakeHost<Modbus> {
        let mut host =
            FakeHost::start(setup.link("plc", kind)).expect("the configuration is in order");
        let plant = self.clone();
        host.peer("plc", move |request| plant.answer(request));
        host
    }

    /// A host whose peer is silent until the test speaks for it.
    pub(crate) fn silent_host(&self, setup: Setup) -> FakeHost<Modbus> {
        self.silent_host_over("tcp", setup)
    }

    /// The same over a link of another kind.
    pub(crate) fn silent_host_over(&self, kind: &str, setup: Setup) -> FakeHost<Modbus> {
        let mut host = self.host_over(kind, setup);
        host.peer("plc", |_| Vec::new());
        host
    }
}

impl Plant {
    /// Several requests may come in one go over Modbus TCP.
    fn answer(&mut self, requests: &[u8]) -> Vec<u8> {
        let mut rest = requests;
        let mut answers = Vec::new();
        while !rest.is_empty() {
            let whole = match self.rtu {
                true => rest.len(),
                false => frame_length(rest),
            };
            let (request, others) = rest.split_at(whole);
            answers.extend(self.answer_one(request));
            rest = others;
        }
        answers
    }

    fn answer_one(&mut self, request: &[u8]) -> Vec<u8> {
        let (head, pdu) = if self.rtu {
            let (body, sum) = request.split_at(request.len() - 2);
            assert_eq!(sum, checksum(body), "the checksum");
            body.split_at(1)
        } else {
            assert_eq!(request[2..4], [0, 0], "the protocol");
            request.split_at(7)
        };
        let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
        let (unit, function) = (head[head.len() - 1], pdu[0]);
        self.seen.push((unit, function, word(1), word(3)));
        let data = pdu.get(5..).unwrap_or_default();
        let reply = match self.units.get_mut(&unit) {
            None if self.rtu && unit == 0 => {
                for unit in self.units.values_mut() {
                    unit.serve(function, word(1), word(3), data)
                        .expect("every unit takes it");
                }
                return Vec::new();
            }
            None if self.rtu => return Vec::new(),
            None => Err(11),
            Some(unit) if unit.silent => return Vec::new(),
            Some(unit) => unit.serve(function, word(1), word(3), data),
        };
        let pdu = match reply {
            Ok(data) => [vec![function], data].concat(),
            Err(exception) => vec![function | 0x80, exception],
        };
        let reply = if self.rtu {
            let body = [&[unit], &pdu[..]].concat();
            [&body[..], &checksum(&body)].concat()
        } else {
            let length = (pdu.len() + 1) as u16;
            [&request[..4], &length.to_be_bytes(), &[unit], &pdu].concat()
        };
        match &mut self.mangle {
            Some(mangle) => mangle(request, reply),
            None => reply,
        }
    }
}

/// The bytes of the Modbus TCP frame that begins here.
fn frame_length(bytes: &[u8]) -> usize {
    6 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]))
}

/// The Modbus TCP frames of some bytes.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (frame, rest) = bytes.split_at(frame_length(bytes));
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}

/// Modbus over Serial Line V1.02, section 6.2.2, bit by bit.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut register = 0xffff_u16;
    for byte in bytes {
        register ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = register & 1 == 1;
            register >>= 1;
            if carry {
                register ^= 0xa001;
            }
        }
    }
    register.to_le_bytes()
}

impl Unit {
    fn serve(&mut self, function: u8, start: u16, count: u16, data: &[u8]) -> Result<Vec<u8>, u8> {
        if let Some(exception) = self.exception {
            return Err(exception);
        }
        let places = || (0..count).map(move |step| start.wrapping_add(step));
        let limit = |most: u16| {
            if count == 0 || count > most {
                Err(3)
            } else {
                Ok(())
            }
        };
        match function {
            1 | 2 => {
                limit(2000)?;
                let table = if function == 1 {
                    &self.coils
                } else {
                    &self.discrete
                };
                let bits: Option<Vec<bool>> = places().map(|at| table.get(&at).copied()).collect();
                Ok(counted(pack(&bits.ok_or(2)?)))
            }
            3 | 4 => {
                limit(125)?;
                let table = if function == 3 {
                    &self.holding
                } else {
                    &self.input
                };
                let words: Option<Vec<[u8; 2]>> = places()
                    .map(|at| table.get(&at).map(|word| word.to_be_bytes()))
                    .collect();
                Ok(counted(words.ok_or(2)?.concat()))
            }
            5 => {
                *self.coils.get_mut(&start).ok_or(2)? = match count {
                    0xff00 => true,
                    0 => false,
                    _ => return Err(3),
                };
                Ok(echo(start, count))
            }
            6 => {
                *self.holding.get_mut(&start).ok_or(2)? = count;
                Ok(echo(start, count))
            }
            15 => {
                limit(1968)?;
                let data = &data[1..];
                assert_eq!(data.len(), usize::from(count).div_ceil(8), "the byte count");
                for (step, at) in places().enumerate() {
                    *self.coils.get_mut(&at).ok_or(2)? = data[step / 8] >> (step % 8) & 1 == 1;
                }
                Ok(echo(start, count))
            }
            16 => {
                limit(123)?;
                let data = &data[1..];
                assert_eq!(data.len(), 2 * usize::from(count), "the byte count");
                for (at, word) in places().zip(data.chunks(2)) {
                    *self.holding.get_mut(&at).ok_or(2)? = u16::from_be_bytes([word[0], word[1]]);
                }
                Ok(echo(start, count))
            }
            22 if self.also.contains(&22) => {
                // Section 6.16: the operands are AND and OR; `count` is the first.
                let or = u16::from_be_bytes([data[0], data[1]]);
                let register = self.holding.get_mut(&start).ok_or(2)?;
                *register = (*register & count) | (or & !count);
                Ok([&echo(start, count)[..], data].concat())
            }
            23 if self.also.contains(&23) => {
                // Section 6.17: the place to read stands first, the place to write behind it, and is written first.
                let word = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
                limit(125)?;
                let (to, words) = (word(0), word(2));
                assert!((1..=121).contains(&words), "so many can be written");
                assert_eq!(usize::from(data[4]), 2 * usize::from(words));
                self.serve(16, to, words, &data[4..])?;
                self.serve(3, start, count, &[])
            }
            _ => Err(1),
        }
    }
}

fn counted(data: Vec<u8>) -> Vec<u8> {
    [vec![data.len() as u8], data].concat()
}

fn echo(start: u16, count: u16) -> Vec<u8> {
    [start.to_be_bytes(), count.to_be_bytes()].concat()
}

fn pack(bits: &[bool]) -> Vec<u8> {
    let mut bytes = vec![0; bits.len().div_ceil(8)];
    for (at, bit) in bits.iter().enumerate() {
        bytes[at / 8] |= u8::from(*bit) << (at % 8);
    }
    bytes
}

/// `count` tags `t0` and up of type uint16, on holding registers from 0.
pub(crate) fn registers(mut setup: Setup, count: u16) -> Setup {
    for at in 0..count {
        setup = setup.tag(&format!("t{at}"), &format!("holding:{at}"), "uint16");
    }
    setup
}

/// How many of the samples published since the last call were good.
pub(crate) fn good_samples(host: &mut FakeHost<Modbus>) -> usize {
    host.take_samples()
        .iter()
        .filter(|sample| sample.quality == Quality::Good)
        .count()
}

/// How often the driver has reset its connection.
pub(crate) fn resets(host: &FakeHost<Modbus>) -> usize {
    host.history()
        .iter()
        .filter(|action| matches!(action, Action::Reset(_)))
        .count()
}
