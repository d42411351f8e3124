//! What must hold of scaling for every type that has numbers, both ways: what was read can be written back, and what was written is
//! read again, each within what the type and a double resolve.

use proptest::prelude::*;

use super::scaling::tests::tag;
use super::{Rule, to_device};
use crate::config::Tag;
use crate::event::Value;

/// Scales that plants use, and some that nobody would.
fn scales() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.1),
        Just(0.001),
        Just(-1.0),
        Just(10.0),
        Just(1.0 / 3.0),
        Just(-0.25),
        (-1e3..1e3f64).prop_filter("not 0", |scale| scale.abs() > 1e-3),
    ]
}

fn offsets() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(-40.0), -1e4..1e4f64, -1e15..1e15f64]
}

/// Any number, and often one at an end.
fn ints() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -1000..1000i64,
        (0..2000i64).prop_map(|down| i64::MAX - down),
        (0..2000i64).prop_map(|up| i64::MIN + up),
    ]
}

fn uints() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..1000u64,
        (0..4000u64).prop_map(|down| u64::MAX - down)
    ]
}

/// Any finite one, subnormal ones and both ends among them.
fn floats() -> impl Strategy<Value = f32> {
    let any = prop::num::f32::POSITIVE
        | prop::num::f32::NEGATIVE
        | prop::num::f32::NORMAL
        | prop::num::f32::SUBNORMAL
        | prop::num::f32::ZERO;
    prop_oneof![
        4 => any,
        1 => Just(f32::MAX),
        1 => Just(f32::MIN),
        1 => -1e4..1e4f32,
    ]
}

fn shown(tag: &Tag, raw: Value) -> Value {
    Rule::new(tag).in_units(raw)
}

/// A number, whatever its kind, as a double has it.
fn number(value: &Value) -> f64 {
    match value {
        Value::Int(v) => *v as f64,
        Value::Uint(v) => *v as f64,
        Value::Float(v) => *v,
        other => panic!("{other:?} is no number"),
    }
}

/// How far two raw numbers may be apart since a double was between them: what it resolves at the size of what it held.
fn slack(tag: &Tag, raw: f64) -> f64 {
    4.0 * f64::EPSILON * (raw.abs() + (tag.treatment.offset / tag.treatment.scale).abs())
}

/// The elements of an array as single values.
fn elements(value: &Value) -> Vec<Value> {
    match value {
        Value::Ints(all) => all.iter().map(|v| Value::Int(*v)).collect(),
        Value::Uints(all) => all.iter().map(|v| Value::Uint(*v)).collect(),
        Value::Floats(all) => all.iter().map(|v| Value::Float(*v)).collect(),
        other => panic!("{other:?} is no array of numbers"),
    }
}

fn whole(value: &Value) -> i128 {
    match value {
        Value::Int(v) => i128::from(*v),
        Value::Uint(v) => i128::from(*v),
        other => panic!("{other:?} is no whole number"),
    }
}

