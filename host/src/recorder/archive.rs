//! The folder of crash bundles: `data_dir/crashes/CHANNEL-INCARNATION.crash`, mode 0600, bounded. What ended in order and is kept all
//! the same ends in `.session`; both are the same in all else.
//!
//! Bundles are made and written on a thread of their own, so that no channel waits for a disk. What waits for it is
//! bounded too; a crash that finds no room there gets no bundle, and the log says so. Each file is written beside its place
//! and moved there whole. Where a channel or the host has too many, the oldest go.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use super::bundle::Bundle;
use super::header::{ConfigRecord, DriverRecord, ExitRecord, Header, LimitsRecord, Written};
use super::recording::Recording;
use super::secrets::Secrets;
use crate::bindings::config::ChannelConfig;
use crate::event::WallNs;
use crate::exit::Exit;
use crate::ids::InstanceId;
use crate::restart::ExitClass;

/// Bundles of one channel.
const MAX_PER_CHANNEL: usize = crate::limits::BUNDLES_OF_CHANNEL;
/// Bundles of a host.
const MAX_BUNDLES: usize = crate::limits::BUNDLES;
/// Their bytes, together.
const MAX_BYTES: u64 = crate::limits::BUNDLES_BYTES;
/// Crashes that may wait to be written.
const MAX_WAITING: usize = crate::limits::CRASHES;
/// The bytes of their recordings, together.
const MAX_WAITING_BYTES: usize = crate::limits::CRASHES_BYTES;

/// How the name of a file ends: of a crash, and of what ended in order.
const EXTENSIONS: [&str; 2] = ["crash", "session"];

/// The end of an incarnation, as the channel's task hands it over.
pub struct CrashReport {
    /// Whose.
    pub instance: InstanceId,
    /// When.
    pub at: WallNs,
    /// How.
    pub exit: Exit,
    /// What it was given.
    pub recording: Recording,
    /// Gives its configuration, when the bundle is written: one that waits holds no tags.
    pub config: Box<dyn FnOnce() -> ChannelConfig + Send>,
    /// What of that must not leave the host.
    pub secrets: Secrets,
    /// Its driver.
    pub driver: DriverRecord,
    /// What that could use.
    pub limits: LimitsRecord,
}

/// A crash that waits, and what it counts for.
struct Waiting {
    report: CrashReport,
    bytes: usize,
}

/// The folder, and the thread that writes to it. Dropping it waits for what is still to be written.
pub struct Archive {
    folder: PathBuf,
    waiting: Arc<AtomicUsize>,
    reports: Option<SyncSender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

impl Archive {
    /// The folder in this `data_dir`. It is made with the first crash.
    pub fn open(data_dir: &Path) -> std::io::Result<Self> {
        let folder = data_dir.join("crashes");
        let (reports, receiver) = sync_channel(MAX_WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            folder: folder.clone(),
            waiting: waiting.clone(),
            kept: None,
        };
        let thread = std::thread::Builder::new()
            .name("crash-writer".into())
            .spawn(move || writer.run(&receiver))?;
        Ok(Self {
            folder,
            waiting,
            reports: Some(reports),
            thread: Some(thread),
        })
    }

    /// Has a crash written. Gives the file that it will be in, or why there will be none.
    pub fn report(&self, report: CrashReport) -> Result<PathBuf, &'static str> {
        let path = self.folder.join(report.file_name());
        let bytes = report.recording.bytes();
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) > MAX_WAITING_BYTES {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return Err("too many other crashes are still being written");
        }
        let Some(reports) = &self.reports else {
            return Err("the host stops");
        };
        match reports.try_send(Waiting { report, bytes }) {
            Ok(()) => Ok(path),
            Err(TrySendError::Full(_)) => {
                self.waiting.fetch_sub(bytes, Ordering::Relaxed);
                Err("too many other crashes are still being written")
            }
            Err(TrySendError::Disconnected(_)) => Err("the thread that writes them has ended"),
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        drop(self.reports.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes crash bundles failed");
        }
    }
}

impl CrashReport {
    fn file_name(&self) -> String {
        let [crash, session] = EXTENSIONS;
        let extension = match self.exit.kind.class() {
            Some(ExitClass::Faulted | ExitClass::Unmendable) => crash,
            None | Some(ExitClass::Finished) => session,
        };
        let InstanceId {
            channel,
            incarnation,
        } = &self.instance;
        format!("{channel}-{incarnation}.{extension}")
    }
}

