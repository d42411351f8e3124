//! What polls cost natively, without a sandbox: `cargo run --release -p modbus --example poll_cost`.
//!
//! The figure is the median of a thousand polls, with all their turns, and with a peer that answers at once.

use bulkhead_sdk::Runtime;
use bulkhead_sdk::abi::{
    Action, ChannelConfig, Device, Event, Group, Happening, Instant, Link, Opened, Poll, Received,
    Start, StartReason, Tag,
};
use modbus::Modbus;

/// `count` registers, each a tag of its own.
fn config(count: u32) -> ChannelConfig {
    let tag = |id| Tag {
        id,
        device: 0,
        name: format!("t{id}"),
        address: format!("holding:{id}"),
        data_type: "uint16".to_owned(),
        readable: true,
        writable: false,
        settings: "{}".to_owned(),
    };
    ChannelConfig {
        name: "channel".to_owned(),
        settings: "{}".to_owned(),
        links: vec![Link {
            id: 0,
            name: "plc".to_owned(),
            kind: "tcp".to_owned(),
            listens: false,
        }],
        devices: vec![Device {
            id: 0,
            name: "device".to_owned(),
            address: "1".to_owned(),
            settings: "{}".to_owned(),
            link: None,
        }],
        groups: vec![Group {
            id: 0,
            name: "all".to_owned(),
            period_ns: 100_000_000,
            tags: (0..count).collect(),
        }],
        tags: (0..count).map(tag).collect(),
    }
}

fn turn(runtime: &mut Runtime<Modbus>, what: Happening) -> Vec<Action> {
    let now = Instant {
        monotonic_ns: 1,
        wall_ns: 1,
    };
    runtime
        .turn(now, vec![Event { at_ns: 1, what }])
        .expect("the driver goes on")
}

/// One poll to its end; gives the number of samples.
fn poll(runtime: &mut Runtime<Modbus>, cycle: u64) -> usize {
    let mut samples = 0;
    let due = Poll {
        group: 0,
        cycle,
        scheduled_ns: 1,
        skip: Vec::new(),
    };
    let mut actions = turn(runtime, Happening::Poll(due));
    loop {
        let mut reply = None;
        for action in actions {
            match action {
                Action::Send(send) => {
                    let registers = usize::from(send.bytes[11]);
                    let mut bytes = send.bytes[..4].to_vec();
                    bytes.extend([
                        0,
                        3 + 2 * registers as u8,
                        send.bytes[6],
                        3,
                        2 * registers as u8,
                    ]);
                    bytes[4..6].copy_from_slice(&(3 + 2 * registers as u16).to_be_bytes());
                    bytes.resize(9 + 2 * registers, 7);
                    reply = Some(Received {
                        connection: send.connection,
                        peer: None,
                        bytes,
                    });
                }
                Action::Publish(publish) => samples += publish.samples.len(),
                Action::PollDone(done) => {
                    assert_eq!(done.failed, 0);
                    return samples;
                }
                _ => {}
            }
        }
        actions = turn(
            runtime,
            Happening::Received(reply.expect("a request is on the way")),
        );
    }
}

fn main() {
    for count in [1, 100, 1000] {
        let mut runtime = Runtime::<Modbus>::seeded(1);
        runtime.configure(config(count)).expect("in order");
        let start = Start {
            incarnation: 1,
            reason: StartReason::First,
            state: None,
            connections: Vec::new(),
            features: Vec::new(),
        };
        turn(&mut runtime, Happening::Started(start));
        let opened = Opened {
            connection: 1,
            link: 0,
            secured: false,
            peer: "here".to_owned(),
            send_window: u32::MAX,
        };
        turn(&mut runtime, Happening::Opened(opened));
        let mut times: Vec<u128> = (0..1000)
            .map(|cycle| {
                #[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
                let begin = std::time::Instant::now();
                assert_eq!(poll(&mut runtime, cycle), count as usize);
                begin.elapsed().as_nanos()
            })
            .collect();
        times.sort_unstable();
        let median = times[times.len() / 2];
        println!(
            "{count} registers: {median} ns, {} ns each",
            median / u128::from(count)
        );
    }
}
