//! Writing a tag.
//!
//! A write is sent once. If no answer comes, the unit may have acted all the same, and only whoever asked can know whether
//! doing it again is harmless; a unit that says it is busy has not acted, and is asked again.
//!
//! One bit of a register is written by reading the register, changing the bit and writing it back, in one turn on
//! the line: no other request of this channel comes between, but the unit itself or another client may change the register
//! meanwhile, and that change is lost.

use bulkhead_sdk::{Context, Error, Priority, Quality, Value, Write};

use crate::cycle::BUSY_PAUSE;
use crate::encode::{EncodeError, Encoded};
use crate::exception::Exception;
use crate::failure::Failure;
use crate::line::{Exchange, Line};
use crate::pdu::Ask;
use crate::settings::WriteFunction;
use crate::site::{Place, Site};
use crate::unit::Unit;

/// Writes, and answers with what was read back where that was asked for.
pub async fn write(
    context: &Context,
    line: &Line,
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
    let encoded = place.point.codec.encode(&write.value)?;
    let mut attempts_left = unit.retries;
    loop {
        let mut exchange = line.exchange(Priority::Write).await;
        if context.now() >= write.deadline {
            return Err(Failure::Overdue.into());
        }
        match put(&mut exchange, unit, place, &encoded, function).await {
            Ok(()) => {
                unit.answered(context);
                if !write.read_back {
                    return Ok(None);
                }
                return read_back(&mut exchange, unit, place).await.map(Some);
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

async fn put(
    exchange: &mut Exchange<'_>,
    unit: &Unit,
    place: &Place,
    encoded: &Encoded,
    function: WriteFunction,
) -> Result<(), Failure> {
    let start = place.point.span.start;
    let ask = match encoded {
        Encoded::Bits(bits) => match (function, bits.as_slice()) {
            (WriteFunction::Single, [on]) => Ask::WriteCoil { start, on: *on },
            _ => Ask::WriteCoils {
                start,
                bits: bits.clone(),
            },
        },
        Encoded::Registers(bytes) => registers(function, start, bytes),
        Encoded::RegisterBit { mask, on } => {
            let reply = exchange
                .ask(unit.number, unit.timeout, place.read())
                .await?;
            let register = reply.data().first_chunk().copied();
            let register = register.map(u16::from_be_bytes).ok_or(Failure::CutShort)?;
            let changed = if *on {
                register | mask
            } else {
                register & !mask
            };
            registers(function, start, &changed.to_be_bytes())
        }
    };
    exchange.ask(unit.number, unit.timeout, ask).await?;
    Ok(())
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

async fn read_back(
    exchange: &mut Exchange<'_>,
    unit: &Unit,
    place: &Place,
) -> Result<Value, Error> {
    let unread = |why: String, code, quality| {
        Error::new(format!(
            "the unit confirmed the write, but reading it back failed: {why}"
        ))
        .with_code(code)
        .with_quality(quality)
    };
    let reply = exchange
        .ask(unit.number, unit.timeout, place.read())
        .await
        .map_err(|failure| unread(failure.to_string(), failure.code(), failure.quality()))?;
    place
        .point
        .codec
        .decode(reply.data(), 0)
        .map_err(|quality| {
            unread(
                "what came is no value of the tag's type".to_owned(),
                0,
                quality,
            )
        })
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
