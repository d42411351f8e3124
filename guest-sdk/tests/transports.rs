//! Datagrams, and TLS that begins on a plain stream, against the fake host.

use bulkhead_sdk::testing::{FakeHost, Setup};
use bulkhead_sdk::*;

/// Answers each datagram that asks, to whom it came from; `out` goes to the link's own address.
struct Beacon {
    context: Context,
    line: Connection,
}

impl Driver for Beacon {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "beacon",
            version: "0.1.0",
            protocol: "none",
            address_help: "",
            links: &[],
            can: Capabilities::empty(),
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let line = config.link("line").expect("granted by the test").open();
        Ok(Self { context, line })
    }

    async fn start(&self, _start: Start) -> Result<(), Error> {
        loop {
            let stream = self.line.opened().await?;
            while let Ok(Datagram { peer, bytes }) = stream.receive().await {
                let to = (bytes != b"out").then_some(peer.as_str());
                let answer = [b"heard ", bytes.as_slice()].concat();
                if let Err(error) = stream.send(to, &answer).await {
                    self.context.log(Level::Warn, error.to_string());
                }
            }
        }
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        Ok(PollReport::default())
    }
}

fn beacon(setup: Setup) -> FakeHost<Beacon> {
    FakeHost::start(setup.link("line", "udp").tag("tag", "", "uint8")).expect("no faults")
}

#[test]
fn datagrams_stay_whole_and_are_answered_to_their_senders() {
    let mut host = beacon(Setup::new());
    host.receive_from("line", "10.0.0.1:7", b"one");
    host.receive_from("line", "10.0.0.2:7", b"");
    host.receive_from("line", "10.0.0.3:7", b"out");
    let sent = host.take_datagrams("line");
    let to = |peer: &str| Some(peer.to_owned());
    assert_eq!(
        sent,
        [
            (to("10.0.0.1:7"), b"heard one".to_vec()),
            (to("10.0.0.2:7"), b"heard ".to_vec()),
            (None, b"heard out".to_vec()),
        ]
    );
    host.stop();
}

#[test]
fn a_datagram_waits_for_room_and_is_never_split() {
    let mut host = beacon(Setup::new().send_window(100));
    for _ in 0..10 {
        host.receive_from("line", "10.0.0.1:7", &[b'x'; 60]);
    }
    let sent = host.take_datagrams("line");
    assert_eq!(sent.len(), 10);
    assert!(sent.iter().all(|(_, bytes)| bytes.len() == 66));
}

#[test]
fn a_driver_that_takes_no_datagrams_pauses_the_link() {
    // No byte of an answer ever leaves, so the driver waits with the second one in hand.
    let mut host = beacon(Setup::new().send_window(10).hold_credit());
    for _ in 0..1_024 {
        assert!(!host.is_paused("line"));
        host.receive_from("line", "10.0.0.1:7", b"xx");
    }
    for _ in 0..3 {
        host.receive_from("line", "10.0.0.1:7", b"xx");
    }
    assert!(host.is_paused("line"));
}

/// Asks for TLS as soon as the link is up, then says who it is.
struct Shy {
    line: Connection,
}

impl Driver for Shy {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "shy",
            ..Beacon::info()
        }
    }

    fn configure(config: Config<Self>, _context: Context) -> Result<Self, Faults> {
        let line = config.link("line").expect("granted by the test").open();
        Ok(Self { line })
    }

    async fn start(&self, _start: Start) -> Result<(), Error> {
        let plain = self.line.opened().await?;
        plain.write_all(b"STARTTLS\n").await?;
        plain.read_until(b'\n', 80).await?;
        let covered = self.line.start_tls().await;
        if !plain.is_secured() {
            assert!(
                plain.read_some(10).await.is_err(),
                "nothing more of it is heard"
            );
            assert!(plain.write_all(b"password").await.is_err());
        }
        let covered = match covered {
            Err(StartTlsError::Declined { why }) => {
                let plain = self.line.stream()?;
                assert!(!plain.is_secured());
                plain.write_all(format!("{why}\n").as_bytes()).await?;
                return Ok(());
            }
            covered => covered?,
        };
        assert!(covered.is_secured());
        covered.write_all(b"password\n").await?;
        Ok(())
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        Ok(PollReport::default())
    }
}

#[test]
fn tls_begins_on_a_plain_stream_which_ends_with_it() {
    let setup = Setup::new().link("line", "tcp").tag("tag", "", "uint8");
    let mut host = FakeHost::<Shy>::start(setup).expect("no faults");
    assert_eq!(host.take_sent("line"), b"STARTTLS\n");
    host.receive("line", b"ready\nslipped in");
    assert_eq!(host.take_sent("line"), b"password\n");
    let asked = |action: &&abi::Action| matches!(action, abi::Action::StartTls(_));
    assert_eq!(host.history().iter().filter(asked).count(), 1);
    host.stop();
}

#[test]
fn a_stream_on_which_tls_does_not_begin_goes_on_in_plain() {
    let setup = Setup::new().link("line", "tcp").without_start_tls();
    let mut host = FakeHost::<Shy>::start(setup.tag("tag", "", "uint8")).expect("no faults");
    assert_eq!(host.take_sent("line"), b"STARTTLS\n");
    host.receive("line", b"ready\nslipped in");
    assert_eq!(host.take_sent("line"), b"the operator does not allow it\n");
    host.stop();
}

#[test]
fn where_tls_is_on_it_is_not_begun_again() {
    let setup = Setup::new().link("line", "tcp").kept("line", None, true);
    let mut host = FakeHost::<Shy>::start(setup.tag("tag", "", "uint8")).expect("no faults");
    assert_eq!(host.take_sent("line"), b"STARTTLS\n");
    host.receive("line", b"ready\n");
    assert_eq!(host.take_sent("line"), b"password\n");
    let of_link =
        |action: &&abi::Action| matches!(action, abi::Action::StartTls(_) | abi::Action::Open(_));
    assert_eq!(host.history().iter().filter(of_link).count(), 0);
    host.stop();
}
