//! What an operator can set: for the channel, for a device, for a tag.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::Packing;
use crate::framing::Named;
use crate::order::Order;
use crate::plan::{MOST_BITS, MOST_REGISTERS};

/// The most reads of one unit that may be under way at once: as many as servers take at most by the Messaging on TCP/IP
/// Implementation Guide 1.0b (NumberMaxOfServerTransaction: 1 to 16).
pub const MOST_AT_ONCE: u8 = 16;

/// The settings of a channel. All have defaults that suit most devices.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelSettings {
    /// The unit asked where a device has no address of its own: 0 to 255.
    pub unit_id: u8,
    /// How long to wait for an answer, in milliseconds: 1 to 600,000.
    #[schemars(range(min = 1, max = 600_000))]
    pub timeout_ms: u32,
    /// How often a read that was not answered is repeated within a cycle, after all other units had their turn: 0
    /// to 10. A unit that was silent in the cycle before gets one attempt only. Writes are never repeated, except where the
    /// unit was busy.
    #[schemars(range(max = 10))]
    pub retries: u8,
    /// How many registers that nobody wants may lie between two tags of one request: 0 to 125.
    #[schemars(range(max = 125))]
    pub max_gap_registers: u16,
    /// How many bits that nobody wants may lie between two tags of one request: 0 to 2,000.
    #[schemars(range(max = 2000))]
    pub max_gap_bits: u16,
    /// The most registers in one request: 1 to 125.
    #[schemars(range(min = 1, max = 125))]
    pub max_registers: u16,
    /// The most bits in one request: 1 to 2,000.
    #[schemars(range(min = 1, max = 2000))]
    pub max_bits: u16,
    /// How long to leave the line in peace between an answer and the next request, in milliseconds: 0 to 10,000.
    #[schemars(range(max = 10_000))]
    pub pause_ms: u32,
    /// Over Modbus TCP: how many reads of one unit may be under way at once: 1 to 16. Ask the unit's manual first: many serve one after
    /// the other, and some lose what comes meanwhile. A unit that leaves such reads unanswered is asked one by one until the
    /// connection ends.
    #[schemars(range(min = 1, max = 16))]
    pub requests_at_once: u8,
    /// How requests travel: `tcp` with the header of Modbus TCP, `rtu` with a checksum as on serial lines. Where nothing is said,
    /// `rtu` on a serial line and `tcp` on all others.
    pub framing: Option<Named>,
    /// With `rtu`: how long the line is left silent between two frames, in milliseconds: 0 to 1,000. It takes 3.5 characters: 2 at
    /// 19,200 baud, 4 at 9,600, 17 at 2,400. Where nothing is said, 5 on a serial line and 0 on all others.
    #[schemars(range(max = 1000))]
    pub silence_ms: Option<u32>,
    /// With `rtu`: how long the units have to act on a broadcast (a write to unit 0), in milliseconds: 0 to 10,000.
    #[schemars(range(max = 10_000))]
    pub turnaround_ms: u32,
    /// With `rtu`: the line gives back what is sent on it before any answer, as adapters for two wires do.
    pub echo: bool,
    /// The order of bytes of values, where neither the device nor the tag says another.
    pub order: Order,
    /// How a single coil or register is written.
    pub write_function: WriteFunction,
    /// Whether single bits of a register are written with function 22, which leaves the others to the unit.
    pub mask_write: MaskWrite,
    /// Registers that are to be read back after a write are written and read with function 23, in one exchange. A unit
    /// that does not have it is asked with two.
    pub write_and_read: bool,
    /// On a link on which units call in: how it is found out who calls.
    pub callers: Callers,
}

/// Whether single bits of a register are written with function 22.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaskWrite {
    /// Where the unit has it; else the register is read, changed and written back.
    Auto,
    /// Always.
    Always,
    /// Never: the register is read, changed and written back. A change that the unit or another client makes meanwhile is lost.
    Never,
}

/// How it is found out who calls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Callers {
    /// Not at all: whoever called last leads to all units, as a gateway does.
    Any,
    /// The caller is asked for each unit in turn, and is the first that answers. Each unit calls in by itself.
    Unit,
    /// By the first bytes that it sends, its `greeting`, as cellular modems do. Devices of one greeting are behind one caller.
    Greeting,
}

/// How a single coil or register is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WriteFunction {
    /// With functions 5 and 6.
    Single,
    /// With functions 15 and 16, for devices that have no others.
    Multiple,
}

/// The settings of a device: what differs from those of the channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceSettings {
    /// How long to wait for an answer, in milliseconds: 1 to 600,000.
    #[schemars(range(min = 1, max = 600_000))]
    pub timeout_ms: Option<u32>,
    /// How often a read that was not answered is repeated: 0 to 10.
    #[schemars(range(max = 10))]
    pub retries: Option<u8>,
    /// Over Modbus TCP: how many reads may be under way at once: 1 to 16.
    #[schemars(range(min = 1, max = 16))]
    pub requests_at_once: Option<u8>,
    /// The order of bytes of values.
    pub order: Option<Order>,
    /// Whether single bits of a register are written with function 22.
    pub mask_write: Option<MaskWrite>,
    /// Registers that are to be read back after a write are written and read with function 23.
    pub write_and_read: Option<bool>,
    /// Where units call in and `callers` is `greeting`: all that the caller sends of itself when it has called in, as text, or in
    /// hexadecimal after `hex:`. At most 256 bytes.
    pub greeting: Option<String>,
}

