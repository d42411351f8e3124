//! The log is whole over restarts and from file to file, and whatever is done to it shows.

use serde_json::json;

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("bulkhead-audit-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes entries in files of at most 1,000 bytes.
    fn with(name: &str, entries: u64) -> Self {
        let folder = Self::new(name);
        let audit = Audit::open_with(&folder.0, 1_000).unwrap();
        (1..=entries).for_each(|value| audit.record(&write(value)));
        audit.close();
        folder
    }

    /// All lines of all files, each with its file.
    fn lines(&self) -> Vec<(PathBuf, String)> {
        let read = |(_, path): (u32, PathBuf)| {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(str::to_owned);
            lines.map(|line| (path.clone(), line)).collect::<Vec<_>>()
        };
        files(&self.0).unwrap().into_iter().flat_map(read).collect()
    }

    fn store(&self, lines: &[(PathBuf, String)]) {
        for (_, path) in files(&self.0).unwrap() {
            let own = lines.iter().filter(|(file, _)| *file == path);
            let text: String = own.map(|(_, line)| format!("{line}\n")).collect();
            std::fs::write(path, text).unwrap();
        }
    }

    fn faults(&self) -> Vec<String> {
        let faults = verify(&self.0, 1).unwrap().faults.into_iter();
        faults
            .map(|fault| {
                let name = fault
                    .path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                format!("{name}:{}: {}", fault.line, fault.what)
            })
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn write(value: u64) -> Write<'static> {
    Write {
        time: "2026-11-21T12:00:00Z".to_owned(),
        answered: "2026-11-21T12:00:00.01Z".to_owned(),
        via: "http",
        by: Some("anna"),
        channel: "press-3",
        tag: "setpoint",
        value: json!(value),
        answer: Answer {
            code: "failed",
            message: Some("the device says \"no\",\"hash\":\"".to_owned()),
        },
    }
}

#[test]
fn what_was_recorded_is_read_back_over_files_and_restarts() {
    let folder = Folder::with("restarts", 7);
    let audit = Audit::open_with(&folder.0, 1_000).unwrap();
    (8..=9).for_each(|value| audit.record(&write(value)));
    let newest: Vec<_> = audit.last(3, None).unwrap();
    let numbers: Vec<u64> = newest.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [9, 8, 7]);
    assert_eq!(newest[0].value, json!(9));
    let all: Vec<u64> = audit
        .last(100, Some(8))
        .unwrap()
        .iter()
        .map(|entry| entry.number)
        .collect();
    assert_eq!(all, [7, 6, 5, 4, 3, 2, 1]);
    audit.close();
    assert!(files(&folder.0).unwrap().len() > 2);
    let verified = verify(&folder.0, 1).unwrap();
    assert_eq!((verified.entries, verified.faults), (9, vec![]));
    assert_eq!(verified.last, Some((9, newest[0].hash.to_string())));
}

#[test]
fn each_entry_that_is_changed_or_removed_shows() {
    let folder = Folder::with("changes", 7);
    let whole = folder.lines();
    assert_eq!(folder.faults(), [""; 0]);
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at].1 = changed[at].1.replace("\"value\":", "\"value\":1");
        folder.store(&changed);
        let faults = folder.faults();
        assert!(
            faults.len() == 1 && faults[0].ends_with("it was changed"),
            "{at}: {faults:?}"
        );

        // With a new hash of its own, for those who know how: the next one does not follow, and the last one is noted.
        let (sealed, _) = changed[at].1.rsplit_once(",\"hash\":").unwrap();
        changed[at].1 = format!("{sealed},\"hash\":\"{}\"}}", Hash::of(sealed));
        folder.store(&changed);
        let faults = folder.faults();
        assert_eq!(faults.len(), 1, "{at}: {faults:?}");

        let mut removed = whole.clone();
        removed.remove(at);
        folder.store(&removed);
        let faults = folder.faults();
        assert!(
            faults.len() == 1 && faults[0].contains("missing"),
            "{at}: {faults:?}"
        );

        if at > 0 {
            let mut swapped = whole.clone();
            let line = swapped[at].1.clone();
            swapped[at].1.clone_from(&whole[at - 1].1);
            swapped[at - 1].1 = line;
            folder.store(&swapped);
            assert!(!folder.faults().is_empty(), "{at}");
        }
    }
    // A whole file, and the end of all.
    folder.store(&whole);
    let (_, first) = files(&folder.0).unwrap().swap_remove(0);
    std::fs::remove_file(first).unwrap();
    assert_eq!(folder.faults().len(), 1);
    for (_, path) in files(&folder.0).unwrap() {
        std::fs::remove_file(path).unwrap();
    }
    assert!(folder.faults()[0].ends_with("entries 1 to 7 are missing at the end"));
}

#[test]
fn a_line_that_was_never_finished_is_cut_off_and_the_log_goes_on() {
    let folder = Folder::with("torn", 2);
    let (_, path) = files(&folder.0).unwrap().pop().unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"number\":3,\"time\":\"2026").unwrap();
    assert_eq!(folder.faults(), [""; 0], "it may be written at this moment");
    let audit = Audit::open(&folder.0).unwrap();
    audit.record(&write(3));
    audit.close();
    assert_eq!(folder.faults(), [""; 0]);
    assert_eq!(verify(&folder.0, 1).unwrap().entries, 3);
}
