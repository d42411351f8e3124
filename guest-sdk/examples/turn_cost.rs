//! What one turn costs natively, without a sandbox: `cargo run --release -p bulkhead-sdk --example turn_cost`.
//!
//! The figures are the median and the least of batches of a thousand turns.

use std::hint::black_box;

use bulkhead_sdk::abi::{
    ChannelConfig, Connection as Survivor, Event, Happening, Instant as Now, Link as Grant,
    Poll as Due, Received, Start as Begin,
};
use bulkhead_sdk::*;

/// Answers twelve bytes with twelve, for ever, and publishes what it is asked to.
struct Echo {
    context: Context,
    line: Connection,
}

impl Driver for Echo {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "echo",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "",
            links: &[LinkWish {
                name: "line",
                kinds: &["tcp"],
                required: true,
            }],
            can: Capabilities::empty(),
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let line = config.link("line").expect("required").open();
        Ok(Self { context, line })
    }

    async fn start(&self, _start: Start) -> Result<(), Error> {
        let stream = self.line.opened().await?;
        loop {
            let question = stream.read_array::<12>().await?;
            stream.write_all(&question).await?;
        }
    }

    async fn poll(&self, poll: Poll) -> Result<PollReport, Error> {
        let sample = |tag| Sample {
            tag,
            value: Some(Value::Uint(poll.cycle)),
            quality: Quality::Good,
            source_time_ns: None,
        };
        self.context.publish((0..256).map(sample).collect());
        Ok(PollReport::default())
    }
}

fn main() {
    let mut runtime = Runtime::<Echo>::seeded(0);
    let grant = Grant {
        id: 0,
        name: "line".to_owned(),
        kind: "tcp".to_owned(),
        listens: false,
    };
    let config = ChannelConfig {
        name: "channel".to_owned(),
        settings: String::new(),
        links: vec![grant],
        devices: Vec::new(),
        groups: Vec::new(),
        tags: Vec::new(),
    };
    runtime.configure(config).expect("no faults");
    let begin = Happening::Started(Begin {
        incarnation: 1,
        reason: StartReason::First,
        state: None,
        connections: vec![Survivor {
            id: 1,
            link: 0,
            target: None,
            secured: false,
            peer: "bench".to_owned(),
            send_window: u32::MAX,
        }],
        features: Vec::new(),
    });
    turn(&mut runtime, begin);

    let bytes = || {
        Happening::Received(Received {
            connection: 1,
            peer: None,
            bytes: vec![7; 12],
        })
    };
    report("a timer that wakes nobody", || {
        turn(&mut runtime, Happening::Timer(0))
    });
    report("a health check, answered", || {
        turn(&mut runtime, Happening::Health(1))
    });
    report("twelve bytes in, twelve out", || {
        turn(&mut runtime, bytes())
    });
    report("a poll that publishes 256 samples", || {
        let due = Due {
            group: 0,
            cycle: 1,
            scheduled_ns: 0,
            skip: Vec::new(),
        };
        turn(&mut runtime, Happening::Poll(due))
    });
}

fn turn(runtime: &mut Runtime<Echo>, what: Happening) {
    let now = Now {
        monotonic_ns: 1,
        wall_ns: 1,
    };
    let event = Event { at_ns: 1, what };
    black_box(runtime.turn(now, vec![event]).expect("the echo goes on"));
}

#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement of real time, to be read by whoever asked for it"
)]
fn report(what: &str, mut run: impl FnMut()) {
    let mut batches: Vec<u128> = (0..201)
        .map(|_| {
            let start = std::time::Instant::now();
            (0..1000).for_each(|_| run());
            start.elapsed().as_nanos() / 1000
        })
        .collect();
    batches.sort_unstable();
    println!(
        "{:>6} ns (least {})  {what}",
        batches[batches.len() / 2],
        batches[0]
    );
}
