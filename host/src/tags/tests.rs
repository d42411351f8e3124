//! What becomes of values on their way from the device to the consumers, beside results that were computed by hand; and what must hold
//! for all values.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use proptest::prelude::*;

use super::scaling::tests::{tag, treated};
use super::{Gate, Rule, TagTable, to_device};
use crate::bindings::types;
use crate::config::{Bounds, Part, Report, Tag};
use crate::event::{MonotonicNs, Quality, Value, WallNs};
use crate::ids::{DeviceId, TagId};

/// All devices may be good.
pub(super) struct Open;
impl Gate for Open {
    fn is_open(&self) -> bool {
        true
    }

    fn blocks(&self, _: DeviceId) -> Option<(Quality, Arc<str>)> {
        None
    }
}

/// Takes one sample in. Gives whether it was handed on.
fn take(table: &TagTable, value: Option<Value>, at: Duration) -> bool {
    let quality = match value {
        Some(_) => types::Quality::Good,
        None => types::Quality::BadTimeout,
    };
    let sample = types::Sample {
        tag: 0,
        value: value.map(types::Value::from),
        quality,
        source_time_ns: None,
    };
    let at = u64::try_from(at.as_nanos()).unwrap();
    !table
        .take(vec![sample], &Open, (WallNs(at), MonotonicNs(at)))
        .is_empty()
}

fn bounds(low: f64, high: f64) -> Option<Bounds> {
    Some(Bounds { low, high })
}

/// A line for each sample, a second apart: what came (`!` for a bad one), and what the consumers were told (`-` for nothing).
fn told(tag: Tag, came: &[f64]) -> String {
    let table = TagTable::new([tag].into());
    let mut lines = String::new();
    for (second, value) in (0..).zip(came) {
        let value = (!value.is_nan()).then_some(Value::Float(*value));
        let shown = value
            .as_ref()
            .map_or("!".to_owned(), |value| format!("{value:?}"));
        let handed_on = take(&table, value, Duration::from_secs(second));
        let state = table.state(TagId(0)).unwrap();
        let told = match handed_on {
            true => format!("{:?} {}", state.value.unwrap(), state.quality),
            false => "-".to_owned(),
        };
        writeln!(lines, "{second} {shown:<14} {told}").unwrap();
    }
    lines
}

