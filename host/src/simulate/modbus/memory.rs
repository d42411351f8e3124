//! The four tables of one unit, read and written atomically.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::pdu::Exception;
use super::values::{self, BROKEN, KNOWN, LIMITED, Moment, WRITABLE};

/// Coils and discrete inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bits {
    Coils,
    Discrete,
}

/// Holding and input registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registers {
    Holding,
    Input,
}

/// One unit.
#[derive(Debug)]
pub(super) struct Unit {
    id: u8,
    registers: usize,
    bits: usize,
    /// How often register 0 was read: holding, input.
    reads: [AtomicU16; 2],
    known: [u16; (WRITABLE - KNOWN) as usize],
    written: RwLock<Written>,
}

/// What a client can change. The tables start at address 0, so that no index needs shifting; what stands below
/// [`WRITABLE`] is never looked at.
#[derive(Debug)]
struct Written {
    holding: Box<[u16]>,
    coils: Box<[bool]>,
}

impl Unit {
    /// Both counts are at most 65,536.
    pub(super) fn new(id: u8, registers: u32, bits: u32) -> Self {
        let written = Written {
            holding: (0..registers)
                .map(|address| values::initial(id, address as u16))
                .collect(),
            coils: (0..bits)
                .map(|address| values::coil(address as u16))
                .collect(),
        };
        Self {
            id,
            registers: written.holding.len(),
            bits: written.coils.len(),
            reads: Default::default(),
            known: values::known(id),
            written: RwLock::new(written),
        }
    }

    /// Calls `each` for `count` bits from `first` on.
    pub(super) fn read_bits(
        &self,
        table: Bits,
        first: u16,
        count: u16,
        moment: &Moment,
        mut each: impl FnMut(bool),
    ) -> Result<(), Exception> {
        check_range(first, count, self.bits)?;
        let written = self.read();
        for address in usize::from(first)..usize::from(first) + usize::from(count) {
            let short = address as u16;
            each(match table {
                _ if short < KNOWN => values::moving_bit(short, moment),
                Bits::Coils => written.coils[address],
                Bits::Discrete => values::discrete(short),
            });
        }
        Ok(())
    }

    /// Appends `count` registers from `first` on, high byte first.
    pub(super) fn read_registers(
        &self,
        table: Registers,
        first: u16,
        count: u16,
        moment: &Moment,
        out: &mut Vec<u8>,
    ) -> Result<(), Exception> {
        check_range(first, count, self.registers)?;
        self.append(&self.read(), table, first, count, moment, out);
        Ok(())
    }

    /// Sets coils from `first` on.
    pub(super) fn write_coils(
        &self,
        first: u16,
        values: impl ExactSizeIterator<Item = bool>,
    ) -> Result<(), Exception> {
        check_writable(first, values.len(), self.bits)?;
        let mut written = self.write();
        for (coil, value) in written.coils[usize::from(first)..].iter_mut().zip(values) {
            *coil = value;
        }
        Ok(())
    }

    /// Sets holding registers from `first` on, all or none.
    pub(super) fn write_registers(&self, first: u16, values: &[[u8; 2]]) -> Result<(), Exception> {
        self.check_write(first, values)?;
        store(&mut self.write(), first, values);
        Ok(())
    }

    /// Function 22: `(register AND and) OR (or AND NOT and)`, atomically.
    pub(super) fn mask_register(&self, address: u16, and: u16, or: u16) -> Result<(), Exception> {
        check_writable(address, 1, self.registers)?;
        let mut written = self.write();
        let register = &mut written.holding[usize::from(address)];
        let masked = *register & and | or & !and;
        check_value(address, masked)?;
        *register = masked;
        Ok(())
    }

    /// Function 23: writes, then reads, with nobody in between.
    pub(super) fn write_then_read(
        &self,
        write: (u16, &[[u8; 2]]),
        read: (u16, u16),
        moment: &Moment,
        out: &mut Vec<u8>,
    ) -> Result<(), Exception> {
        check_range(read.0, read.1, self.registers)?;
        self.check_write(write.0, write.1)?;
        let mut written = self.write();
        store(&mut written, write.0, write.1);
        self.append(&written, Registers::Holding, read.0, read.1, moment, out);
        Ok(())
    }

    /// A writable holding register as a client would read it.
    pub(super) fn holding(&self, address: u16) -> Option<u16> {
        self.read()
            .holding
            .get(usize::from(address))
            .copied()
            .filter(|_| address >= WRITABLE)
    }

    /// A writable coil as a client would read it.
    pub(super) fn coil(&self, address: u16) -> Option<bool> {
        self.read()
            .coils
            .get(usize::from(address))
            .copied()
            .filter(|_| address >= WRITABLE)
    }

    fn append(
        &self,
        written: &Written,
        table: Registers,
        first: u16,
        count: u16,
        moment: &Moment,
        out: &mut Vec<u8>,
    ) {
        let (mut at, end) = (usize::from(first), usize::from(first) + usize::from(count));
        let (known, writable) = (usize::from(KNOWN), usize::from(WRITABLE));
        if at < known {
            let mut moving = values::moving(self.id, moment);
            if at == 0 {
                let reads = &self.reads[usize::from(table == Registers::Input)];
                moving[0] = reads.fetch_add(1, Relaxed).wrapping_add(1);
            }
            let stop = end.min(known);
            append_words(out, moving[at..stop].iter().copied());
            at = stop;
        }
        if at < end && at < writable {
            let stop = end.min(writable);
            append_words(out, self.known[at - known..stop - known].iter().copied());
            at = stop;
        }
        if at < end {
            match table {
                Registers::Holding => append_words(out, written.holding[at..end].iter().copied()),
                Registers::Input => {
                    append_words(
                        out,
                        (at..end).map(|address| {
                            values::initial(self.id, address as u16).wrapping_add(moment.inputs_by)
                        }),
                    );
                }
            }
        }
    }

    fn check_write(&self, first: u16, values: &[[u8; 2]]) -> Result<(), Exception> {
        check_writable(first, values.len(), self.registers)?;
        for (address, value) in (first..=u16::MAX).zip(values) {
            check_value(address, u16::from_be_bytes(*value))?;
        }
        Ok(())
    }

    /// A panic cannot leave the tables half-written in a way that matters to anyone: every word is valid.
    fn read(&self) -> RwLockReadGuard<'_, Written> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Written> {
        self.written.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append_words(out: &mut Vec<u8>, words: impl Iterator<Item = u16>) {
    out.extend(words.flat_map(u16::to_be_bytes));
}

fn store(written: &mut Written, first: u16, values: &[[u8; 2]]) {
    for (register, value) in written.holding[usize::from(first)..].iter_mut().zip(values) {
        *register = u16::from_be_bytes(*value);
    }
}

fn check_range(first: u16, count: u16, size: usize) -> Result<(), Exception> {
    if usize::from(first) + usize::from(count) <= size {
        Ok(())
    } else {
        Err(Exception::ILLEGAL_ADDRESS)
    }
}

fn check_writable(first: u16, count: usize, size: usize) -> Result<(), Exception> {
    if first >= WRITABLE && usize::from(first) + count <= size {
        Ok(())
    } else {
        Err(Exception::ILLEGAL_ADDRESS)
    }
}

fn check_value(address: u16, value: u16) -> Result<(), Exception> {
    match address {
        LIMITED if value > 1000 => Err(Exception::ILLEGAL_VALUE),
        BROKEN => Err(Exception::DEVICE_FAILURE),
        _ => Ok(()),
    }
}
