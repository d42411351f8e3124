//! A reload while a channel's task itself is held up, as by a host that hangs: whoever reloads is told, and it is made good.

use bulkhead::lifecycle::State;
use bulkhead::supervisor::ReloadError;

use crate::stage::{Plan, Stage};

/// Another configuration of the stage.
const OTHER: Plan<'_> = Plan {
    rules: "",
    keys: "",
    restart: r#"max_attempts = 999, delay = "0s", jitter = 0"#,
    tables: "",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_channel_that_is_late_is_named_and_goes_over_when_it_can() {
    let stage = Stage::start(Plan::default()).await;
    let before = stage.channel();
    let watch = before.watch();
    let late = {
        // Nobody can say that it stops while somebody looks.
        let _held = watch.borrow();
        stage.reload(&OTHER.toml()).await
    };
    let late = late.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((late.applied, late.late), (true, vec!["stage".to_owned()]));
    stage
        .status(|status| status.state == State::Running && status.incarnation == 2)
        .await;
    assert_eq!(stage.channel().config().restart.max_attempts, 999);
    let again = stage.reload(&OTHER.toml()).await;
    assert!(again.is_ok_and(|again| again.difference.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_channel_that_has_not_left_yet_does_not_come_back() {
    let stage = Stage::start(Plan::default()).await;
    let before = stage.channel();
    let watch = before.watch();
    {
        let _held = watch.borrow();
        let another = OTHER.toml().replace("id = \"stage\"", "id = \"other\"");
        let removed = stage.reload(&another).await;
        let removed = removed.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(removed.late, ["stage"]);
        assert!(stage.host().channel("stage").is_none());
        let back = stage.reload(&OTHER.toml()).await;
        assert!(
            matches!(&back, Err(ReloadError::StillLeaving(name)) if name == "stage"),
            "{back:?}"
        );
    }
    // Its task ends by itself now.
    let mut gone = before.watch();
    let stopped = gone.wait_for(|status| status.state == State::Stopped);
    stopped.await.unwrap();
    let back = loop {
        match stage.reload(&OTHER.toml()).await {
            Err(ReloadError::StillLeaving(_)) => tokio::task::yield_now().await,
            other => break other,
        }
    };
    let back = back.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (back.difference.added, back.late),
        (vec!["stage".to_owned()], vec![])
    );
    stage.state(State::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_reloads_at_once_one_is_told_to_wait() {
    let stage = Stage::start(Plan::default()).await;
    let toml = OTHER.toml();
    let (one, other) = tokio::join!(stage.reload(&toml), stage.reload(&toml));
    assert!(one.is_ok_and(|done| done.applied));
    assert!(matches!(other, Err(ReloadError::Busy)), "{other:?}");
}
