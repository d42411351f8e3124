//! A turn that runs on yields in each tick, so that few threads serve many channels.
#![expect(
    clippy::unwrap_used,
    reason = "in what only tests call, a panic is the failure of the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bulkhead::driver::{Budget, InstanceSpec};
use bulkhead::exit::ExitKind;
use bulkhead_tests::guests::{Life, driver, poll, spec, started, ten_tags};

/// Eight times as many as there are threads: without yielding, they would hold all threads for four deadlines.
const SPINNERS: usize = 16;
const THREADS: usize = 2;
const DEADLINE: Duration = Duration::from_secs(1);
/// Turns that the counting channel takes at least while the first of them spin. It has a share of one in nine of each tick of 5
/// ms; even a quarter of that is twice as much.
const LEAST: u64 = 3;

#[test]
fn a_counting_channel_goes_on_beside_many_that_spin() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(race());
}

async fn race() {
    let (spins, counts) = (driver("spins"), driver("publishes"));
    let taken = Arc::new(AtomicU64::new(0));
    let begun = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    let spec = || InstanceSpec {
        turn: Budget {
            fuel: 1 << 60,
            deadline: DEADLINE,
        },
        ..spec()
    };
    let mut lives = Vec::new();
    for _ in 0..SPINNERS {
        let config = ten_tags(r#"{"when":"poll"}"#);
        let life = Life::begin(&spins, spec(), &config).await.unwrap();
        lives.push(life.turn([started()]).await.unwrap().0);
    }
    for life in lives {
        let (taken, begun) = (taken.clone(), begun.clone());
        tasks.spawn(async move {
            let before = taken.load(Relaxed);
            begun.fetch_add(1, Relaxed);
            let exit = life.turn([poll(1)]).await.err().unwrap();
            assert_eq!(exit.kind, ExitKind::DeadlineExceeded, "{exit}");
            taken.load(Relaxed) - before
        });
    }
    let life = Life::begin(&counts, spec(), &ten_tags("{}")).await.unwrap();
    let (mut life, _) = life.turn([started()]).await.unwrap();
    let counting = taken.clone();
    let mut counter = tokio::task::JoinSet::new();
    counter.spawn(async move {
        for cycle in 1.. {
            life = life.turn([poll(cycle)]).await.unwrap().0;
            counting.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..SPINNERS {
        let beside = tasks.join_next().await.unwrap().unwrap();
        assert!(beside >= LEAST, "{beside} turns beside a spinner");
        let begun = begun.load(Relaxed);
        assert_eq!(begun, SPINNERS as u64, "all had begun before one was ended");
    }
    counter.shutdown().await;
}
