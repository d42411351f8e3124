//! What tasks tell is in the report and in the history, over restarts of the host.

use super::super::mail::CloseReason;
use super::super::tests::{link_to, options};
use super::*;

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn open(folder: &Folder, link: Link) -> (Keeper, Arc<Journal>) {
    let store = Store::open(&folder.0).unwrap();
    let channel = ChannelId::new("press-3").unwrap();
    let clock = Clock::start();
    let keeper = Keeper {
        chronicle: Chronicle::open(channel.clone(), store.clone(), clock),
        store,
        bus: Bus::new(),
    };
    let journal = Journal::open(channel, Arc::new(link), clock, Some(keeper.clone()));
    (keeper, journal)
}

fn folder(name: &str) -> Folder {
    let name = format!("bulkhead-journal-{name}-{}", std::process::id());
    Folder(std::env::temp_dir().join(name))
}

fn reconnecting(attempt: u32, reason: CloseReason) -> LinkState {
    LinkState::Reconnecting {
        attempt,
        until: MonotonicNs(0),
        reason,
    }
}

fn words(history: &LinkHistory) -> Vec<String> {
    let word = |past: &LinkPast| {
        let connection = past.connection.map_or(String::new(), |id| format!("/{id}"));
        format!(
            "#{}{connection} {}: {}",
            past.incarnation,
            past.kind.as_str(),
            past.cause
        )
    };
    history.events.iter().map(word).collect()
}

/// A connection over the journal's link.
fn line(journal: &Arc<Journal>, id: u32, desk: &Arc<Desk>) -> Line {
    let options = OpenOptions {
        journal: journal.clone(),
        id: ConnectionId(id),
        ..options(link_to("10.0.0.9", 502))
    };
    Line::new(&options, desk, &CancellationToken::new())
}

#[tokio::test]
async fn what_happened_is_there_after_a_restart_and_a_changed_configuration_is_told() {
    let folder = folder("restart");
    let (keeper, journal) = open(&folder, link_to("10.0.0.9", 502));
    let desk = Arc::new(Desk::new(7, 100));
    let line = line(&journal, 3, &desk);
    assert_eq!(journal.report().state, State::Connecting);
    let connected = || LinkState::Connected {
        peer: "10.0.0.9:502".to_owned(),
        since: MonotonicNs(0),
    };
    journal.changed(&desk, connected(), "with 10.0.0.9:502");
    journal.changed(
        &desk,
        reconnecting(1, CloseReason::Reset),
        "the connection broke",
    );
    journal.changed(&desk, reconnecting(2, CloseReason::Refused), "refused");
    journal.changed(&desk, reconnecting(3, CloseReason::Refused), "refused");
    journal.changed(&desk, connected(), "with 10.0.0.9:502");
    journal.changed(
        &desk,
        LinkState::Failed {
            reason: CloseReason::ByPeer,
        },
        "closed by the peer",
    );
    assert_eq!(journal.report().state, State::Failed);
    journal.changed(
        &desk,
        reconnecting(0, CloseReason::ByPeer),
        "asked for by the operator",
    );
    journal.changed(&desk, connected(), "with 10.0.0.9:502");
    journal.received(70, MonotonicNs(5));
    journal.sent(30);
    drop(line);
    assert_eq!(journal.report().state, State::Disconnected);
    keeper.store.flush().await.unwrap();
    let told = [
        "#7/3 connected: with 10.0.0.9:502",
        "#7/3 disconnected: the connection broke",
        "#7/3 reconnecting: redial 1 in 0s",
        "#7/3 error: refused",
        "#7/3 reconnected: with 10.0.0.9:502",
        "#7/3 disconnected: closed by the peer",
        "#7/3 error: closed by the peer: the attempts are spent, ask for another with `bulkhead link reconnect`",
        "#7/3 reconnecting: asked for by the operator",
        "#7/3 reconnected: with 10.0.0.9:502",
        "#7/3 disconnected: dropped with the life of the driver that had opened it",
    ];
    assert_eq!(words(&journal.history().unwrap()), told);
    let warned = keeper.chronicle.history().unwrap();
    assert_eq!(
        warned.events.len(),
        1,
        "operators are told of the failure: {warned:?}"
    );
    let before = journal.report().statistics;
    assert_eq!(
        (before.streams, before.bytes_in, before.bytes_out),
        (3, 70, 30)
    );
    drop((keeper, journal));

    let (keeper, journal) = open(&folder, link_to("10.0.0.9", 503));
    assert_eq!(journal.report().statistics, before);
    keeper.store.flush().await.unwrap();
    let after = words(&journal.history().unwrap());
    assert_eq!(after[..told.len()], told);
    assert_eq!(
        after[told.len()..],
        ["#0 configuration-changed: connect was tcp://10.0.0.9:502, is tcp://10.0.0.9:503"]
    );
    drop((keeper, journal));
    let (keeper, journal) = open(&folder, link_to("10.0.0.9", 503));
    keeper.store.flush().await.unwrap();
    assert_eq!(words(&journal.history().unwrap()), after, "told once");
}

#[tokio::test]
async fn a_link_that_flaps_does_not_flood_the_disk() {
    let folder = folder("flaps");
    let (keeper, journal) = open(&folder, link_to("10.0.0.9", 502));
    let desk = Arc::new(Desk::new(1, 100));
    let _line = line(&journal, 0, &desk);
    for _ in 0..1_000 {
        let connected = LinkState::Connected {
            peer: "p".to_owned(),
            since: MonotonicNs(0),
        };
        journal.changed(&desk, connected, "with p");
        journal.changed(
            &desk,
            reconnecting(1, CloseReason::ByPeer),
            "closed by the peer",
        );
    }
    keeper.store.flush().await.unwrap();
    let history = journal.history().unwrap();
    let kept = history.events.len() as u64 + history.dropped;
    assert!(kept <= 62, "{kept} were kept");
    assert_eq!(journal.report().left_out + kept, 3_000);
    assert_eq!(journal.report().statistics.streams, 1_000);
}
