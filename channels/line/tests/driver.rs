//! The driver as the host sees it, with a sensor at the other end of its line.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_sdk::testing::{FakeHost, Setup};
use bulkhead_sdk::{CloseReason, Quality, Value};
use line::LineDriver;

/// A sensor that keeps to the protocol.
type Sensor = Rc<RefCell<BTreeMap<String, String>>>;

fn sensor() -> Sensor {
    let values = [("temp", "21.5"), ("count", "7"), ("limit", "30")];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Rc::new(RefCell::new(values.into()))
}

fn answer(values: &Sensor, question: &[u8]) -> Vec<u8> {
    let question = String::from_utf8(question.to_vec()).expect("ASCII");
    let line = question.strip_suffix("\r\n").expect("CR LF");
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    let mut values = values.borrow_mut();
    let said = match words.as_slice() {
        ["READ", "broken"] => "ERR 4 probe broken".to_owned(),
        ["READ", name] => match values.get(*name) {
            Some(value) => format!("OK {value}"),
            None => "ERR 2 no such name".to_owned(),
        },
        ["SET", "temp", _] => "ERR 3 measured, not set".to_owned(),
        ["SET", name, value] => {
            values.insert((*name).to_owned(), (*value).to_owned());
            "OK".to_owned()
        }
        _ => "ERR 1 what?".to_owned(),
    };
    format!("{said}\r\n").into_bytes()
}

fn setup() -> Setup {
    Setup::new()
        .link("line", "tcp")
        .settings(r#"{"timeout_ms": 200}"#)
        .tag("temp", "temp", "float64")
        .tag("count", "count", "uint16")
        .tag("limit", "limit", "float64")
        .writable()
}

fn start(setup: Setup) -> (FakeHost<LineDriver>, Sensor) {
    let mut host = FakeHost::start(setup).expect("the configuration is in order");
    let sensor = sensor();
    let values = sensor.clone();
    host.peer("line", move |question| answer(&values, question));
    (host, sensor)
}

/// What was published last of each tag: its value and quality.
fn seen(host: &FakeHost<LineDriver>, tags: &[&str]) -> Vec<(Option<Value>, Quality)> {
    let one = |tag: &&str| {
        let sample = host.last(tag).expect("a sample");
        (sample.value.clone(), sample.quality)
    };
    tags.iter().map(one).collect()
}

#[test]
fn a_poll_asks_for_each_tag_in_order() {
    let (mut host, _sensor) = start(setup());
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (3, 0));
    assert_eq!(
        host.take_sent("line"),
        b"READ temp\r\nREAD count\r\nREAD limit\r\n"
    );
    assert_eq!(
        seen(&host, &["temp", "count", "limit"]),
        [
            (Some(Value::Float(21.5)), Quality::Good),
            (Some(Value::Uint(7)), Quality::Good),
            (Some(Value::Float(30.0)), Quality::Good),
        ]
    );
    host.stop();
}

#[test]
fn what_one_tag_gets_wrong_is_that_tags_alone() {
    let setup = setup()
        .tag("broken", "broken", "float64")
        .tag("nobody", "nobody", "float64")
        .tag("narrow", "temp", "uint8");
    let (mut host, _sensor) = start(setup);
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (6, 3));
    assert_eq!(
        seen(&host, &["temp", "broken", "nobody", "narrow", "limit"]),
        [
            (Some(Value::Float(21.5)), Quality::Good),
            (None, Quality::BadDeviceFailure),
            (None, Quality::BadConfiguration),
            (None, Quality::BadTypeMismatch),
            (Some(Value::Float(30.0)), Quality::Good),
        ]
    );
}

#[test]
fn what_is_set_is_read() {
    let (mut host, sensor) = start(setup());
    assert_eq!(host.write("limit", Value::Float(42.5)), Ok(None));
    assert_eq!(sensor.borrow()["limit"], "42.5");
    assert_eq!(
        host.write_read_back("limit", Value::Float(43.0)),
        Ok(Some(Value::Float(43.0)))
    );
    let read = host.read(&["limit", "temp"]).expect("they can be read");
    let values: Vec<_> = read.into_iter().map(|sample| sample.value).collect();
    assert_eq!(values, [Some(Value::Float(43.0)), Some(Value::Float(21.5))]);
    host.stop();
}

#[test]
fn a_refusal_is_handed_on_with_its_code() {
    let setup = Setup::new()
        .link("line", "tcp")
        .tag("temp", "temp", "float64")
        .writable();
    let (mut host, _sensor) = start(setup);
    let refused = host.write("temp", Value::Float(1.0)).unwrap_err();
    assert_eq!(refused.code, Some(3));
    assert_eq!(refused.message, "the sensor refused: measured, not set (3)");
    let refused = host.write("temp", Value::Float(f64::NAN)).unwrap_err();
    assert_eq!(refused.message, "a line cannot carry this value");
}

