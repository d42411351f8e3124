//! One table of tags, sample by sample.

use super::super::scaling::tests::{tag, treated};
use super::super::tests::Open;
use super::*;

struct Down;
impl Gate for Down {
    fn is_open(&self) -> bool {
        false
    }

    fn blocks(&self, _: DeviceId) -> Option<(Quality, Arc<str>)> {
        Some((Quality::BadNotConnected, "link plc is down".into()))
    }
}

/// Takes one sample in, as a driver would publish it.
fn take(table: &TagTable, sample: Sample, gate: &impl Gate, at: u64) -> Vec<Sample> {
    let quality = match sample.quality {
        Quality::Good => types::Quality::Good,
        Quality::BadTimeout => types::Quality::BadTimeout,
        other => panic!("{other} is in no test"),
    };
    let sample = types::Sample {
        tag: sample.tag.0,
        value: sample.value.map(types::Value::from),
        quality,
        source_time_ns: sample.source_time.map(|time| time.0),
    };
    table.take(vec![sample], gate, (WallNs(at), MonotonicNs(at)))
}

fn sample(value: Option<Value>, quality: Quality) -> Sample {
    Sample {
        tag: TagId(0),
        value,
        quality,
        source_time: None,
    }
}

fn table(report: Report, deadband: f64) -> TagTable {
    let tag = treated(tag("float64", 1.0, 0.0), |treatment| {
        (treatment.report, treatment.deadband) = (report, deadband);
    });
    TagTable::new([tag].into())
}

fn good(value: f64) -> Sample {
    sample(Some(Value::Float(value)), Quality::Good)
}

#[test]
fn report_by_change_follows_the_deadband_from_the_last_reported_value() {
    let table = table(Report::Change, 0.5);
    let steps = [
        (10.0, true),
        (10.4, false),
        (10.5, false),
        (10.51, true),
        (10.1, false),
        (10.0, true),
    ];
    for (value, expected) in steps {
        let handed_on = take(&table, good(value), &Open, 1);
        assert_eq!(!handed_on.is_empty(), expected, "{value}");
        assert_eq!(
            table.state(TagId(0)).unwrap().value,
            Some(Value::Float(value)),
            "the last value is always kept"
        );
    }
}

#[test]
fn a_change_of_quality_is_always_handed_on() {
    let table = table(Report::Change, 100.0);
    assert_eq!(take(&table, good(1.0), &Open, 1).len(), 1);
    let bad = take(&table, sample(None, Quality::BadTimeout), &Open, 2);
    assert_eq!(
        bad,
        [sample(Some(Value::Float(1.0)), Quality::BadTimeout)],
        "with the last known value"
    );
    assert_eq!(
        take(&table, sample(None, Quality::BadTimeout), &Open, 3),
        []
    );
    assert_eq!(take(&table, good(1.0), &Open, 4).len(), 1);
}

#[test]
fn nothing_is_good_while_the_gate_is_shut() {
    let table = table(Report::Always, 0.0);
    let handed_on = take(&table, good(1.0), &Down, 1);
    assert_eq!(handed_on[0].quality, Quality::BadNotConnected);
    let state = table.state(TagId(0)).unwrap();
    assert_eq!(
        (state.value, state.reason.as_deref()),
        (None, Some("link plc is down"))
    );
}

#[test]
fn a_bad_sample_leaves_the_reason_that_the_host_knows() {
    let table = table(Report::Always, 0.0);
    take(&table, good(1.0), &Open, 1);
    let why: Arc<str> = "link plc is down".into();
    table.mark(|_| true, Quality::BadNotConnected, &why, WallNs(2));
    let bad = || sample(None, Quality::BadTimeout);
    let known = |gate: &dyn Fn() -> Vec<Sample>| {
        gate();
        let state = table.state(TagId(0)).unwrap();
        (state.quality, state.reason)
    };
    assert_eq!(
        known(&|| take(&table, bad(), &Down, 3)),
        (Quality::BadTimeout, Some(why))
    );
    // It is up again: what held the driver back does no more.
    assert_eq!(
        known(&|| take(&table, bad(), &Open, 4)),
        (Quality::BadTimeout, None)
    );
    // The driver says more of the device afterwards.
    let why: Arc<str> = "device one is down".into();
    let more: Arc<str> = "device one is still down".into();
    for reason in [&why, &more] {
        let changes =
            table.mark_unless_bad(|_| true, Quality::BadNoCommunication, reason, WallNs(5));
        assert_eq!(changes, []);
    }
    assert_eq!(
        known(&Vec::new),
        (Quality::BadTimeout, Some(why)),
        "the first is kept"
    );
}

