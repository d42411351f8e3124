//! `bulkhead run`: a host, from its configuration to its last word.
//!
//! ```text
//! read ── take the port ── sinks listen ── drivers, channels ── serve ── wait ── channels stop ── sinks drain
//! ```
//!
//! The port comes first, since nothing else fails as cheaply; the sinks come before the channels, so that they miss no
//! sample.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arguments::Run;
use super::failure::Failure;
use super::output::{self, say};
use super::progress::Progress;
use super::{check, logs};
use crate::bus::{Bus, Message, Received, Subscription};
use crate::clock::Clock;
use crate::config;
use crate::engine::Compiler;
use crate::http::{App, ListenError, Listener};
use crate::sink::{Catalogue, Look, Sinks, TextStyle};
use crate::store::{Store, StoreError};
use crate::supervisor::{Host, StartError};

/// How long the whole end may take; with what the runtime needs to stop, the 10 seconds that `--help` promises.
const END: Duration = Duration::from_secs(9);
/// Of that, how long the channels have, so that something is left for the sinks.
const CHANNELS_END: Duration = Duration::from_secs(7);
/// The widest column of names on a terminal, in characters.
const MAX_WIDTH: usize = 40;

pub(super) async fn run(arguments: Run, began: Instant) -> Result<(), Failure> {
    logs::start(&arguments.log)?;
    let mut signals = Signals::new()?;
    let config = check::read(&arguments.config)?;
    let listener = listen(&config.value).await?;

    let catalogue = Arc::new(Catalogue::new(&config.value));
    let (bus, tasks, stop) = (Bus::new(), TaskTracker::new(), CancellationToken::new());
    let sinks = Sinks::start(
        &config.value.sinks,
        &bus,
        &catalogue,
        Clock::start(),
        look(&arguments, &catalogue),
    );
    tasks.spawn(first_sample(
        bus.subscribe(64),
        catalogue.clone(),
        began,
        stop.clone(),
    ));

    let progress = Progress::new();
    let report = |now| progress.report(now);
    let started = tokio::select! {
        started = Host::start_with_bus(config, Compiler::this_program(), bus, &report) => started,
        () = signals.next() => return Ok(()),
    };
    drop(progress);
    let host = started.map_err(failure)?;

    if let Some(listener) = listener {
        let url = format!("http://{}", listener.address());
        let app = App::new(host.clone(), catalogue, sinks.watch(), stop.clone());
        tasks.spawn(listener.serve(app, stop.clone()));
        say(&format!("ready: {url}"));
    }

    tokio::select! {
        () = signals.next() => tracing::info!("stopping: a signal came"),
        () = after(arguments.duration) => tracing::info!("stopping: the time is over"),
        () = sinks.output_closed() => tracing::info!("stopping: standard output was closed"),
    }
    tokio::select! {
        () = end(host, sinks, tasks, stop) => {}
        () = signals.next() => say("ended at once by a second signal"),
    }
    Ok(())
}

async fn listen(config: &config::Host) -> Result<Option<Listener>, Failure> {
    let Some(http) = &config.http else {
        return Ok(None);
    };
    match Listener::bind(http.listen).await {
        Ok(listener) => Ok(Some(listener)),
        Err(taken @ ListenError::Taken { address }) => {
            // Whoever starts the same file twice finds the port taken; the folder knows by whom.
            let data_dir = config.data_dir.clone();
            let opened =
                tokio::task::spawn_blocking(move || Store::open(&data_dir).map(drop)).await;
            Err(Failure::host(match opened {
                Ok(Err(locked @ StoreError::Locked { .. })) => {
                    format!("{address} is taken, and {locked}")
                }
                _ => taken.to_string(),
            }))
        }
        Err(error) => Err(Failure::host(error.to_string())),
    }
}

fn failure(error: StartError) -> Failure {
    match error {
        StartError::Config(faults) => Failure::Config(faults),
        StartError::Store(_) | StartError::Audit(_) | StartError::Engine(_) => {
            Failure::host(error.to_string())
        }
    }
}

fn look(arguments: &Run, catalogue: &Catalogue) -> Look {
    if arguments.json || !output::is_terminal() {
        return Look::Json;
    }
    let colours = output::colours(&std::io::stdout());
    Look::Text(TextStyle {
        colours,
        width: catalogue.widest().min(MAX_WIDTH),
    })
}

/// Says once how long the first good sample took from the start of the process.
async fn first_sample(
    mut bus: Subscription,
    catalogue: Arc<Catalogue>,
    began: Instant,
    stop: CancellationToken,
) {
    loop {
        let received = tokio::select! {
            received = bus.next() => received,
            () = stop.cancelled() => return,
        };
        let Some(received) = received else { return };
        let Received::Message(Message::Samples(batch)) = received else {
            continue;
        };
        let Some(sample) = batch.samples.iter().find(|sample| sample.quality.is_good()) else {
            continue;
        };
        let took = began.elapsed();
        let channel = &batch.instance.channel;
        let tag = catalogue
            .channel(channel)
            .and_then(|names| names.tag(sample.tag));
        let tag = tag.map(|tag| &*tag.name).unwrap_or_default();
        say(&format!(
            "first sample after {:.0} ms ({channel}/{tag})",
            took.as_secs_f64() * 1e3
        ));
        return;
    }
}

async fn after(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// The graceful end: no more questions, no more samples, then what the sinks still hold.
async fn end(host: Host, sinks: Sinks, tasks: TaskTracker, stop: CancellationToken) {
    let began = Instant::now();
    stop.cancel();
    tasks.close();
    host.stop(CHANNELS_END).await;
    let left = |most: Duration| END.saturating_sub(began.elapsed()).min(most);
    let drained = sinks.drain(left(END)).await;
    for sink in drained.overdue {
        tracing::error!(sink, "the sink did not take what it was given; it is lost");
    }
    for (sink, samples) in drained.lost {
        tracing::error!(
            sink,
            samples,
            "samples were lost, since the sink could not write them"
        );
    }
    if timeout(left(Duration::from_secs(2)), tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("clients were cut off");
    }
}

/// The signals that end a host.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let caught = |kind| {
            signal(kind)
                .map_err(|error| Failure::host(format!("signals cannot be caught: {error}")))
        };
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