/// The channel and the incarnation of a file's name. A number has no `-`, so the last one parts them.
fn parse_name(name: &str) -> Option<(&str, u64)> {
    let (stem, extension) = name.rsplit_once('.')?;
    let (channel, incarnation) = stem.rsplit_once('-')?;
    let known = EXTENSIONS.contains(&extension);
    Some((channel, incarnation.parse().ok().filter(|_| known)?))
}

/// One bundle in the folder.
struct Kept {
    name: String,
    incarnation: u64,
    bytes: u64,
    at: SystemTime,
}

struct Writer {
    folder: PathBuf,
    waiting: Arc<AtomicUsize>,
    /// By channel, oldest first; read when it is first needed.
    kept: Option<HashMap<String, Vec<Kept>>>,
}

impl Writer {
    fn run(mut self, reports: &Receiver<Waiting>) {
        while let Ok(Waiting { report, bytes }) = reports.recv() {
            let instance = report.instance.clone();
            match self.write(report) {
                Ok(path) => {
                    tracing::info!(%instance, path = %path.display(), "recording written")
                }
                Err(reason) => tracing::error!(
                    %instance,
                    reason,
                    "the recording could not be written; see to it that data_dir can be written to"
                ),
            }
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn write(&mut self, report: CrashReport) -> Result<PathBuf, String> {
        let channel = report.instance.channel.to_string();
        let incarnation = report.instance.incarnation;
        let name = report.file_name();
        let bundle = bundle(report).map_err(|error| error.to_string())?;
        let bytes = bundle.to_bytes().map_err(|error| error.to_string())?;
        let said = |error: std::io::Error| error.to_string();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(said)?;
        let path = self.folder.join(&name);
        let beside = self.folder.join("being-written");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .map_err(said)?;
        file.write_all(&bytes).map_err(said)?;
        drop(file);
        fs::rename(&beside, &path).map_err(said)?;
        let kept = self.kept();
        let of_channel = kept.entry(channel).or_default();
        of_channel.retain(|kept| kept.incarnation != incarnation);
        of_channel.push(Kept {
            name,
            incarnation,
            bytes: bytes.len() as u64,
            at: SystemTime::now(),
        });
        self.tidy();
        Ok(path)
    }

    fn kept(&mut self) -> &mut HashMap<String, Vec<Kept>> {
        let folder = &self.folder;
        self.kept.get_or_insert_with(|| list(folder))
    }

    /// Removes the oldest until every bound is kept.
    fn tidy(&mut self) {
        let folder = self.folder.clone();
        let kept = self.kept();
        let mut gone: Vec<String> = Vec::new();
        for bundles in kept.values_mut() {
            let over = bundles.len().saturating_sub(MAX_PER_CHANNEL);
            gone.extend(bundles.drain(..over).map(|kept| kept.name));
        }
        loop {
            let count: usize = kept.values().map(Vec::len).sum();
            let bytes: u64 = kept.values().flatten().map(|kept| kept.bytes).sum();
            if count <= 1 || (count <= MAX_BUNDLES && bytes <= MAX_BYTES) {
                break;
            }
            let oldest = kept
                .values_mut()
                .filter(|bundles| !bundles.is_empty())
                .min_by_key(|bundles| bundles.first().map(|kept| kept.at));
            let Some(bundles) = oldest else {
                break;
            };
            gone.push(bundles.remove(0).name);
        }
        kept.retain(|_, bundles| !bundles.is_empty());
        for name in gone {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Ok(()) => {
                    tracing::debug!(path = %path.display(), "an old crash bundle was removed")
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an old crash bundle could not be removed")
                }
            }
        }
    }
}

/// What is in the folder from before. Files with other names are left alone.
fn list(folder: &Path) -> HashMap<String, Vec<Kept>> {
    let mut kept: HashMap<String, Vec<Kept>> = HashMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let (Some((channel, incarnation)), Ok(meta)) =
            (name.to_str().and_then(parse_name), entry.metadata())
        else {
            continue;
        };
        kept.entry(channel.to_owned()).or_default().push(Kept {
            name: name.to_string_lossy().into_owned(),
            incarnation,
            bytes: meta.len(),
            at: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        });
    }
    for bundles in kept.values_mut() {
        bundles.sort_by_key(|kept| kept.incarnation);
    }
    kept
}