#[test]
fn marked_tags_go_bad_at_once_and_come_back_with_a_fresh_sample_only() {
    let table = table(Report::Always, 0.0);
    take(&table, good(1.0), &Open, 1);
    let reason: Arc<str> = "the driver trapped".into();
    let changes = table.mark(|_| true, Quality::BadStale, &reason, WallNs(2));
    assert_eq!(
        changes,
        [sample(Some(Value::Float(1.0)), Quality::BadStale)]
    );
    assert_eq!(
        table.mark(|_| true, Quality::BadStale, &reason, WallNs(3)),
        [],
        "no change, nothing to say"
    );
    assert_eq!(
        table.state(TagId(0)).unwrap().reason.as_deref(),
        Some("the driver trapped")
    );
    take(&table, good(2.0), &Open, 4);
    let state = table.state(TagId(0)).unwrap();
    assert_eq!((state.quality, state.reason), (Quality::Good, None));
}

#[test]
fn a_value_that_its_type_cannot_hold_is_not_good() {
    let table = TagTable::new([tag("int16", 1.0, 0.0)].into());
    let handed_on = take(
        &table,
        sample(Some(Value::Int(40_000)), Quality::Good),
        &Open,
        1,
    );
    assert_eq!(handed_on, [sample(None, Quality::BadOutOfRange)]);
}

/// How many of these values, given one after the other, are handed on.
fn handed_on(table: &TagTable, values: &[f64]) -> usize {
    let mut at = 10;
    let mut count = 0;
    for value in values {
        at += 1;
        count += take(table, good(*value), &Open, at).len();
    }
    count
}

#[test]
fn a_tag_without_a_deadband_keeps_nothing_beside_its_state() {
    let table = table(Report::Change, 0.0);
    assert_eq!(handed_on(&table, &[1.0, 1.0, 2.0]), 2);
    let bad = || sample(None, Quality::BadTimeout);
    assert_eq!(take(&table, bad(), &Open, 20).len(), 1);
    assert_eq!(take(&table, bad(), &Open, 21).len(), 0);
    let why: Arc<str> = "link plc is down".into();
    let mark = |quality| table.mark(|_| true, quality, &why, WallNs(22)).len();
    assert_eq!(mark(Quality::BadNotConnected), 1);
    assert_eq!(mark(Quality::BadNotConnected), 0);
    assert_eq!(take(&table, good(2.0), &Down, 23).len(), 0);
    assert_eq!(handed_on(&table, &[2.0, 2.0]), 1);
    assert!(table.lock().iter().all(|cell| cell.reported.is_none()));
}

#[test]
fn a_first_sample_is_handed_on_even_where_it_says_what_a_new_tag_says() {
    let table = table(Report::Change, 0.0);
    let mut cells = table.lock();
    let cell = &mut cells[0];
    assert!(cell.is_news(&None, Quality::BadWaitingForInitialData));
    cell.set_server_time(WallNs(1));
    assert!(!cell.is_news(&None, Quality::BadWaitingForInitialData));
}

#[test]
fn a_cell_is_small() {
    assert!(size_of::<Cell>() <= 72, "{}", size_of::<Cell>());
}

#[test]
fn a_reason_is_wrapped_once() {
    let mut why = Why::default();
    let [down, up]: [Arc<str>; 2] = ["link plc is down".into(), "it is up".into()];
    let first = why.of(down.clone());
    assert!(Arc::ptr_eq(&first, &why.of(down.clone())));
    let second = why.of(up.clone());
    assert_eq!([&**first, &**second], [&*down, &*up]);
}

#[test]
fn not_a_number_is_reported_once() {
    let table = table(Report::Change, 0.5);
    assert_eq!(take(&table, good(1.0), &Open, 1).len(), 1);
    assert_eq!(take(&table, good(f64::NAN), &Open, 2).len(), 1);
    assert_eq!(take(&table, good(f64::NAN), &Open, 3).len(), 0);
    assert_eq!(take(&table, good(1.0), &Open, 4).len(), 1);
}
