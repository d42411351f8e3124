//! Nothing but what was granted is ever dialled: each transport in a network of its own, where the kernel counts what leaves.
//!
//! Every address here has a way to it, so nothing is left out because it could not be reached.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::Result;
use bulkhead_tests::firewall::{Dial, Firewall as _};
use bulkhead_tests::netns::{Network, apart};
use bulkhead_tests::{Authority, Folder, NameServer};
use serde_json::{Value as Json, json};

use crate::stage::Stage;
use crate::{QUICK, send};

/// Runs a test that waits.
fn wait<F: Future<Output = Result<()>>>(test: F) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(test)
}

/// What has left so far, without the counts.
fn dialled(network: &Network) -> Result<BTreeSet<Dial>> {
    let dials = network.dials()?.into_keys();
    // The name server of a test answers its askers, who are on this machine.
    let answers = |dial: &Dial| dial.protocol == "udp" && dial.address == "127.0.0.1";
    Ok(dials.filter(|dial| !answers(dial)).collect())
}

fn udp(address: &str, port: u16) -> Dial {
    Dial {
        protocol: "udp".to_owned(),
        ..Dial::tcp(address, port)
    }
}

/// A stage whose driver opens nothing by itself.
async fn idle_stage(keys: &str) -> Stage {
    Stage::start(crate::stage::Plan {
        keys: &format!("links.plc = {{ {keys}, {QUICK} }}"),
        ..crate::stage::Plan::default()
    })
    .await
}

/// Opens a connection to each target, from this id on, and gives those that were not denied.
async fn open_all(stage: &mut Stage, first: u32, targets: &[&str]) -> Vec<String> {
    let mut let_through = Vec::new();
    for (id, target) in (first..).zip(targets) {
        let open = json!({ "open": { "connection": id, "link": 0, "target": target } });
        stage.must(&[open]).await;
        let told = stage
            .wait(|seen| match seen {
                crate::stage::Seen::Told { event, .. } if event["connection"] == id => {
                    Some(event.clone())
                }
                _ => None,
            })
            .await;
        if told["reason"] == "Denied" {
            assert_eq!(told["outlook"], json!("Ended"), "{target}");
        } else {
            let_through.push((*target).to_owned());
            stage.must(&[json!({ "close": id })]).await;
        }
    }
    let_through
}

/// Places that a driver might try, on the same wire as the device at 10.77.0.2.
const ELSEWHERE: [&str; 14] = [
    "10.77.0.2:503",
    "10.77.0.3:502",
    "10.77.0.22:502",
    "10.77.0.1:502",
    "127.0.0.1:502",
    "0.0.0.0:502",
    "[::ffff:10.77.0.3]:502",
    "[::1]:502",
    "localhost:502",
    "plc.example:502",
    "10.77.0.2",
    "tcp://10.77.0.2:502",
    "10.77.0.2:502@10.77.0.3:502",
    "/run/other.sock",
];

#[test]
fn by_tcp_and_tls_nothing_but_the_links_own_address_is_dialled() -> Result<()> {
    apart(|network| {
        let folder = Folder::new()?;
        let ca = Authority::new(folder.path(), "plant-ca")?.ca();
        let _machine = network.machine(0)?;
        for keys in [
            r#"connect = "tcp://10.77.0.2:502""#.to_owned(),
            format!(
                r#"connect = "tls://10.77.0.2:502", ca = "{}""#,
                ca.display()
            ),
        ] {
            network.count_dials()?;
            wait(async {
                let mut stage = idle_stage(&keys).await;
                assert_eq!(open_all(&mut stage, 0, &ELSEWHERE).await, [""; 0]);
                assert_eq!(dialled(network)?, BTreeSet::new(), "{keys}");
                let own = open_all(&mut stage, 100, &["10.77.0.2:502"]).await;
                assert_eq!(own, ["10.77.0.2:502"]);
                assert_eq!(
                    dialled(network)?,
                    BTreeSet::from([Dial::tcp("10.77.0.2", 502)]),
                    "{keys}"
                );
                Ok(())
            })?;
        }
        Ok(())
    })
}

