//! Back-pressure, both ways, on every transport that is a stream: a driver that hears nothing stops the device, and a device that
//! takes nothing stops the driver. Nothing is lost of either.
//!
//! `socat` speaks the transport, and hands all bytes to the test by TCP.

use std::io::ErrorKind;
use std::process::Command;

use bulkhead_tests::{Authority, Folder, PATIENCE, Running, free_port};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::stage;
use crate::stage::{Seen, Stage};

/// More than all buffers on the way can hold.
const MUCH: u64 = 32 << 20;

/// What the device sends. A letter: the driver's journal shows the beginning of each message, and escapes take space in it.
const LETTER: u8 = b'x';

/// Something has come to rest when it is the same after so many turns of the driver.
const TURNS: u32 = 50;

/// A stage whose link goes through `socat`, and the test's end of it.
struct Bridge {
    stage: Stage,
    device: TcpStream,
    window: u64,
    /// How often `socat` was not there yet.
    refused: usize,
    _socat: Running,
    _folder: Folder,
}

/// What `socat` listens on, or lays, and the keys of the link that leads there.
fn transport(kind: &str, folder: &Folder) -> (String, String) {
    let path = folder.path().join("end");
    match kind {
        "unix" => (
            format!("UNIX-LISTEN:{}", path.display()),
            format!(r#"connect = "unix://{}""#, path.display()),
        ),
        "serial" => (
            format!("PTY,link={},raw,echo=0,wait-slave", path.display()),
            format!(r#"connect = "serial://{}""#, path.display()),
        ),
        _ => {
            let authority = Authority::new(folder.path(), "plant-ca").unwrap();
            let own = authority.sign("server", "IP:127.0.0.1", 1).unwrap();
            let port = free_port();
            (
                format!(
                    "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,verify=0,cert={},key={}",
                    own.cert.display(),
                    own.key.display()
                ),
                format!(
                    r#"connect = "tls://127.0.0.1:{port}", ca = "{}""#,
                    authority.ca().display()
                ),
            )
        }
    }
}

impl Bridge {
    async fn build(kind: &str) -> Self {
        let folder = Folder::new().unwrap();
        let (end, keys) = transport(kind, &folder);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("TCP:{}", listener.local_addr().unwrap());
        let socat = Running::start(Command::new("socat").args([&end, &to])).unwrap();
        let mut stage = stage(&keys).await;
        let window = stage.event("opened").await["window"].as_u64().unwrap();
        let refused = stage.told("closed").len();
        let (device, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        Self {
            stage,
            device,
            window,
            refused,
            _socat: socat,
            _folder: folder,
        }
    }
}

/// The bytes of all events of one kind that the driver was told of. Each event is looked at once: there are thousands.
struct Total {
    kind: &'static str,
    looked_at: usize,
    bytes: u64,
}

impl Total {
    fn of(kind: &'static str) -> Self {
        Self {
            kind,
            looked_at: 0,
            bytes: 0,
        }
    }

    fn now(&mut self, stage: &Stage) -> u64 {
        for seen in &stage.seen[self.looked_at..] {
            match seen {
                Seen::Told { event, .. } if event["kind"] == self.kind => {
                    self.bytes += event["bytes"].as_u64().unwrap();
                }
                _ => {}
            }
        }
        self.looked_at = stage.seen.len();
        self.bytes
    }
}

/// Waits until the total is the same for a while, as the driver's turns count it.
async fn at_rest(stage: &mut Stage, total: &mut Total) -> u64 {
    let (mut last, mut turns) = (total.now(stage), 0);
    while turns < TURNS {
        stage.catch_up().await;
        let now = total.now(stage);
        turns = if now == last { turns + 1 } else { 0 };
        last = now;
    }
    last
}

/// Writes until the device is not rid of a byte more for a while, as the driver's turns count it. Returns how much it was.
async fn write_until_stopped(stage: &mut Stage, device: &TcpStream) -> u64 {
    let (mut written, mut turns) = (0, 0);
    while turns < TURNS && written < MUCH {
        match device.try_write(&[LETTER; 1 << 16]) {
            Ok(piece) => {
                written += piece as u64;
                turns = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                stage.catch_up().await;
                turns += 1;
            }
        }
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_hears_nothing_stops_the_device() {
    for kind in ["unix", "serial", "tls"] {
        let Bridge {
            mut stage,
            mut device,
            refused,
            _socat,
            _folder,
            ..
        } = Bridge::build(kind).await;
        let mut received = Total::of("received");
        let pause = |on: bool| json!({ "pause": { "connection": 0, "on": on } });
        stage.must(&[pause(true)]).await;
        stage.catch_up().await;
        device.writable().await.unwrap();
        let stopped = write_until_stopped(&mut stage, &device).await;
        assert!((1..MUCH).contains(&stopped), "{kind}: {stopped} of {MUCH}");
        assert_eq!(received.now(&stage), 0, "{kind}");
        stage.must(&[pause(false)]).await;
        let more = JoinSet::from_iter([async move {
            let rest = vec![LETTER; usize::try_from(MUCH - stopped).unwrap()];
            device.write_all(&rest).await.unwrap();
            device
        }]);
        while received.now(&stage) < MUCH {
            stage.event("received").await;
        }
        assert_eq!(received.now(&stage), MUCH, "{kind}");
        let _device = more.join_all().await;
        assert_eq!(stage.told("closed")[refused..], [] as [Json; 0], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_takes_nothing_stops_the_driver() {
    for kind in ["unix", "serial", "tls"] {
        let Bridge {
            mut stage,
            mut device,
            window,
            refused,
            _socat,
            _folder,
        } = Bridge::build(kind).await;
        let mut credited = Total::of("sent");
        let mut sent = 0;
        loop {
            let before = credited.now(&stage);
            let left = window + before - sent;
            if left > 0 {
                let send = json!({ "send": { "connection": 0, "count": left } });
                stage.must(&[send]).await;
                sent += left;
                assert!(sent < MUCH, "{kind}: nothing stops it");
            }
            if at_rest(&mut stage, &mut credited).await == before {
                break;
            }
        }
        // All that is on the way arrives, and is credited by the half window.
        let mut came = 0;
        let mut space = vec![0; 1 << 16];
        while came < sent {
            let read = timeout(PATIENCE, device.read(&mut space))
                .await
                .unwrap()
                .unwrap();
            assert!(read > 0, "{kind}: {came} of {sent}");
            came += read as u64;
        }
        assert_eq!(came, sent, "{kind}");
        while sent - credited.now(&stage) > window / 2 {
            stage.event("sent").await;
        }
        assert_eq!(stage.told("closed")[refused..], [] as [Json; 0], "{kind}");
    }
}
