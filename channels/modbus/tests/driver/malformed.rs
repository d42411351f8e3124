//! Replies that no unit should send. Whatever comes: nothing of it is published as good, and the next good reply is.

use bulkhead_sdk::testing::Setup;
use bulkhead_sdk::{CloseReason, Quality, Value};

use crate::plant::{Handle, good_samples, registers, resets};

/// Polls well, then with `mangle` over every answer, then well again. The values change each time, so that none can be taken for
/// another.
fn check(
    name: &str,
    quality: Quality,
    reset: bool,
    mangle: impl FnMut(&[u8], Vec<u8>) -> Vec<u8> + 'static,
) {
    let plant = Handle::simple();
    let mut host = plant.host(registers(Setup::new(), 4));
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(good_samples(&mut host), 4);

    plant.set(0, 2000);
    plant.mangle(mangle);
    let done = host.poll("all");
    assert_eq!(done.requests, done.failed, "{name}");
    let samples = host.take_samples();
    assert_eq!(samples.len(), 4, "{name}: each tag has its sample");
    assert!(
        samples
            .iter()
            .all(|sample| sample.quality == quality && sample.value.is_none()),
        "{name}: {samples:?}"
    );
    assert_eq!(resets(&host), usize::from(reset), "{name}");

    plant.set(0, 3000);
    plant.honest();
    assert_eq!(host.poll("all").failed, 0, "{name}");
    assert_eq!(good_samples(&mut host), 4, "{name}");
    assert_eq!(host.value("t0"), Some(Value::Uint(3000)), "{name}");
    host.stop();
}

/// The answer with one byte changed.
fn with(
    at: usize,
    change: impl Fn(u8) -> u8 + 'static,
) -> impl FnMut(&[u8], Vec<u8>) -> Vec<u8> + 'static {
    move |_, mut reply| {
        reply[at] = change(reply[at]);
        reply
    }
}

#[test]
fn wrong_fields() {
    use Quality::BadNoCommunication;
    check(
        "transaction one ahead",
        BadNoCommunication,
        true,
        with(1, |byte| byte.wrapping_add(1)),
    );
    check(
        "transaction one behind",
        BadNoCommunication,
        true,
        with(1, |byte| byte.wrapping_sub(1)),
    );
    check("transaction zero", BadNoCommunication, true, with(1, |_| 0));
    check("protocol", BadNoCommunication, true, with(3, |_| 1));
    check("length zero", BadNoCommunication, true, with(5, |_| 0));
    check(
        "length one less",
        BadNoCommunication,
        true,
        with(5, |byte| byte - 1),
    );
    check("unit", BadNoCommunication, true, with(6, |_| 9));
    check("function", BadNoCommunication, true, with(7, |_| 4));
    check(
        "a write instead of a read",
        BadNoCommunication,
        true,
        with(7, |_| 6),
    );
    check(
        "the exception of another function",
        BadNoCommunication,
        true,
        with(7, |_| 0x84),
    );
    check(
        "byte count one more",
        BadNoCommunication,
        true,
        with(8, |byte| byte + 1),
    );
    check(
        "byte count one less",
        BadNoCommunication,
        true,
        with(8, |byte| byte - 1),
    );
}

#[test]
fn wrong_sizes() {
    use Quality::BadNoCommunication;
    check(
        "oversized, and consistent",
        BadNoCommunication,
        true,
        |_, mut reply| {
            reply.extend([0x11, 0x22]);
            reply[5] += 2;
            reply[8] += 2;
            reply
        },
    );
    check(
        "undersized, and consistent",
        BadNoCommunication,
        true,
        |_, mut reply| {
            reply.truncate(reply.len() - 2);
            reply[5] -= 2;
            reply[8] -= 2;
            reply
        },
    );
    check(
        "a byte count off by one, with its byte",
        BadNoCommunication,
        true,
        |_, mut reply| {
            reply.push(0);
            reply[5] += 1;
            reply[8] += 1;
            reply
        },
    );
    check("a huge length", BadNoCommunication, true, |_, mut reply| {
        reply[4] = 0xff;
        reply.resize(5000, 0x55);
        reply
    });
    check(
        "cut within the data",
        BadNoCommunication,
        true,
        |_, reply| reply[..12].to_vec(),
    );
    check(
        "cut within the function",
        BadNoCommunication,
        true,
        |_, reply| reply[..7].to_vec(),
    );
}

