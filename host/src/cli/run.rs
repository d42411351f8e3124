//! `bulkhead run`: a host, from its configuration to its last word.
//!
//! ```text
//! read ── take the port ── lock the folder ── sinks listen ── drivers, channels ── serve ── wait ── channels stop ── sinks drain
//! ```
//!
//! The port comes first, since nothing else fails as cheaply; the sinks come before the channels, so that they miss no
//! sample.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
use crate::http::{Api, ListenError, Listener};
use crate::remote;
use crate::sink::{Look, Sinks, TextStyle};
use crate::store::{Store, StoreError};
use crate::supervisor::{Host, ReloadError, Reloader, StartError};

/// How long the whole end may take; with what the runtime needs to stop, the 10 seconds that `--help` promises.
const END: Duration = Duration::from_secs(9);
/// Of that, how long the channels have, so that something is left for the sinks.
const CHANNELS_END: Duration = Duration::from_secs(7);
/// How often a configuration is looked at that is watched.
const LOOK: Duration = Duration::from_secs(1);
/// The widest column of names on a terminal, in characters.
const MAX_WIDTH: usize = 40;

pub(super) async fn run(arguments: Run, began: Instant) -> Result<(), Failure> {
    logs::start(&arguments.log)?;
    let mut signals = Signals::new()?;
    // Before it is read: what changes from then on is another.
    let known = match arguments.watch {
        true => stamps(&arguments.config, None).await,
        false => None,
    };
    let config = check::read(&arguments.config)?;
    let listener = listen(&config.value).await?;

    let store = Host::open_store(&config.value).await.map_err(failure)?;
    let (bus, tasks, stop) = (Bus::new(), TaskTracker::new(), CancellationToken::new());
    let mut sinks = Sinks::start(
        &config.value.sinks,
        &bus,
        Clock::start(),
        look(&arguments, &config.value),
        &config.value.data_dir,
    );
    tasks.spawn(first_sample(bus.subscribe(64), began, stop.clone()));

    let progress = Progress::new();
    let report = |now| progress.report(now);
    let started = tokio::select! {
        started = Host::start_with(config, Compiler::this_program(), (store, bus), &report) => started,
        () = signals.end.next() => return Ok(()),
    };
    drop(progress);
    let host = started.map_err(failure)?;

    if let Some(requests) = sinks.take_requests() {
        let writing = remote::write(host.clone(), requests, tasks.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(writing));
    }
    let path = arguments.config.clone();
    let reloader = Reloader::new(host.clone(), move || {
        check::read(&path).map_err(|failure| match failure {
            Failure::Config(faults) => ReloadError::Config(faults),
            other => ReloadError::Unreadable(other.to_string()),
        })
    });
    if let Some(listener) = listener {
        let url = format!("http://{}", listener.address());
        let api = Api::new(host.clone(), reloader.clone(), sinks.watch(), stop.clone());
        tasks.spawn(listener.serve(api, stop.clone()));
        say(&format!("ready: {url}"));
    }

    let on_hangup = reload_on_hangup(reloader.clone(), signals.hangup);
    tasks.spawn(stop.clone().run_until_cancelled_owned(on_hangup));
    if arguments.watch {
        let watching = reload_on_change(reloader, arguments.config.clone(), known);
        tasks.spawn(stop.clone().run_until_cancelled_owned(watching));
    }
    let mut signals = signals.end;

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

fn look(arguments: &Run, config: &config::Host) -> Look {
    if arguments.json || !output::is_terminal() {
        return Look::Json;
    }
    let colours = output::colours(&std::io::stdout());
    Look::Text(TextStyle {
        colours,
        width: widest(config).min(MAX_WIDTH),
    })
}

/// The longest `channel/tag`, in characters: how wide a column of them must be.
fn widest(config: &config::Host) -> usize {
    let widths = config.channels.iter().flat_map(|channel| {
        let before = channel.id.as_str().len() + 1;
        let tags = channel.tags.iter();
        tags.map(move |tag| before + tag.name.chars().count())
    });
    widths.max().unwrap_or(0)
}

/// Says once how long the first good sample took from the start of the process.
async fn first_sample(mut bus: Subscription, began: Instant, stop: CancellationToken) {
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
        let tag = batch.layout.tag(sample.tag);
        let tag = tag.map(|tag| tag.name).unwrap_or_default();
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

/// Reloads at each SIGHUP.
async fn reload_on_hangup(reloader: Reloader, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        while reload(&reloader, "SIGHUP").await == Done::Later {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Reloads whenever one of the files is another. Looks at them now and then: editors replace files in ways of their own.
async fn reload_on_change(reloader: Reloader, path: PathBuf, mut known: Option<Stamps>) {
    let mut before = known.clone();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = stamps(&path, before.as_ref()).await;
        // A file that is away for a moment is being replaced, and one that changes from look to look is being written.
        let has_settled = now.is_some() && now == before;
        before.clone_from(&now);
        if has_settled
            && now != known
            && reload(&reloader, "the file has changed").await == Done::Now
        {
            known = now;
        }
    }
}

/// What changes with a file's content: when it was written, its length, which file it is.
type Stamp = (SystemTime, u64, u64);

/// The files of a configuration, with their stamps.
type Stamps = Vec<(PathBuf, Stamp)>;

/// The stamps of the files that have these names now; `None` if one is not there. Which files there are is looked for anew only where
/// one of those known is another.
async fn stamps(path: &Path, known: Option<&Stamps>) -> Option<Stamps> {
    let (path, known) = (path.to_owned(), known.cloned());
    let look = move || {
        let stamp = |path: PathBuf| {
            let metadata = path.metadata().ok()?;
            let stamp = (metadata.modified().ok()?, metadata.len(), metadata.ino());
            Some((path, stamp))
        };
        let all = |paths: Vec<PathBuf>| paths.into_iter().map(stamp).collect::<Option<Stamps>>();
        if let Some(known) = known {
            let paths = known.iter().map(|(path, _)| path.clone()).collect();
            let now = all(paths)?;
            if now == known {
                return Some(now);
            }
        }
        all(check::files(&path))
    };
    tokio::task::spawn_blocking(look).await.ok().flatten()
}

/// Whether a reload was tried.
#[derive(PartialEq, Eq)]
enum Done {
    Now,
    /// Another one is under way.
    Later,
}

async fn reload(reloader: &Reloader, why: &str) -> Done {
    match reloader.reload(false).await {
        Err(ReloadError::Busy) => return Done::Later,
        Ok(reloaded) if reloaded.difference.is_empty() => {
            tracing::info!(why, "reload: nothing is another");
        }
        // What was done is in the log already.
        Ok(_) => {}
        Err(error) => {
            tracing::error!(
                why,
                "the configuration was not reloaded, and nothing was changed: {error}"
            );
        }
    }
    Done::Now
}

/// The signals that a host heeds.
struct Signals {
    end: EndSignals,
    /// It reloads.
    hangup: Signal,
}

/// Those that end it.
struct EndSignals {
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
            end: EndSignals {
                interrupt: caught(SignalKind::interrupt())?,
                terminate: caught(SignalKind::terminate())?,
            },
            hangup: caught(SignalKind::hangup())?,
        })
    }
}

impl EndSignals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
