//! Devices that an operator has taken out of service: they are not polled, their tags are bad and say so, and nothing is written to
//! them. The list is in the store: it outlives the host. It goes by names, so it outlives a change of the configuration as well.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::event::WallNs;
use crate::ids::ChannelId;
use crate::store::{Found, Slot, Store, StoreError};

/// The longest reason that is kept, in bytes.
pub const MAX_REASON: usize = 256;

/// Where they are kept. A channel has 4,096 devices at most, whose names have 128 characters.
static LOCKS: Slot = Slot {
    table: "slot:device_locks",
    version: 1,
    max_bytes: 8 << 20,
};

/// Since when a device is locked, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// In nanoseconds since 1970.
    since_ns: u64,
    /// In the operator's words; may be empty.
    pub why: String,
}

impl Lock {
    /// Since when.
    pub fn since(&self) -> WallNs {
        WallNs(self.since_ns)
    }

    /// A sentence about a device that is locked.
    pub(super) fn sentence(&self, device: &str) -> String {
        match self.why.as_str() {
            "" => format!("device {device} is locked by an operator"),
            why => format!("device {device} is locked by an operator: {why}"),
        }
    }
}

/// The locks of one channel, by the names of the devices.
#[derive(Default)]
pub struct Locks {
    inner: Mutex<BTreeMap<String, Lock>>,
    /// One change at a time goes to the disk.
    change: tokio::sync::Mutex<()>,
    /// Raised with each change, to be asked for in every turn.
    generation: AtomicU64,
}

impl Locks {
    /// Those that are on the disk.
    ///
    /// Where they cannot be read, none is locked, and the second says why.
    pub(super) fn open(channel: &ChannelId, store: &Store) -> (Self, Option<String>) {
        let found = match store.slot(&LOCKS, channel) {
            Ok(Found::Whole(record)) => serde_json::from_slice(&record).map_err(|e| e.to_string()),
            Ok(Found::Nothing) => Ok(BTreeMap::new()),
            Ok(Found::SetAside(damage)) => Err(damage),
            Err(error) => Err(error.to_string()),
        };
        let (locks, unread): (BTreeMap<String, Lock>, _) = match found {
            Ok(locks) => (locks, None),
            Err(error) => (BTreeMap::new(), Some(error)),
        };
        let locks = Self {
            generation: AtomicU64::new(u64::from(!locks.is_empty())),
            inner: Mutex::new(locks),
            change: tokio::sync::Mutex::default(),
        };
        (locks, unread)
    }

    /// Raised with each change; 0 while there were none.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The lock of a device.
    pub fn of(&self, device: &str) -> Option<Lock> {
        if self.generation() == 0 {
            return None;
        }
        self.lock().get(device).cloned()
    }

    /// Locks a device, or unlocks it. It is on the disk when this is done.
    pub async fn set(
        &self,
        (channel, store): (&ChannelId, &Store),
        device: &str,
        lock: Option<(WallNs, &str)>,
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.change.lock().await;
        let mut locks = self.lock().clone();
        match lock {
            Some((since, why)) => {
                let why = why.get(..why.floor_char_boundary(MAX_REASON));
                let lock = Lock {
                    since_ns: since.0,
                    why: why.unwrap_or_default().to_owned(),
                };
                locks.insert(device.to_owned(), lock);
            }
            None => drop(locks.remove(device)),
        }
        // Text and numbers alone: this cannot fail; an empty record would be set aside.
        let record = serde_json::to_vec(&locks).unwrap_or_default();
        store.put(&LOCKS, channel, record).await?;
        *self.lock() = locks;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Lock>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_outlives_the_host_until_it_is_lifted() {
        let name = format!("bulkhead-locks-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&folder));
        let channel = ChannelId::new("a").unwrap();
        let store = Store::open(&folder).unwrap();
        let (locks, _) = Locks::open(&channel, &store);
        assert_eq!((locks.generation(), locks.of("pump")), (0, None));
        let long = "ü".repeat(MAX_REASON);
        let at = WallNs(7);
        for (device, why) in [("pump", "being mended"), ("valve", long.as_str())] {
            let set = locks.set((&channel, &store), device, Some((at, why)));
            set.await.unwrap();
        }
        assert_eq!(locks.of("valve").unwrap().why.len(), MAX_REASON);
        drop((locks, store));

        let store = Store::open(&folder).unwrap();
        let (locks, _) = Locks::open(&channel, &store);
        let lock = locks.of("pump").unwrap();
        assert_eq!((lock.since(), lock.why.as_str()), (at, "being mended"));
        let sentence = "device pump is locked by an operator: being mended";
        assert_eq!(lock.sentence("pump"), sentence);
        let before = locks.generation();
        locks.set((&channel, &store), "pump", None).await.unwrap();
        assert_eq!(locks.of("pump"), None);
        assert!(locks.generation() > before && locks.of("valve").is_some());
        let other = ChannelId::new("b").unwrap();
        assert_eq!(Locks::open(&other, &store).0.of("valve"), None);
        drop((locks, store));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