#[test]
fn silence_and_what_looks_like_it() {
    check("silence", Quality::BadTimeout, false, |_, _| Vec::new());
}

/// What is left of a header that stops in the middle must not become the beginning of the next answer.
#[test]
fn a_header_cut_short() {
    for length in 1..7 {
        let plant = Handle::simple();
        let mut host = plant.host(registers(Setup::new().settings(r#"{ "retries": 0 }"#), 4));
        plant.mangle(move |_, reply| reply[..length].to_vec());
        assert_eq!(host.poll("all").failed, 1, "{length} bytes");
        assert_eq!((good_samples(&mut host), resets(&host)), (0, 1));
        plant.honest();
        assert_eq!(host.poll("all").failed, 0, "after {length} bytes");
        assert_eq!((good_samples(&mut host), resets(&host)), (4, 1));
    }
}

#[test]
fn an_answer_twice_is_taken_once() {
    let plant = Handle::simple();
    let mut host = plant.host(registers(Setup::new(), 4));
    plant.mangle(|_, reply| [reply.clone(), reply].concat());
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(good_samples(&mut host), 4);
    plant.honest();
    plant.set(0, 2000);
    assert_eq!(
        host.poll("all").failed,
        1,
        "the second copy is no answer to the second request"
    );
    assert_eq!(good_samples(&mut host), 0);
    assert_eq!(resets(&host), 1);
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(host.value("t0"), Some(Value::Uint(2000)));
}

#[test]
fn random_bytes() {
    for seed in 1..=300u64 {
        let mut state = seed;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let plant = Handle::simple();
        let mut host = plant.host(registers(Setup::new().settings(r#"{ "retries": 0 }"#), 4));
        plant.mangle(move |_, _| {
            let length = random() % 300;
            (0..length).map(|_| random() as u8).collect()
        });
        for _ in 0..5 {
            assert_eq!(host.poll("all").failed, 1, "seed {seed}");
        }
        assert_eq!(good_samples(&mut host), 0, "seed {seed}");
        plant.honest();
        host.poll("all");
        if good_samples(&mut host) == 0 {
            host.poll("all");
            assert_eq!(
                good_samples(&mut host),
                4,
                "seed {seed}: good again after one reset"
            );
        }
    }
}

/// Right answers with a few bits turned: either it is not the answer, or only the data differ, which no client can know.
#[test]
fn turned_bits() {
    for bit in 0..9 * 8 {
        let plant = Handle::simple();
        let mut host = plant.host(registers(Setup::new().settings(r#"{ "retries": 0 }"#), 4));
        plant.mangle(move |_, mut reply| {
            reply[bit / 8] ^= 1 << (bit % 8);
            reply
        });
        assert_eq!(host.poll("all").failed, 1, "bit {bit}");
        assert_eq!(good_samples(&mut host), 0, "bit {bit}");
    }
}

#[test]
fn a_close_instead_of_an_answer() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(registers(Setup::new(), 4));
    host.begin_poll("all");
    host.drop_connection("plc", CloseReason::ByPeer);
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(host.quality("t0"), Some(Quality::BadNotConnected));
    assert_eq!(good_samples(&mut host), 0);
}

/// The unit that answers nonsense loses its turn; the one beside it does not.
#[test]
fn other_units_go_on_over_the_new_connection() {
    let plant = Handle::simple();
    plant.unit(2, |unit| {
        unit.holding = (0..200).map(|at| (at, at)).collect()
    });
    let setup = Setup::new().settings(r#"{ "max_registers": 1 }"#);
    let setup = setup
        .device("bad", "1")
        .tag("b0", "holding:0", "uint16")
        .tag("b1", "holding:1", "uint16");
    let setup = setup
        .device("good", "2")
        .tag("g0", "holding:0", "uint16")
        .tag("g1", "holding:1", "uint16");
    let mut host = plant.host(setup);
    plant.mangle(|request, mut reply| {
        if request[6] == 1 {
            reply[3] = 7;
        }
        reply
    });
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (3, 1));
    assert_eq!(host.quality("b0"), Some(Quality::BadNoCommunication));
    assert_eq!(
        host.quality("b1"),
        Some(Quality::BadNoCommunication),
        "not asked for any more"
    );
    assert_eq!(host.value("g1"), Some(Value::Uint(1)));
    assert_eq!(resets(&host), 1);
}