#[test]
fn within_dial_ranges_a_driver_may_look_and_outside_it_may_not() -> Result<()> {
    apart(|network| {
        let _machine = network.machine(0)?;
        network.count_dials()?;
        wait(async {
            let mut stage = idle_stage(r#"dial = ["10.77.0.4/30:502-503", "10.77.0.2:502"]"#).await;
            // None of its own: a driver that names nothing gets nothing.
            stage
                .must(&[json!({ "open": { "connection": 0, "link": 0 } })])
                .await;
            assert_eq!(stage.event("closed").await["reason"], "Denied");
            let mut targets = ELSEWHERE.to_vec();
            targets.extend(["10.77.0.8:502", "10.77.0.4:504", "10.77.0.4:501"]);
            assert_eq!(open_all(&mut stage, 1, &targets).await, [""; 0]);
            assert_eq!(dialled(network)?, BTreeSet::new());
            let granted = [
                "10.77.0.2:502",
                "10.77.0.4:502",
                "10.77.0.7:503",
                "[::ffff:10.77.0.5]:502",
            ];
            assert_eq!(open_all(&mut stage, 100, &granted).await, granted);
            let expected = [
                ("10.77.0.2", 502),
                ("10.77.0.4", 502),
                ("10.77.0.7", 503),
                ("10.77.0.5", 502),
            ];
            assert_eq!(
                dialled(network)?,
                expected
                    .map(|(address, port)| Dial::tcp(address, port))
                    .into_iter()
                    .collect()
            );
            Ok(())
        })
    })
}

#[test]
fn by_udp_no_datagram_goes_anywhere_else() -> Result<()> {
    apart(|network| {
        let _machine = network.machine(0)?;
        let to = |peer: &str| json!({ "send": { "connection": 0, "text": "hello", "peer": peer } });
        for (keys, granted) in [
            (r#"connect = "udp://10.77.0.2:502""#, vec!["10.77.0.2:502"]),
            (
                r#"dial = ["udp://10.77.0.4/31:502"]"#,
                vec!["10.77.0.4:502", "10.77.0.5:502"],
            ),
            (r#"listen = "udp://10.77.0.1:0""#, vec![]),
        ] {
            network.count_dials()?;
            wait(async {
                let mut stage = crate::stage(keys).await;
                stage.event("opened").await;
                for peer in ELSEWHERE {
                    stage.must(&[to(peer)]).await;
                    assert_eq!(stage.event("declined").await["action"], "Send", "{peer}");
                }
                assert_eq!(dialled(network)?, BTreeSet::new(), "{keys}");
                for peer in &granted {
                    stage.must(&[to(peer)]).await;
                }
                stage.catch_up().await;
                let expected: BTreeSet<Dial> = granted
                    .iter()
                    .map(|peer| udp(peer.split(':').next().unwrap(), 502))
                    .collect();
                // The writer is a task of its own.
                while dialled(network)?.len() < expected.len() {
                    tokio::task::yield_now().await;
                }
                assert_eq!(dialled(network)?, expected, "{keys}");
                Ok(())
            })?;
        }
        Ok(())
    })
}

#[test]
fn what_listens_or_stays_on_this_machine_lets_nothing_out() -> Result<()> {
    apart(|network| {
        let _machine = network.machine(0)?;
        let folder = Folder::new()?;
        let (own, other) = (
            folder.path().join("own.sock"),
            folder.path().join("other.sock"),
        );
        let _own = std::os::unix::net::UnixListener::bind(&own)?;
        let stranger = std::os::unix::net::UnixListener::bind(&other)?;
        stranger.set_nonblocking(true)?;
        let other = other.display().to_string();
        for keys in [
            format!(r#"connect = "unix://{}""#, own.display()),
            r#"connect = "serial:///dev/null""#.to_owned(),
            r#"listen = "tcp://10.77.0.1:0""#.to_owned(),
        ] {
            network.count_dials()?;
            wait(async {
                let mut stage = crate::stage(&keys).await;
                let mut targets: Vec<&str> = ELSEWHERE.to_vec();
                targets.extend([other.as_str(), "/dev/ttyS0", "/dev/tty"]);
                assert_eq!(open_all(&mut stage, 1, &targets).await, [""; 0], "{keys}");
                assert_eq!(dialled(network)?, BTreeSet::new(), "{keys}");
                Ok(())
            })?;
        }
        let kind = stranger.accept().unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::WouldBlock, "somebody called");
        Ok(())
    })
}

#[test]
fn a_name_that_leads_elsewhere_is_checked_at_every_dial() -> Result<()> {
    apart(|network| {
        let (one, other) = (network.machine(0)?, network.machine(1)?);
        network.name_server("127.0.0.9")?;
        let names = NameServer::start("127.0.0.9:53")?;
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        names.set("plc.example", &[address(&one.far)]);
        let greeter = "TCP-LISTEN:502,reuseaddr,fork";
        let _one = one.start("socat", &[greeter, "SYSTEM:cat"])?;
        let _other = other.start("socat", &[greeter, "SYSTEM:cat"])?;
        network.count_dials()?;
        wait(async {
            let mut stage = crate::stage(r#"connect = "tcp://plc.example:502""#).await;
            let opened = stage.event("opened").await;
            assert_eq!(opened["peer"], format!("{}:502", one.far));
            let asked = udp("127.0.0.9", 53);
            let mut expected = BTreeSet::from([asked, Dial::tcp(&one.far, 502)]);
            assert_eq!(dialled(network)?, expected);

            // Pinned: while it is up, nobody asks and nobody dials.
            names.set("plc.example", &[address("127.0.0.1")]);
            stage.must(&[send(0, "still you")]).await;
            stage.event("received").await;
            assert_eq!(dialled(network)?, expected);

            // To this machine, to the link, to everybody: a name is no leave for those.
            stage.must(&[json!({ "reset": 0 })]).await;
            for astray in [
                "127.0.0.1",
                &one.near,
                &other.near,
                "169.254.7.7",
                "224.0.0.1",
                "255.255.255.255",
                "0.0.0.0",
            ] {
                names.set("plc.example", &[address(astray)]);
                let asked = names.asked();
                // The answer to the second question has been judged when the third is asked.
                while names.asked() < asked + 3 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(dialled(network)?, expected, "{astray}");
            }
            let down: Vec<Json> = stage.told("closed");
            // Where somebody had called, nobody would have listened.
            let kept = |closed: &Json| {
                closed["outlook"] == json!("Redialling") && closed["reason"] != "Refused"
            };
            assert!(down.iter().all(kept), "{down:?}");

            // A device may move.
            names.set("plc.example", &[address("127.0.0.1"), address(&other.far)]);
            let opened = stage.event("opened").await;
            assert_eq!(opened["peer"], format!("{}:502", other.far));
            expected.insert(Dial::tcp(&other.far, 502));
            assert_eq!(dialled(network)?, expected);
            Ok(())
        })
    })
}

#[test]
fn a_silent_device_of_datagrams_is_looked_for_under_its_name() -> Result<()> {
    apart(|network| {
        let (one, other) = (network.machine(0)?, network.machine(1)?);
        network.name_server("127.0.0.9")?;
        let names = NameServer::start("127.0.0.9:53")?;
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let (first, second) = (address(&one.far), address(&other.far));
        names.set("plc.example", &[first]);
        wait(async {
            let keys = r#"connect = "udp://plc.example:502", heartbeat = { interval = "1s" }"#;
            let mut stage = crate::stage(keys).await;
            let opened = stage.event("opened").await;
            assert_eq!(opened["peer"], format!("{first}:502"));
            // It may be there still, or nobody knows where it is: nothing changes.
            for addresses in [&[second, first][..], &[], &[address("127.0.0.1")]] {
                names.set("plc.example", addresses);
                let asked = names.asked();
                while names.asked() < asked + 6 {
                    tokio::task::yield_now().await;
                }
                stage.catch_up().await;
                assert_eq!(stage.told("closed"), [Json::Null; 0], "{addresses:?}");
            }
            names.set("plc.example", &[second]);
            let closed = stage.event("closed").await;
            assert_eq!(
                (&closed["reason"], &closed["outlook"]),
                (&json!("Unreachable"), &json!("Redialling"))
            );
            let opened = stage.event("opened").await;
            assert_eq!(opened["peer"], format!("{second}:502"));
            Ok(())
        })
    })
}

#[test]
fn by_tls_and_udp_too_a_name_is_checked_at_every_dial() -> Result<()> {
    apart(|network| {
        let (one, other) = (network.machine(0)?, network.machine(1)?);
        network.name_server("127.0.0.9")?;
        let names = NameServer::start("127.0.0.9:53")?;
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let folder = Folder::new()?;
        let ca = Authority::new(folder.path(), "plant-ca")?.ca();
        let dial_of = |scheme: &str, address: &str| match scheme {
            "udp" => udp(address, 502),
            _ => Dial::tcp(address, 502),
        };
        for (scheme, more) in [
            ("tls", format!(r#", ca = "{}""#, ca.display())),
            ("udp", String::new()),
        ] {
            names.set("plc.example", &[address(&one.far)]);
            network.count_dials()?;
            wait(async {
                let keys = format!(r#"connect = "{scheme}://plc.example:502"{more}"#);
                let mut stage = crate::stage(&keys).await;
                // A datagram leaves when there is something to say; a stream is dialled before.
                let speak = async |stage: &mut Stage, to: &str| -> Result<()> {
                    if scheme == "udp" {
                        // Nobody listens there, so it may have been opened anew before the name was changed.
                        let wanted = format!("{to}:502");
                        while stage.event("opened").await["peer"] != wanted {}
                        stage.must(&[send(0, "hello")]).await;
                    }
                    while !dialled(network)?.contains(&dial_of(scheme, to)) {
                        tokio::task::yield_now().await;
                    }
                    Ok(())
                };
                speak(&mut stage, &one.far).await?;
                let mut expected =
                    BTreeSet::from([udp("127.0.0.9", 53), dial_of(scheme, &one.far)]);
                names.set("plc.example", &[address("127.0.0.1"), address(&one.near)]);
                if scheme == "udp" {
                    stage.must(&[json!({ "reset": 0 })]).await;
                }
                // Of a dial that was under way already.
                let asked = names.asked();
                while names.asked() < asked + 3 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(dialled(network)?, expected, "{scheme}");
                names.set("plc.example", &[address(&other.far)]);
                speak(&mut stage, &other.far).await?;
                expected.insert(dial_of(scheme, &other.far));
                assert_eq!(dialled(network)?, expected, "{scheme}");
                Ok(())
            })?;
        }
        Ok(())
    })
}
