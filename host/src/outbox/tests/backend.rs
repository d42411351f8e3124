//! A disk that forgets what was not synced.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// A disk in memory, as redb sees one. Clones are the same disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What survives a crash.
    durable: Vec<u8>,
    /// What whoever runs sees.
    seen: Vec<u8>,
    /// What was done since the last sync, in order.
    since: Vec<Done>,
    syncs: u64,
    /// The machine stops at this sync, before it is done.
    crash_at: Option<u64>,
    crashed: bool,
    /// Nothing larger fits.
    room: Option<u64>,
}

#[derive(Clone, Debug)]
enum Done {
    Length(usize),
    Written(usize, Vec<u8>),
}

impl Done {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Done::Length(length) => bytes.resize(*length, 0),
            Done::Written(at, data) => {
                let end = at + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(data);
            }
        }
    }
}

impl Disk {
    /// An empty disk; the machine stops at the sync of this number, counted from 1.
    pub(super) fn new(crash_at: Option<u64>) -> Self {
        let inner = Inner {
            crash_at,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(super) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// From now on nothing larger fits; `None` if it does again.
    pub(super) fn set_room(&self, room: Option<u64>) {
        self.lock().room = room;
    }

    /// What is found after the crash: what was synced, and of what was not whatever `kept` says.
    pub(super) fn after_crash(&self, mut kept: impl FnMut() -> bool) -> Self {
        let inner = self.lock();
        let mut bytes = inner.durable.clone();
        for done in &inner.since {
            match done {
                // A write of which only the first half came to the disk.
                Done::Written(at, data) if kept() => {
                    let part = if kept() { data.len() } else { data.len() / 2 };
                    Done::Written(*at, data[..part].to_vec()).apply(&mut bytes);
                }
                Done::Length(length) if kept() => bytes.resize((*length).max(bytes.len()), 0),
                _ => {}
            }
        }
        Self {
            inner: Arc::new(Mutex::new(Inner {
                durable: bytes.clone(),
                seen: bytes,
                ..Inner::default()
            })),
        }
    }
}

impl Inner {
    fn alive(&self) -> io::Result<()> {
        match self.crashed {
            true => Err(io::Error::other("the machine has stopped")),
            false => Ok(()),
        }
    }

    fn fits(&self, end: u64) -> io::Result<()> {
        match self.room {
            Some(room) if end > room => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.lock();
        inner.alive()?;
        let at = usize::try_from(offset).unwrap();
        let found = inner.seen.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.lock();
        inner.alive()?;
        if length > inner.seen.len() as u64 {
            inner.fits(length)?;
        }
        let done = Done::Length(usize::try_from(length).unwrap());
        done.apply(&mut inner.seen);
        inner.since.push(done);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.alive()?;
        inner.syncs += 1;
        if inner.crash_at == Some(inner.syncs) {
            inner.crashed = true;
            return Err(io::Error::other("the machine has stopped"));
        }
        inner.since.clear();
        inner.durable = inner.seen.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        inner.alive()?;
        inner.fits(offset + data.len() as u64)?;
        let done = Done::Written(usize::try_from(offset).unwrap(), data.to_vec());
        done.apply(&mut inner.seen);
        inner.since.push(done);
        Ok(())
    }
}