#[test]
fn a_write_overtakes_the_questions_that_wait() {
    let mut host = FakeHost::<LineDriver>::start(setup()).expect("no faults");
    host.begin_poll("all");
    let write = host.begin_write("limit", Value::Float(1.0), false);
    assert_eq!(host.take_sent("line"), b"READ temp\r\n");
    host.receive("line", b"OK 1\r\n");
    assert_eq!(host.take_sent("line"), b"SET limit 1\r\n");
    host.receive("line", b"OK\r\n");
    assert_eq!(host.finish_write(write), Ok(None));
    assert_eq!(host.take_sent("line"), b"READ count\r\n");
    host.receive("line", b"OK 2\r\n");
    host.receive("line", b"OK 3\r\n");
    assert_eq!(host.finish_poll("all").failed, 0);
    host.stop();
}

#[test]
fn a_silent_sensor_costs_one_timeout_and_a_new_stream() {
    let mut host = FakeHost::<LineDriver>::start(setup()).expect("no faults");
    let before = host.now();
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (1, 1));
    assert_eq!(host.now() - before, Duration::from_millis(200));
    for tag in ["temp", "count", "limit"] {
        assert_eq!(host.quality(tag), Some(Quality::BadTimeout), "{tag}");
    }
    // The answer to the old question comes over the old stream, or not at all.
    host.take_sent("line");
    host.begin_poll("all");
    assert_eq!(host.take_sent("line"), b"READ temp\r\n");
    for answer in [&b"OK 1\r\n"[..], b"OK 2\r\n", b"OK 3\r\n"] {
        host.receive("line", answer);
    }
    assert_eq!(host.finish_poll("all").failed, 0);
    assert_eq!(host.value("temp"), Some(Value::Float(1.0)));
}

#[test]
fn an_answer_in_pieces_is_one_answer() {
    let mut host = FakeHost::<LineDriver>::start(setup()).expect("no faults");
    host.begin_poll("all");
    for byte in b"OK 12.25\r\n" {
        host.receive("line", &[*byte]);
    }
    host.receive("line", b"OK 1\r\n");
    host.receive("line", b"OK 2\r\n");
    host.finish_poll("all");
    assert_eq!(host.value("temp"), Some(Value::Float(12.25)));
}

#[test]
fn noise_gives_no_good_sample() {
    let long = "x".repeat(200);
    for noise in [
        "\r\n",
        "21.5\r\n",
        "OK21.5\r\n",
        "OK 21.5\n",
        "OK 1\r\nOK 2\r\n",
        "ERR\r\n",
        "OK nan\r\n",
        "OK \x002\r\n",
        long.as_str(),
    ] {
        let mut host = FakeHost::<LineDriver>::start(setup()).expect("no faults");
        host.begin_poll("all");
        host.receive("line", noise.as_bytes());
        let done = host.finish_poll("all");
        assert!(done.failed > 0, "{noise:?}");
        let good: Vec<_> = host.take_samples();
        let good = good.iter().filter(|sample| sample.quality == Quality::Good);
        // Two answers in one piece: the first may be believed, nothing after it.
        let believed = usize::from(noise.starts_with("OK 1\r\n"));
        assert_eq!(good.count(), believed, "{noise:?}");
        host.stop();
    }
}

#[test]
fn a_line_that_is_down_is_not_asked() {
    let (mut host, _sensor) = start(setup());
    host.away("line", CloseReason::Refused);
    let before = host.now();
    host.poll("all");
    assert_eq!(host.now(), before);
    assert_eq!(host.quality("temp"), Some(Quality::BadNotConnected));
    assert_eq!(host.quality("limit"), Some(Quality::BadNotConnected));
    host.restore("line");
    host.poll("all");
    assert_eq!(host.quality("limit"), Some(Quality::Good));
}

#[test]
fn a_line_that_breaks_under_a_question_gives_bad_samples() {
    let mut host = FakeHost::<LineDriver>::start(setup()).expect("no faults");
    host.begin_poll("all");
    host.receive("line", b"OK 2");
    host.drop_connection("line", CloseReason::Reset);
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(host.quality("temp"), Some(Quality::BadNotConnected));
    host.stop();
}

#[test]
fn every_fault_is_named_at_once() {
    let setup = Setup::new()
        .link("line", "tcp")
        .settings(r#"{"timeout_ms": 0}"#)
        .device("one", "")
        .tag("a", "two words", "float64")
        .tag("b", "temp", "bytes")
        .tag("c", "temp", "float64[4]")
        .device("two", "");
    let faults = FakeHost::<LineDriver>::start(setup).err().expect("faults");
    let places: Vec<&str> = faults.iter().map(|fault| fault.at.as_str()).collect();
    assert_eq!(
        places,
        [
            "settings.timeout_ms",
            "device two.name",
            "tag a.address",
            "tag b.type",
            "tag c.type",
        ]
    );
}

#[test]
fn another_driver_finds_a_line_in_step() {
    let mut host = FakeHost::<LineDriver>::start(setup()).expect("no faults");
    host.begin_poll("all");
    host.take_sent("line");
    // Nobody answers: the driver stops within the question.
    host.stop();
    let reset = host
        .history()
        .iter()
        .any(|action| matches!(action, bulkhead_sdk::abi::Action::Reset(_)));
    assert!(reset, "{:?}", host.history());
}
