//! How much a script may stand for: bytes, and time.
//!
//! Repetition (`00*1000000`) makes much of little text. So what a script comes to is counted as it is read, and reading ends with the line
//! with which it is too much; no more than one line is ever read in excess.

use super::model::{Expected, ExpectedAnswer, Step};
use crate::bindings::types::Value;

/// The most bytes that all patterns and values of a script stand for.
const MAX_BYTES: usize = 4 << 20;

/// The longest time, and the most that the steps of a case let pass: 366 days, in nanoseconds.
pub(super) const MAX_TIME: u64 = 366 * 24 * 3_600 * 1_000_000_000;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    left: Option<usize>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            left: Some(MAX_BYTES),
        }
    }

    /// Whether more was wanted than there was.
    pub(super) fn is_spent(&self) -> bool {
        self.left.is_none()
    }

    /// Spends so many bytes.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.left = self.left.and_then(|left| left.checked_sub(bytes));
        if self.is_spent() {
            return Err(format!(
                "with this the script stands for more than {MAX_BYTES} bytes; split it over several files"
            ));
        }
        Ok(())
    }
}

/// How many bytes a step stands for, where repetition can have made them.
pub(super) fn weight(step: &Step) -> usize {
    match step {
        Step::Expect(_, pattern)
        | Step::Send(_, pattern, _)
        | Step::Answer(ExpectedAnswer::Bytes(pattern)) => pattern.len(),
        Step::Write(_, value, _) => of_value(value),
        Step::Sample(_, expected) => of_expected(expected),
        Step::Answer(ExpectedAnswer::Values(all)) => all.iter().map(of_expected).sum(),
        _ => 0,
    }
}

fn of_expected(expected: &Expected) -> usize {
    expected.value.as_ref().map_or(0, of_value)
}

/// The bytes of a value; any other is as long as its text.
pub(super) fn of_value(value: &Value) -> usize {
    match value {
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}