fn bundle(report: CrashReport) -> Result<Bundle, super::tape::TapeError> {
    let CrashReport {
        instance,
        at,
        exit,
        recording,
        config,
        mut secrets,
        driver,
        limits,
    } = report;
    let config = ConfigRecord::new(&config(), &mut secrets);
    let mut exit = ExitRecord::new(&exit);
    exit.message = secrets.mask_text(&exit.message);
    let (turns, events) = (recording.turns(), recording.events());
    let opening = recording.opening.clone();
    let mut tape = recording.into_tape();
    if secrets.are_sought() {
        tape = tape.map(|plain| secrets.mask_bytes(plain))?;
    }
    let header = Header {
        written: Written {
            by: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            system: std::env::consts::OS.to_owned(),
            at_ns: at.0,
        },
        channel: instance.channel.to_string(),
        incarnation: instance.incarnation,
        driver,
        limits,
        seed: opening.seed,
        start: opening.start,
        configure: opening.configure,
        exit,
        turns,
        events,
        secrets: secrets.count(),
        config,
    };
    Ok(Bundle { header, tape })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::events::{Event, Happening, Received};
    use crate::event::MonotonicNs;
    use crate::exit::{During, ExitKind};
    use crate::ids::ChannelId;
    use crate::recorder::{Call, Recorder};

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("bulkhead-archive-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        path
    }

    fn report(recorder: &Recorder, channel: &str, incarnation: u64) -> CrashReport {
        let mut recording = Recording::new(recorder, 64 * 1024);
        recording.opening.start = Call::at((MonotonicNs(1), WallNs(2)));
        let received = Event {
            at_ns: 5,
            what: Happening::Received(Received {
                connection: 1,
                peer: None,
                bytes: b"login hunter22 ok".to_vec(),
            }),
        };
        recording.turn((MonotonicNs(6), WallNs(7)), &[received]);
        CrashReport {
            instance: InstanceId {
                channel: ChannelId::new(channel).unwrap(),
                incarnation,
            },
            at: WallNs(9),
            exit: Exit::new(ExitKind::DriverError, During::Turn, "hunter22 was refused"),
            recording,
            config: Box::new(|| ChannelConfig {
                name: "channel".into(),
                settings: r#"{"password":"hunter22"}"#.into(),
                links: Vec::new(),
                devices: Vec::new(),
                groups: Vec::new(),
                tags: Vec::new(),
            }),
            secrets: Secrets::default(),
            driver: DriverRecord {
                path: "a.wasm".into(),
                sha256: "00".into(),
                bytes: 1,
            },
            limits: LimitsRecord {
                memory: 1,
                fuel_per_turn: 1,
                turn_deadline_ns: 1,
                start_fuel: 1,
                start_deadline_ns: 1,
                samples_per_second: 1,
                stack: 1,
            },
        }
    }

    fn names(data_dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(data_dir.join("crashes"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_of_a_channel_go_over_restarts_of_the_host_too() {
        use std::os::unix::fs::PermissionsExt as _;

        let data_dir = folder("oldest");
        let recorder = Recorder::new(1 << 20, 2);
        for round in 0..2u64 {
            let archive = Archive::open(&data_dir).unwrap();
            for incarnation in 1..=6 {
                let path = archive.report(report(&recorder, "a", round * 6 + incarnation));
                assert!(path.unwrap().starts_with(data_dir.join("crashes")));
            }
            archive.report(report(&recorder, "a-1", 5)).unwrap();
            drop(archive);
        }
        let mut expected: Vec<String> =
            (5..=12).map(|number| format!("a-{number}.crash")).collect();
        expected.push("a-1-5.crash".into());
        expected.sort();
        assert_eq!(names(&data_dir), expected);
        assert_eq!(recorder.used(), 0, "recordings are given back");
        let mode = fs::metadata(data_dir.join("crashes/a-12.crash"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&data_dir).unwrap();
    }

    #[test]
    fn no_secret_is_in_a_bundle() {
        let data_dir = folder("secret");
        let recorder = Recorder::new(1 << 20, 1);
        let archive = Archive::open(&data_dir).unwrap();
        let path = archive.report(report(&recorder, "a", 1)).unwrap();
        drop(archive);
        let bundle = Bundle::read(&path).unwrap();
        assert_eq!(bundle.header.secrets, 1);
        assert_eq!(bundle.header.exit.message, "xxxxxxxx was refused");
        let config = bundle.header.config.to_abi();
        assert_eq!(config.settings, r#"{"password":"xxxxxxxx"}"#);
        let turns: Vec<_> = bundle.tape.turns().map(Result::unwrap).collect();
        let Happening::Received(received) = &turns[0].events[0].what else {
            panic!("{turns:?}");
        };
        assert_eq!(received.bytes, b"login xxxxxxxx ok");
        fs::remove_dir_all(&data_dir).unwrap();
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(parse_name("a-1-2.crash"), Some(("a-1", 2)));
        assert_eq!(parse_name("a-1.session"), Some(("a", 1)));
        for other in [
            "a.crash",
            "a-x.crash",
            "a-1.txt",
            "being-written",
            "a-1crash",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