/// The settings of a tag: what its address can say as well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TagSettings {
    /// The order of bytes of a number, or of the register of a bit.
    pub order: Option<Order>,
    /// The length of a string or of bytes, in bytes.
    pub length: Option<u16>,
    /// The bit of a register, 0 the lowest.
    #[schemars(range(max = 15))]
    pub bit: Option<u16>,
    /// How a string or bytes lie in their registers.
    pub packing: Option<Packing>,
    /// A uint16 of four decimal digits, or a uint32 of eight, each in four bits.
    pub bcd: bool,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            unit_id: 1,
            timeout_ms: 1_000,
            retries: 1,
            max_gap_registers: 16,
            max_gap_bits: 256,
            max_registers: MOST_REGISTERS,
            max_bits: MOST_BITS,
            pause_ms: 0,
            requests_at_once: 1,
            framing: None,
            silence_ms: None,
            turnaround_ms: 100,
            echo: false,
            order: Order::Abcd,
            write_function: WriteFunction::Single,
            mask_write: MaskWrite::Auto,
            write_and_read: false,
            callers: Callers::Any,
        }
    }
}

/// What is out of range, one sentence each, with the name of the setting.
pub type Faults = Vec<(&'static str, String)>;

impl ChannelSettings {
    /// What the types alone do not rule out.
    pub fn faults(&self) -> Faults {
        let mut faults = Faults::new();
        check(&mut faults, "timeout_ms", self.timeout_ms, 1, 600_000);
        check(&mut faults, "retries", self.retries.into(), 0, 10);
        check(
            &mut faults,
            "max_gap_registers",
            self.max_gap_registers.into(),
            0,
            MOST_REGISTERS.into(),
        );
        check(
            &mut faults,
            "max_gap_bits",
            self.max_gap_bits.into(),
            0,
            MOST_BITS.into(),
        );
        check(
            &mut faults,
            "max_registers",
            self.max_registers.into(),
            1,
            MOST_REGISTERS.into(),
        );
        check(
            &mut faults,
            "max_bits",
            self.max_bits.into(),
            1,
            MOST_BITS.into(),
        );
        check(&mut faults, "pause_ms", self.pause_ms, 0, 10_000);
        check_at_once(&mut faults, self.requests_at_once);
        if let Some(silence) = self.silence_ms {
            check(&mut faults, "silence_ms", silence, 0, 1_000);
        }
        check(&mut faults, "turnaround_ms", self.turnaround_ms, 0, 10_000);
        faults
    }
}

impl DeviceSettings {
    /// What the types alone do not rule out.
    pub fn faults(&self) -> Faults {
        let mut faults = Faults::new();
        if let Some(timeout) = self.timeout_ms {
            check(&mut faults, "timeout_ms", timeout, 1, 600_000);
        }
        if let Some(retries) = self.retries {
            check(&mut faults, "retries", retries.into(), 0, 10);
        }
        if let Some(at_once) = self.requests_at_once {
            check_at_once(&mut faults, at_once);
        }
        if self.greeting.is_some() && self.greeting().is_none() {
            let message =
                "a greeting has 1 to 256 bytes: text, or pairs of hexadecimal digits after `hex:`";
            faults.push(("greeting", message.to_owned()));
        }
        faults
    }

    /// The bytes of the greeting, if it has any that are in order.
    pub fn greeting(&self) -> Option<Vec<u8>> {
        let text = self.greeting.as_deref()?;
        let bytes = match text.strip_prefix("hex:") {
            None => text.as_bytes().to_vec(),
            Some(digits) => {
                let digits: Option<Vec<u8>> = digits
                    .chars()
                    .map(|digit| {
                        digit
                            .to_digit(16)
                            .and_then(|digit| u8::try_from(digit).ok())
                    })
                    .collect();
                let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
                if !rest.is_empty() {
                    return None;
                }
                pairs.iter().map(|[high, low]| high << 4 | low).collect()
            }
        };
        (1..=256).contains(&bytes.len()).then_some(bytes)
    }
}

fn check_at_once(faults: &mut Faults, requests: u8) {
    check(
        faults,
        "requests_at_once",
        requests.into(),
        1,
        MOST_AT_ONCE.into(),
    );
}

fn check(faults: &mut Faults, name: &'static str, value: u32, least: u32, most: u32) {
    if !(least..=most).contains(&value) {
        faults.push((
            name,
            format!("{value} is out of range; give {least} to {most}"),
        ));
    }
}
