//! Writing a tag.
//!
//! A write is sent once. If no answer comes, the unit may have acted all the same, and only whoever asked can know whether
//! doing it again is harmless; a unit that says it is busy has not acted, and is asked again.
//!
//! Some bits of a register are written by function 22 where the unit has it: the unit itself leaves the others as they are. Else the
//! register is read, changed and written back, in one turn on the line: no other request of this channel comes between, but the
//! unit itself or another client may change the register meanwhile, and that change is lost.
//!
//! A unit that answers function 22 or 23 with exception 1 has done nothing, so the other way is tried at once, and taken from then on.

use bulkhead_sdk::{Context, Error, Priority, Quality, Value, Write};

use crate::cycle::BUSY_PAUSE;
use crate::encode::{EncodeError, Encoded, Masked};
use crate::exception::Exception;
use crate::failure::Failure;
use crate::line::{Exchange, Line};
use crate::pdu::Ask;
use crate::plan::MOST_REGISTERS_EXCHANGED;
use crate::settings::WriteFunction;
use crate::site::{Place, Site};
use crate::unit::Unit;

/// Writes, and answers with what was read back where that was asked for.
pub async fn write(
    context: &Context,
    lines: &[Line],
    site: &Site,
    function: WriteFunction,
    write: Write,
) -> Result<Option<Value>, Error> {
    let place = site.place(write.tag)?;
    if !place.point.table.is_writable() {
        return Err(Error::not_supported(
            "writing input registers and discrete inputs",
        ));
    }
    let unit = &site.units[place.unit];
    let line = &lines[unit.line];
    let encoded = place.point.codec.encode(&write.value)?;
    let read_back = write.read_back && !line.framing().is_broadcast(unit.number);
    let mut attempts_left = unit.retries;
    loop {
        let mut exchange = line.exchange(Priority::Write).await;
        if context.now() >= write.deadline {
            return Err(Failure::Overdue.into());
        }
        match put(&mut exchange, unit, place, &encoded, function, read_back).await {
            Ok(read) => {
                if !line.framing().is_broadcast(unit.number) {
                    unit.answered(context);
                }
                return match read {
                    _ if !read_back => Ok(None),
                    Some(read) => decode(place, &read).map(Some),
                    None => read_again(&mut exchange, unit, place).await.map(Some),
                };
            }
            Err(Failure::Exception(Exception::BUSY)) if attempts_left > 0 => {
                attempts_left -= 1;
                drop(exchange);
                context.sleep(BUSY_PAUSE).await;
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}

/// Writes. Answers with what the unit has read in the same exchange, where that was possible.
async fn put(
    exchange: &mut Exchange<'_>,
    unit: &Unit,
    place: &Place,
    encoded: &Encoded,
    function: WriteFunction,
    read_back: bool,
) -> Result<Option<Vec<u8>>, Failure> {
    let start = place.point.span.start;
    let ask = match encoded {
        Encoded::Bits(bits) => match (function, bits.as_slice()) {
            (WriteFunction::Single, [on]) => Ask::WriteCoil { start, on: *on },
            _ => Ask::WriteCoils {
                start,
                bits: bits.clone(),
            },
        },
        Encoded::Registers(bytes) => {
            if read_back && unit.takes_write_and_read() && can_be_exchanged(bytes) {
                let bytes = bytes.clone();
                let ask = Ask::WriteAndRead { start, bytes };
                match exchange.ask(unit.number, unit.timeout, ask).await {
                    Err(Failure::Exception(Exception::NO_FUNCTION)) => unit.lacks_write_and_read(),
                    outcome => return outcome.map(|reply| Some(reply.data().to_vec())),
                }
            }
            registers(function, start, bytes)
        }
        Encoded::Masked(masked) => {
            if let [Masked { mask, bits }] = masked.as_slice()
                && unit.takes_mask_write()
            {
                let (and, or) = (!mask, *bits);
                let ask = Ask::MaskRegister { start, and, or };
                match exchange.ask(unit.number, unit.timeout, ask).await {
                    Err(Failure::Exception(Exception::NO_FUNCTION)) if unit.lacks_mask_write() => {}
                    outcome => return outcome.map(|_| None),
                }
            }
            let reply = exchange
                .ask(unit.number, unit.timeout, place.read())
                .await?;
            let before = reply.data().as_chunks::<2>().0;
            let changed = before.iter().zip(masked).flat_map(|(before, change)| {
                let kept = u16::from_be_bytes(*before) & !change.mask;
                (kept | change.bits).to_be_bytes()
            });
            registers(function, start, &changed.collect::<Vec<u8>>())
        }
    };
    exchange.ask(unit.number, unit.timeout, ask).await?;
    Ok(None)
}

fn can_be_exchanged(bytes: &[u8]) -> bool {
    bytes.len() <= 2 * usize::from(MOST_REGISTERS_EXCHANGED)
}

fn registers(function: WriteFunction, start: u16, bytes: &[u8]) -> Ask {
    match (function, bytes) {
        (WriteFunction::Single, [high, low]) => Ask::WriteRegister {
            start,
            register: [*high, *low],
        },
        _ => Ask::WriteRegisters {
            start,
            bytes: bytes.to_vec(),
        },
    }
}

/// Reads what was written.
async fn read_again(
    exchange: &mut Exchange<'_>,
    unit: &Unit,
    place: &Place,
) -> Result<Value, Error> {
    let reply = exchange
        .ask(unit.number, unit.timeout, place.read())
        .await
        .map_err(|failure| unread(&failure, failure.code(), failure.quality()))?;
    decode(place, reply.data())
}

fn decode(place: &Place, read: &[u8]) -> Result<Value, Error> {
    let value = place.point.codec.decode(read, 0);
    value.map_err(|unreadable| unread(&unreadable, None, unreadable.quality()))
}

fn unread(why: &dyn std::error::Error, code: Option<u32>, quality: Quality) -> Error {
    let message = format!("the unit confirmed the write, but reading it back failed: {why}");
    Error {
        code,
        ..Error::new(message).with_quality(quality)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        let quality = match error {
            EncodeError::Type(_) => Quality::BadTypeMismatch,
            EncodeError::Range(_) | EncodeError::Length { .. } => Quality::BadOutOfRange,
        };
        Error::new(error.to_string()).with_quality(quality)
    }
}
