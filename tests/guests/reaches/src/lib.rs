//! Tries everything that a driver may not do, and says what came of it.
//!
//! Each tag is a text; its address names the attempt: `env`, `args`, `read`, `write`, `list`, `tcp`, `listen`, `udp`,
//! `resolve`, `random`, `wall`, `monotonic`. What came of it is the value: `refused: ...`, or what was seen.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bulkhead_sdk::{
    Capabilities, Config, Context, Driver, Error, Faults, Info, NoSettings, Poll, PollReport,
    Quality, Sample, TagId, Value,
};

/// The driver.
pub struct Reaches {
    attempts: BTreeMap<TagId, String>,
    context: Context,
}

impl Driver for Reaches {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "reaches",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "the name of an attempt",
            links: &[],
            can: Capabilities::empty(),
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let attempts = config
            .tags
            .into_iter()
            .map(|tag| (tag.id, tag.address))
            .collect();
        Ok(Self { attempts, context })
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        let samples = self.attempts.iter().map(|(tag, what)| {
            let seen = attempt(what).unwrap_or_else(|error| format!("refused: {error}"));
            self.context.info(format!("{what}: {seen}"));
            Sample {
                tag: *tag,
                value: Some(Value::Text(seen)),
                quality: Quality::Good,
                source_time_ns: None,
            }
        });
        self.context.publish(samples.collect());
        Ok(PollReport::default())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the guest looks at the clock that WASI gives it"
)]
fn attempt(what: &str) -> std::io::Result<String> {
    Ok(match what {
        "env" => format!("{:?}", std::env::vars().collect::<Vec<_>>()),
        "args" => format!("{:?}", std::env::args().collect::<Vec<_>>()),
        "read" => std::fs::read_to_string("/etc/hostname")?,
        "write" => std::fs::write("/tmp/reached", "x").map(|()| "written".to_owned())?,
        "list" => format!("{} entries", std::fs::read_dir("/")?.count()),
        "tcp" => format!("{:?}", TcpStream::connect("127.0.0.1:9")?),
        "listen" => format!("{:?}", TcpListener::bind("127.0.0.1:0")?),
        "udp" => format!("{:?}", UdpSocket::bind("127.0.0.1:0")?),
        "resolve" => format!(
            "{:?}",
            "localhost:80".to_socket_addrs()?.collect::<Vec<_>>()
        ),
        "random" => RandomState::new().build_hasher().finish().to_string(),
        "wall" => nanos(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        ),
        "monotonic" => {
            let first = Instant::now();
            let mut sum = 0_u64;
            for number in 0..100_000_u64 {
                sum = std::hint::black_box(sum.wrapping_add(number));
            }
            nanos(first.elapsed())
        }
        other => format!("no such attempt: {other}"),
    })
}

fn nanos(duration: std::time::Duration) -> String {
    duration.as_nanos().to_string()
}

bulkhead_sdk::export!(Reaches);