#[test]
fn reports_are_those_that_were_computed_by_hand() {
    const CAME: [f64; 9] = [10.0, 10.0, 10.4, 10.6, f64::NAN, 10.6, 10.2, 10.1, 10.0];
    let tag = |report, deadband, interval, silence: Option<u64>| {
        treated(tag("float64", 1.0, 0.0), |treatment| {
            treatment.report = report;
            treatment.deadband = deadband;
            treatment.interval = Duration::from_secs(interval);
            treatment.max_silence = silence.map(Duration::from_secs);
        })
    };
    expect![[r#"
        0 Float(10.0)    Float(10.0) good
        1 Float(10.0)    Float(10.0) good
        2 Float(10.4)    Float(10.4) good
        3 Float(10.6)    Float(10.6) good
        4 !              Float(10.6) bad-timeout
        5 Float(10.6)    Float(10.6) good
        6 Float(10.2)    Float(10.2) good
        7 Float(10.1)    Float(10.1) good
        8 Float(10.0)    Float(10.0) good
    "#]]
    .assert_eq(&told(tag(Report::Always, 0.0, 0, None), &CAME));
    expect![[r#"
        0 Float(10.0)    Float(10.0) good
        1 Float(10.0)    -
        2 Float(10.4)    Float(10.4) good
        3 Float(10.6)    Float(10.6) good
        4 !              Float(10.6) bad-timeout
        5 Float(10.6)    Float(10.6) good
        6 Float(10.2)    Float(10.2) good
        7 Float(10.1)    Float(10.1) good
        8 Float(10.0)    Float(10.0) good
    "#]]
    .assert_eq(&told(tag(Report::Change, 0.0, 0, None), &CAME));
    expect![[r#"
        0 Float(10.0)    Float(10.0) good
        1 Float(10.0)    -
        2 Float(10.4)    -
        3 Float(10.6)    Float(10.6) good
        4 !              Float(10.6) bad-timeout
        5 Float(10.6)    Float(10.6) good
        6 Float(10.2)    -
        7 Float(10.1)    -
        8 Float(10.0)    Float(10.0) good
    "#]]
    .assert_eq(&told(tag(Report::Change, 0.5, 0, None), &CAME));
    expect![[r#"
        0 Float(10.0)    Float(10.0) good
        1 Float(10.0)    -
        2 Float(10.4)    Float(10.4) good
        3 Float(10.6)    -
        4 !              Float(10.6) bad-timeout
        5 Float(10.6)    Float(10.6) good
        6 Float(10.2)    -
        7 Float(10.1)    Float(10.1) good
        8 Float(10.0)    -
    "#]]
    .assert_eq(&told(tag(Report::Change, 0.5, 0, Some(2)), &CAME));
    expect![[r#"
        0 Float(10.0)    Float(10.0) good
        1 Float(10.0)    -
        2 Float(10.4)    -
        3 Float(10.6)    Float(10.6) good
        4 !              Float(10.6) bad-timeout
        5 Float(10.6)    Float(10.6) good
        6 Float(10.2)    Float(10.2) good
        7 Float(10.1)    -
        8 Float(10.0)    -
    "#]]
    .assert_eq(&told(tag(Report::Interval, 0.0, 3, None), &CAME));
    expect![[r#"
        0 Float(10.0)    Float(10.0) good
        1 Float(10.0)    -
        2 Float(10.4)    -
        3 Float(10.6)    Float(10.6) good
        4 !              Float(10.6) bad-timeout
        5 Float(10.6)    Float(10.6) good
        6 Float(10.2)    Float(10.2) good
        7 Float(10.1)    -
        8 Float(10.0)    -
    "#]]
    .assert_eq(&told(tag(Report::Both, 0.5, 3, None), &CAME));
}

#[test]
fn what_is_beyond_a_clamp_is_its_end_and_what_is_beyond_limits_is_uncertain() {
    const CAME: [f64; 5] = [-1.0, 0.0, 50.0, 100.5, 131.0];
    let with = |clamp, limits| {
        treated(tag("float64", 1.0, 0.0), |treatment| {
            treatment.clamp = clamp;
            treatment.limits = limits;
        })
    };
    expect![[r#"
        0 Float(-1.0)    Float(0.0) good
        1 Float(0.0)     Float(0.0) good
        2 Float(50.0)    Float(50.0) good
        3 Float(100.5)   Float(100.0) good
        4 Float(131.0)   Float(100.0) good
    "#]]
    .assert_eq(&told(with(bounds(0.0, 100.0), None), &CAME));
    expect![[r#"
        0 Float(-1.0)    Float(-1.0) uncertain-out-of-range
        1 Float(0.0)     Float(0.0) good
        2 Float(50.0)    Float(50.0) good
        3 Float(100.5)   Float(100.5) uncertain-out-of-range
        4 Float(131.0)   Float(131.0) uncertain-out-of-range
    "#]]
    .assert_eq(&told(with(None, bounds(0.0, 100.0)), &CAME));
    expect![[r#"
        0 Float(-1.0)    Float(-0.5) uncertain-out-of-range
        1 Float(0.0)     Float(0.0) good
        2 Float(50.0)    Float(50.0) good
        3 Float(100.5)   Float(100.5) uncertain-out-of-range
        4 Float(131.0)   Float(120.0) uncertain-out-of-range
    "#]]
    .assert_eq(&told(with(bounds(-0.5, 120.0), bounds(0.0, 100.0)), &CAME));
}

#[test]
fn bits_of_a_word_are_its_own_values() {
    let part = |kind: &str, part: Part, raw: Value| {
        let tag = treated(tag(kind, 1.0, 0.0), |treatment| {
            treatment.part = Some(part);
        });
        Rule::new(&tag).in_units(raw)
    };
    assert_eq!(
        part("uint16", Part::Mask(0x0ff0), Value::Uint(0xabcd)),
        Value::Uint(0xbc)
    );
    assert_eq!(
        part("int16", Part::Mask(0xf000), Value::Int(-1)),
        Value::Uint(0xf)
    );
    assert_eq!(
        part("uint64", Part::Mask(u64::MAX), Value::Uint(u64::MAX)),
        Value::Uint(u64::MAX)
    );
    assert_eq!(
        part("uint16", Part::Bit(15), Value::Uint(0x8000)),
        Value::Boolean(true)
    );
    assert_eq!(
        part("int16", Part::Bit(15), Value::Int(-32_768)),
        Value::Boolean(true)
    );
    assert_eq!(
        part("int16", Part::Bit(14), Value::Int(-32_768)),
        Value::Boolean(false)
    );
    assert_eq!(
        part("uint8", Part::Bit(0), Value::Float(3.0)),
        Value::Boolean(true)
    );
    assert_eq!(
        part("uint16[2]", Part::Bit(1), Value::Uints([1, 2].into())),
        Value::Booleans([false, true].into())
    );
    let scaled = treated(tag("uint16", 0.1, 0.0), |treatment| {
        treatment.part = Some(Part::Mask(0xff));
    });
    assert_eq!(
        Rule::new(&scaled).in_units(Value::Uint(0x0115)),
        Value::Float(2.1)
    );
}

#[test]
fn what_is_beyond_clamp_or_limits_is_not_written() {
    let tag = treated(tag("int16", 0.1, 0.0), |treatment| {
        treatment.clamp = bounds(0.0, 100.0);
        treatment.limits = bounds(-10.0, 50.0);
    });
    assert_eq!(to_device(&tag, Value::Float(50.0)), Ok(Value::Int(500)));
    let refused = |value: f64| {
        to_device(&tag, Value::Float(value))
            .unwrap_err()
            .to_string()
    };
    expect!["-1 is not written to tag t, whose `clamp` is 0 to 100"].assert_eq(&refused(-1.0));
    expect!["50.1 is not written to tag t, whose `limits` is -10 to 50"].assert_eq(&refused(50.1));
}

/// Scales that plants use, and some that nobody would.
fn scales() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(1.0),
        Just(0.1),
        Just(0.01),
        Just(0.001),
        Just(-1.0),
        Just(10.0),
        Just(0.25),
        Just(1.0 / 3.0),
        (-1e3..1e3f64).prop_filter("not 0", |scale| scale.abs() > 1e-3),
    ]
}

proptest! {
    /// Reading and then writing what was read gives the device what it held.
    #[test]
    fn a_write_undoes_what_a_read_has_scaled(
        (kind, raw) in prop_oneof![
            (Just("int8"), -128..=127i64), (Just("uint8"), 0..=255i64),
            (Just("int16"), -32_768..=32_767i64), (Just("uint16"), 0..=65_535i64),
            (Just("int32"), i64::from(i32::MIN)..=i64::from(i32::MAX)),
            (Just("uint32"), 0..=i64::from(u32::MAX)),
        ],
        scale in scales(),
        offset in prop_oneof![Just(0.0), -1e4..1e4f64],
    ) {
        let tag = tag(kind, scale, offset);
        let shown = Rule::new(&tag).in_units(Value::Int(raw));
        let written = to_device(&tag, shown.clone());
        let same = match &written {
            Ok(Value::Int(v)) => *v == raw,
            Ok(Value::Uint(v)) => i64::try_from(*v) == Ok(raw),
            _ => false,
        };
        prop_assert!(same, "{kind} {raw} * {scale} + {offset} = {shown:?}, written as {written:?}");
    }

    /// The same for floating point: within what doubles resolve at the size of the offset.
    #[test]
    fn a_write_undoes_what_a_read_has_scaled_of_floats(
        raw in -1e6..1e6f64, scale in scales(), offset in -1e4..1e4f64,
    ) {
        let tag = tag("float64", scale, offset);
        let shown = Rule::new(&tag).in_units(Value::Float(raw));
        let Ok(Value::Float(written)) = to_device(&tag, shown) else {
            return Err(TestCaseError::fail("it is not written"));
        };
        let resolution = 4.0 * f64::EPSILON * (raw.abs() + (offset / scale).abs() + 1.0);
        prop_assert!((written - raw).abs() <= resolution, "{raw} came back as {written}");
    }

    /// What consumers know is never further from the value than the deadband, whatever else makes a tag report.
    #[test]
    fn no_change_larger_than_the_deadband_is_lost(
        values in prop::collection::vec(prop_oneof![-10.0..10.0f64, Just(0.0)], 1..60),
        deadband in prop_oneof![Just(0.0), 0.0..5.0f64],
        both in any::<bool>(),
        interval in 1..10u64,
        silence in prop::option::of(1..10u64),
    ) {
        let tag = treated(tag("float64", 1.0, 0.0), |treatment| {
            treatment.report = if both { Report::Both } else { Report::Change };
            treatment.deadband = deadband;
            treatment.interval = if both { Duration::from_secs(interval) } else { Duration::ZERO };
            treatment.max_silence = silence.map(Duration::from_secs);
        });
        let table = TagTable::new([tag].into());
        let (mut known, mut known_at) = (None, 0);
        for (second, value) in (0..).zip(values) {
            if take(&table, Some(Value::Float(value)), Duration::from_secs(second)) {
                (known, known_at) = (Some(value), second);
            }
            let known = known.expect("the first one is told");
            prop_assert!((value - known).abs() <= deadband, "{value}, and they know {known}");
            if let Some(most) = silence {
                prop_assert!(second - known_at < most, "silent since {known_at} at {second}");
            }
        }
    }
}

#[test]
fn what_is_not_read_for_too_long_is_stale_until_it_is_read_again() {
    let table = TagTable::new([tag("float64", 1.0, 0.0), tag("float64", 1.0, 0.0)].into());
    let second = |seconds: u64| MonotonicNs(seconds * 1_000_000_000);
    let mark = |since: u64| {
        let both = [TagId(0), TagId(1)];
        let changes = table.mark_stale(&both, second(since), &"too old".into(), WallNs(since));
        changes
            .iter()
            .map(|change| (change.tag.0, change.quality))
            .collect::<Vec<_>>()
    };
    let quality = || table.state(TagId(0)).unwrap().quality;
    assert!(take(
        &table,
        Some(Value::Float(1.0)),
        Duration::from_secs(10)
    ));
    assert_eq!(mark(10), []);
    // The other one has never been read, and says so.
    assert_eq!(mark(11), [(0, Quality::BadStale)]);
    assert_eq!(mark(12), []);
    assert_eq!(
        table.state(TagId(0)).unwrap().value,
        Some(Value::Float(1.0))
    );
    assert!(take(&table, None, Duration::from_secs(13)));
    assert_eq!((mark(14), quality()), (vec![], Quality::BadTimeout));
    assert!(take(
        &table,
        Some(Value::Float(1.0)),
        Duration::from_secs(15)
    ));
    assert_eq!((mark(15), quality()), (vec![], Quality::Good));
}