/// Written back, a whole number is the same, or as near as a double can tell.
fn check_whole(tag: &Tag, raw: &Value) -> Result<(), TestCaseError> {
    let shown = shown(tag, raw.clone());
    let written = to_device(tag, shown.clone());
    let Ok(back) = &written else {
        return Err(TestCaseError::fail(format!(
            "{raw:?} is shown as {shown:?}, which cannot be written: {written:?}"
        )));
    };
    let apart = (whole(back) - whole(raw)).unsigned_abs();
    // Half a step is lost where a number is rounded to the nearest.
    let most = (slack(tag, number(raw)) + 0.5).floor() as u128;
    prop_assert!(
        apart <= most,
        "{raw:?} * {} + {} = {shown:?}, written as {back:?}: {apart} apart, not at most {most}",
        tag.treatment.scale,
        tag.treatment.offset
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whole_numbers_of_64_bits_are_exact_without_a_scale(int in ints(), uint in uints()) {
        for (kind, raw) in [("int64", Value::Int(int)), ("uint64", Value::Uint(uint))] {
            let tag = tag(kind, 1.0, 0.0);
            prop_assert_eq!(shown(&tag, raw.clone()), raw.clone());
            prop_assert_eq!(to_device(&tag, raw.clone()), Ok(raw));
        }
    }

    #[test]
    fn whole_numbers_of_64_bits_come_back_as_near_as_doubles_tell(
        int in ints(), uint in uints(), scale in scales(), offset in offsets(),
    ) {
        check_whole(&tag("int64", scale, offset), &Value::Int(int))?;
        check_whole(&tag("uint64", scale, offset), &Value::Uint(uint))?;
    }

    /// What was read of a float32 can be written, and the device holds the same again: what a double adds is far below what a float32
    /// resolves, unless the offset swallows it.
    #[test]
    fn float32_comes_back(raw in floats(), scale in scales(), offset in offsets()) {
        let plain = tag("float32", 1.0, 0.0);
        let exact = Value::Float(raw.into());
        prop_assert_eq!(shown(&plain, exact.clone()), exact.clone());
        prop_assert_eq!(to_device(&plain, exact.clone()), Ok(exact.clone()));

        let tag = tag("float32", scale, offset);
        let shown = shown(&tag, exact);
        let back = to_device(&tag, shown.clone());
        let Ok(Value::Float(back)) = back else {
            return Err(TestCaseError::fail(format!("{raw} is shown as {shown:?}, which cannot be written: {back:?}")));
        };
        let held = back as f32;
        prop_assert!(held.is_finite(), "{back} is no float32");
        // To the nearest float32: half of what lies between two of them.
        let resolved = f64::from(raw.abs().next_up().min(f32::MAX)) - f64::from(raw.abs().next_down());
        let apart = (f64::from(held) - f64::from(raw)).abs();
        prop_assert!(
            apart <= slack(&tag, raw.into()) + resolved,
            "{raw} * {scale} + {offset} = {shown:?}, held as {held}"
        );
    }

    /// What is written is read again: to the nearest step that the device has.
    #[test]
    fn what_is_written_is_read_again(
        kind in prop::sample::select(vec!["int8", "uint16", "int32", "int64", "uint64", "float32", "float64"]),
        part in -1.0..1.0f64, scale in scales(), offset in prop_oneof![Just(0.0), -1e4..1e4f64],
    ) {
        let tag = tag(kind, scale, offset);
        let (low, high) = tag.data_type.scalar.integer_range().unwrap_or((-1_000_000, 1_000_000));
        let raw = if part < 0.0 { -part * low as f64 } else { part * high as f64 };
        let value = raw.mul_add(scale, offset);
        let written = to_device(&tag, Value::Float(value));
        prop_assert!(written.is_ok(), "{value}, which is {raw} at the device: {written:?}");
        let held = match written.unwrap() {
            // The device's own resolution.
            Value::Float(v) if kind == "float32" => Value::Float(f64::from(v as f32)),
            other => other,
        };
        let read = number(&shown(&tag, held));
        let step = match tag.data_type.scalar.integer_range() {
            Some(_) => 0.5,
            None if kind == "float32" => raw.abs() * f64::from(f32::EPSILON),
            None => 0.0,
        };
        let most = (step + slack(&tag, raw)) * scale.abs() + f64::from(f32::MIN_POSITIVE);
        prop_assert!((read - value).abs() <= most, "{value} was written, {read} is read");
    }

    /// An array is scaled, and written, as its elements are.
    #[test]
    fn an_array_is_what_its_elements_are(
        int in prop::collection::vec(ints(), 3), uint in prop::collection::vec(uints(), 3),
        float in prop::collection::vec(floats(), 3), scale in prop_oneof![Just(1.0), scales()],
        offset in prop_oneof![Just(0.0), offsets()],
    ) {
        let float = float.into_iter().map(f64::from);
        for (kind, raw) in [
            ("int64", Value::Ints(int.into())),
            ("uint64", Value::Uints(uint.into())),
            ("float32", Value::Floats(float.collect())),
        ] {
            let (array, single) = (tag(&format!("{kind}[3]"), scale, offset), tag(kind, scale, offset));
            let shown = shown(&array, raw.clone());
            let singly: Vec<Value> = elements(&raw).into_iter().map(|raw| Rule::new(&single).in_units(raw)).collect();
            prop_assert_eq!(elements(&shown), singly.clone());
            let written = to_device(&array, shown).map(|back| elements(&back));
            let singly: Result<Vec<Value>, _> = singly.into_iter().map(|value| to_device(&single, value)).collect();
            prop_assert!(singly.is_ok(), "{kind}: {singly:?}");
            prop_assert_eq!(written.ok(), singly.ok(), "{}", kind);
        }
    }
}
