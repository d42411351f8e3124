use redb::ReadableTable as _;

use super::*;

/// A folder of its own, gone in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("bulkhead-store-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        Self(path)
    }

    fn open(&self) -> Store {
        Store::open(&self.0).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.0.join("bulkhead.redb")
    }

    /// The files that were set aside.
    fn aside(&self) -> Vec<PathBuf> {
        let files = self.0.read_dir().unwrap().map(|file| file.unwrap().path());
        files
            .filter(|file| file.to_string_lossy().contains(".corrupt-"))
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

static THINGS: List = List {
    table: "list:things",
    version: 1,
    max_bytes: 100,
    max_records: 3,
};

fn id(name: &str) -> ChannelId {
    ChannelId::new(name).unwrap()
}

fn payloads(listed: &Listed) -> Vec<(u64, String)> {
    let text = |entry: &Entry| String::from_utf8(entry.payload.clone()).unwrap();
    listed
        .entries
        .iter()
        .map(|entry| (entry.number, text(entry)))
        .collect()
}

/// Changes a stored record behind the store's back.
fn tamper(store: &Store, work: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) {
    let transaction = store.inner.database.begin_write().unwrap();
    work(&transaction).unwrap();
    transaction.commit().unwrap();
}

async fn next(store: &Store, channel: &ChannelId) -> u64 {
    if let Some(number) = store.reserved_incarnation(channel) {
        return number;
    }
    store
        .reserve_incarnations(vec![channel.clone()])
        .await
        .unwrap();
    store.reserved_incarnation(channel).unwrap()
}

#[tokio::test]
async fn numbers_never_repeat_and_go_on_without_a_gap_after_an_orderly_stop() {
    let folder = Folder::new("numbers");
    let channel = id("a");
    let store = folder.open();
    for expected in 1..=3 {
        assert_eq!(next(&store, &channel).await, expected);
    }
    store.settle().await.unwrap();
    assert_eq!(next(&store, &channel).await, 4);
    drop(store); // as after a crash: nothing was settled
    let store = folder.open();
    assert_eq!(next(&store, &channel).await, 4 + numbers::BLOCK);
    assert_eq!(next(&store, &id("another")).await, 1);
}

#[tokio::test]
async fn a_block_ends_where_the_next_begins() {
    let folder = Folder::new("blocks");
    let channel = id("a");
    let store = folder.open();
    for expected in 1..=2 * numbers::BLOCK + 1 {
        assert_eq!(next(&store, &channel).await, expected);
    }
}

#[tokio::test]
async fn numbers_never_repeat_where_an_older_database_is_put_back() {
    let folder = Folder::new("restored");
    let (channel, other) = (id("a"), id("b"));
    let backup = folder.0.with_extension("backup");
    let epochs = async |store: &Store, channels: &[&ChannelId]| {
        let channels = channels.iter().map(|id| (*id).clone()).collect();
        store.raise_epochs(channels).await.unwrap()
    };
    let store = folder.open();
    assert_eq!(epochs(&store, &[&channel, &other]).await, [1, 1]);
    let first = next(&store, &channel).await;
    drop(store);
    std::fs::copy(folder.file(), &backup).unwrap();
    let store = folder.open();
    assert_eq!(epochs(&store, &[&channel]).await, [2]);
    assert_eq!(epochs(&store, &[&channel]).await, [3]);
    let last = next(&store, &channel).await;
    drop(store);

    std::fs::rename(&backup, folder.file()).unwrap();
    let store = folder.open();
    assert_eq!(epochs(&store, &[&channel]).await, [4]);
    assert_eq!(epochs(&store, &[&other, &id("new")]).await, [4, 4]);
    assert_eq!(epochs(&store, &[&channel]).await, [5]);
    let again = next(&store, &channel).await;
    assert!(first < last && last < again, "{first} {last} {again}");
}

#[test]
fn a_second_host_is_kept_out_and_told_who_is_in() {
    let folder = Folder::new("lock");
    let store = folder.open();
    let error = Store::open(&folder.0).err().unwrap().to_string();
    assert!(
        error.contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    drop(store);
    drop(folder.open());
}

#[tokio::test]
async fn a_saved_state_is_there_again() {
    let folder = Folder::new("state");
    let store = folder.open();
    let found = |store: &Store| store.slot(&SAVED_STATE, &id("a")).unwrap();
    assert_eq!(found(&store), Found::Nothing);
    for state in [b"one", b"two"] {
        let state = state.to_vec();
        store.put(&SAVED_STATE, &id("a"), state).await.unwrap();
    }
    drop(store);
    let store = folder.open();
    assert_eq!(found(&store), Found::Whole(b"two".to_vec()));
    let most = vec![7; MAX_STATE_BYTES];
    store.put(&SAVED_STATE, &id("b"), most).await.unwrap();
    let more = vec![7; MAX_STATE_BYTES + 1];
    let refused = store.put(&SAVED_STATE, &id("b"), more).await;
    assert!(
        matches!(refused, Err(StoreError::TooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(store.clear(&SAVED_STATE, &id("a")).await, Ok(true));
    assert_eq!(store.clear(&SAVED_STATE, &id("a")).await, Ok(false));
    assert_eq!(found(&store), Found::Nothing);
}

#[tokio::test]
async fn a_list_keeps_the_newest_and_counts_what_it_drops() {
    let folder = Folder::new("list");
    let store = folder.open();
    let append = async |store: &Store, owner: &str, text: &str| {
        let payload = text.as_bytes().to_vec();
        store.append(&THINGS, &id(owner), payload).await.unwrap()
    };
    assert_eq!(store.list(&THINGS, &id("a")).unwrap(), Listed::default());
    for (number, text) in (1..).zip(["one", "two", "three", "four"]) {
        assert_eq!(append(&store, "a", text).await, number);
    }
    // Beside it in the table, on both sides.
    assert_eq!(append(&store, "A", "other").await, 1);
    assert_eq!(append(&store, "aa", "other").await, 1);
    let check = |store: &Store, expected: &[(u64, &str)], dropped| {
        let listed = store.list(&THINGS, &id("a")).unwrap();
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, t)| (*n, (*t).to_owned()))
            .collect();
        assert_eq!((payloads(&listed), listed.dropped), (expected, dropped));
    };
    check(&store, &[(2, "two"), (3, "three"), (4, "four")], 1);
    assert_eq!(store.remove(&THINGS, &id("a"), 3).await, Ok(true));
    assert_eq!(store.remove(&THINGS, &id("a"), 3).await, Ok(false));
    assert_eq!(append(&store, "a", "five").await, 5);
    drop(store);
    let store = folder.open();
    check(&store, &[(2, "two"), (4, "four"), (5, "five")], 1);
    // A number is never used again, not even that of the last record.
    assert_eq!(store.remove(&THINGS, &id("a"), 5).await, Ok(true));
    assert_eq!(append(&store, "a", "six").await, 6);
    assert_eq!(append(&store, "a", "seven").await, 7);
    check(&store, &[(4, "four"), (6, "six"), (7, "seven")], 2);
    let entry = |number| store.entry(&THINGS, &id("a"), number).unwrap();
    assert_eq!(entry(6).as_deref(), Some(b"six".as_slice()));
    assert_eq!(entry(5), None);
    let refused = store.append(&THINGS, &id("a"), vec![0; 101]).await;
    assert!(
        matches!(refused, Err(StoreError::TooLarge { .. })),
        "{refused:?}"
    );
    check(&store, &[(4, "four"), (6, "six"), (7, "seven")], 2);
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_nothing_else_suffers() {
    let folder = Folder::new("damaged-record");
    let store = folder.open();
    for text in ["one", "two", "three"] {
        let payload = text.as_bytes().to_vec();
        store.append(&THINGS, &id("a"), payload).await.unwrap();
    }
    for channel in ["a", "b"] {
        let state = channel.as_bytes().to_vec();
        store.put(&SAVED_STATE, &id(channel), state).await.unwrap();
    }
    tamper(&store, |transaction| {
        let mut table = transaction.open_table(keep::list_table(&THINGS))?;
        let mut two = table.get(("a", 2))?.unwrap().value().to_vec();
        *two.last_mut().unwrap() ^= 1;
        table.insert(("a", 2), two.as_slice())?;
        let mut table = transaction.open_table(keep::slot_table(&SAVED_STATE))?;
        let of_another = table.get("b")?.unwrap().value().to_vec();
        table.insert("a", of_another.as_slice())?;
        Ok(())
    });
    let listed = store.list(&THINGS, &id("a")).unwrap();
    let whole = vec![(1, "one".to_owned()), (3, "three".to_owned())];
    assert_eq!((payloads(&listed), listed.set_aside), (whole.clone(), 1));
    let state = |channel| store.slot(&SAVED_STATE, &id(channel)).unwrap();
    let found = state("a");
    assert!(
        matches!(&found, Found::SetAside(why) if why.contains("checksum")),
        "{found:?}"
    );
    assert_eq!(state("b"), Found::Whole(b"b".to_vec()));

    // Moved, not copied: met once.
    store.flush().await.unwrap();
    let listed = store.list(&THINGS, &id("a")).unwrap();
    assert_eq!((payloads(&listed), listed.set_aside), (whole, 0));
    assert_eq!(state("a"), Found::Nothing);
    let aside = store.records_aside().unwrap();
    let names: Vec<&str> = aside.iter().map(|(name, _)| name.as_str()).collect();
    let why = "its checksum does not fit its contents";
    assert_eq!(
        names,
        [
            format!("list:things a 2: {why}"),
            format!("slot:saved_state a: {why}")
        ]
    );
    assert!(aside[1].1.ends_with(b"b"), "{aside:?}");
    // The place can be used again, and the list keeps to its bound.
    store.put(&SAVED_STATE, &id("a"), vec![1]).await.unwrap();
    assert_eq!(state("a"), Found::Whole(vec![1]));
    for number in 4..=6 {
        let appended = store.append(&THINGS, &id("a"), vec![b'x']).await;
        assert_eq!(appended, Ok(number));
    }
    assert_eq!(store.list(&THINGS, &id("a")).unwrap().entries.len(), 3);
}

#[tokio::test]
async fn what_is_set_aside_is_bounded() {
    let folder = Folder::new("aside");
    let store = folder.open();
    for number in 0..100u8 {
        tamper(&store, |transaction| {
            let mut table = transaction.open_table(keep::slot_table(&SAVED_STATE))?;
            table.insert("a", [number].as_slice())?;
            Ok(())
        });
        let found = store.slot(&SAVED_STATE, &id("a")).unwrap();
        assert!(matches!(found, Found::SetAside(_)), "{found:?}");
        store.flush().await.unwrap();
    }
    let aside = store.records_aside().unwrap();
    let bytes: Vec<u8> = aside.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert_eq!(bytes, (68..100).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_store_begins_anew_with_numbers_that_go_on() {
    let folder = Folder::new("damaged-file");
    let channel = id("a");
    let mut last = 0;
    type Spoil = fn(&mut Vec<u8>);
    let spoils: [(&str, Spoil); 5] = [
        ("truncated", |bytes| bytes.truncate(5_000)),
        ("no database", |bytes| {
            *bytes = b"not a database at all".to_vec()
        }),
        ("zeros", |bytes| bytes.fill(0)),
        ("a flipped bit in the record", |bytes| {
            let at = bytes.windows(6).rposition(|six| six == b"needle").unwrap();
            bytes[at] ^= 1;
        }),
        ("noise behind the head", |bytes| {
            let mut random = fastrand::Rng::with_seed(7);
            bytes[4_096..].fill_with(|| random.u8(..));
        }),
    ];
    for (round, (what, spoil)) in (1..).zip(spoils) {
        let store = folder.open();
        let number = next(&store, &channel).await;
        assert!(number > last, "{what}: {number} after {last}");
        last = number;
        let state = b"a needle in the haystack".to_vec();
        store.put(&SAVED_STATE, &channel, state).await.unwrap();
        drop(store);
        let mut bytes = std::fs::read(folder.file()).unwrap();
        spoil(&mut bytes);
        std::fs::write(folder.file(), &bytes).unwrap();

        let store = folder.open();
        let aside = store
            .set_aside()
            .unwrap_or_else(|| panic!("{what} was not noticed"));
        // The library may have tried to mend it first, so only what it is can be compared.
        let length = std::fs::metadata(aside).unwrap().len();
        assert!(length >= bytes.len() as u64, "{what}: {length}");
        assert_eq!(folder.aside().len(), round.min(4), "{what}");
        let state = store.slot(&SAVED_STATE, &channel).unwrap();
        assert_eq!(state, Found::Nothing, "{what}");
        drop(store);
        let store = folder.open();
        assert_eq!(store.set_aside(), None, "{what}: the new one is whole");
    }
}

#[tokio::test]
async fn what_many_write_at_once_is_all_there() {
    let folder = Folder::new("many");
    let store = folder.open();
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..2_000u64 {
        let store = store.clone();
        writes.spawn(async move {
            let owner = id(&format!("c{}", number % 1_000));
            let payload = number.to_le_bytes().to_vec();
            store.append(&THINGS, &owner, payload).await.unwrap();
        });
    }
    while let Some(done) = writes.join_next().await {
        done.unwrap();
    }
    drop(store);
    let store = folder.open();
    for owner in 0..1_000u64 {
        let listed = store.list(&THINGS, &id(&format!("c{owner}"))).unwrap();
        let mut found: Vec<u64> = listed
            .entries
            .iter()
            .map(|entry| u64::from_le_bytes(entry.payload.as_slice().try_into().unwrap()))
            .collect();
        found.sort_unstable();
        assert_eq!(found, [owner, owner + 1_000]);
    }
}

/// A ledger that always has its next number to keep.
#[derive(Default)]
struct Counting {
    next: std::sync::atomic::AtomicU8,
    put_back: std::sync::Mutex<usize>,
}

static TOO_WIDE: Slot = Slot {
    // The table of a list: the database refuses to open it as that of a slot.
    table: "list:things",
    version: 1,
    max_bytes: 100,
};

impl Ledger for Counting {
    fn take(&self) -> Vec<Keep> {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut keep = vec![Keep::List(&THINGS, (&id("a")).into(), vec![number])];
        if number == 1 || number == 2 {
            keep.push(Keep::Slot(&TOO_WIDE, (&id("a")).into(), Vec::new()));
        }
        keep
    }

    fn put_back(&self, keep: Vec<Keep>) {
        *self.put_back.lock().unwrap() += keep.len();
    }
}

#[tokio::test]
async fn a_ledger_is_asked_and_gets_back_what_could_not_be_kept() {
    let folder = Folder::new("ledger");
    let store = folder.open();
    let ledger = Arc::new(Counting::default());
    let kept = || -> Vec<u8> {
        let listed = store.list(&THINGS, &id("a")).unwrap();
        listed.entries.iter().map(|e| e.payload[0]).collect()
    };
    store.ask(ledger.clone());
    store.flush().await.unwrap();
    assert_eq!(kept(), [0]);
    // Together with a write that is in order: that one is kept, and nothing of the ledger is.
    store.ask(ledger.clone());
    store.put(&SAVED_STATE, &id("a"), vec![9]).await.unwrap();
    assert_eq!(kept(), [0]);
    // Whoever waits for everything is told that not everything is there.
    store.ask(ledger.clone());
    let failed = store.flush().await;
    assert!(
        matches!(failed, Err(StoreError::Database { .. })),
        "{failed:?}"
    );
    assert_eq!(kept(), [0]);
    assert_eq!(*ledger.put_back.lock().unwrap(), 4);
    let state = store.slot(&SAVED_STATE, &id("a")).unwrap();
    assert_eq!(state, Found::Whole(vec![9]));
    store.ask(ledger);
    drop(store);
    let store = folder.open();
    let listed = store.list(&THINGS, &id("a")).unwrap();
    assert_eq!(listed.entries.len(), 2, "what waits is kept at the end");
}
