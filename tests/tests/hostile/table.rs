//! `docs/HOSTILE.md` holds every case once, and names tests that there are.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_tests::paths::root;

/// How many cases there are.
const CASES: u32 = 43;

/// The rows of the table: the number, and the file and function of the test.
fn rows(table: &str) -> Vec<(u32, String, String)> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_matches('|');
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let row = |line: &str| {
        let cells = cells(line);
        let number = cells.first()?.parse().ok()?;
        let mut quoted = cells.last()?.split('`').skip(1).step_by(2);
        Some((number, quoted.next()?.to_owned(), quoted.next()?.to_owned()))
    };
    table
        .lines()
        .filter(|line| line.starts_with("| "))
        .filter_map(row)
        .collect()
}

/// Whether a source has a test of this name.
fn has_test(source: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let Some((before, _)) = source.split_once(&function) else {
        return false;
    };
    let before = before.trim_end().trim_end_matches("async");
    let attributes = before
        .trim_end()
        .lines()
        .rev()
        .take_while(|line| !line.trim().is_empty() && !line.trim().ends_with('}'));
    attributes
        .into_iter()
        .any(|line| matches!(line.trim(), "#[test]") || line.trim().starts_with("#[tokio::test"))
}

#[test]
fn every_case_is_shown_by_one_test_that_there_is() {
    let table = std::fs::read_to_string(root().join("docs/HOSTILE.md")).unwrap();
    let rows = rows(&table);
    let numbers: Vec<u32> = rows.iter().map(|(number, ..)| *number).collect();
    let expected: Vec<u32> = (1..=CASES).collect();
    assert_eq!(numbers, expected, "each case once, in order");
    let mut claimed = BTreeMap::new();
    for (number, file, name) in &rows {
        let path = match file.strip_prefix("host/") {
            Some(_) => root().join(file),
            None => root().join("tests/tests").join(file),
        };
        let source = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("case {number}: {}: {error}", path.display()));
        assert!(
            has_test(&source, name),
            "case {number}: {file} has no test `{name}`"
        );
        let before = claimed.insert((file, name), number);
        assert_eq!(
            before, None,
            "case {number} is shown by the test of another"
        );
    }
}

#[test]
fn every_test_of_a_case_is_in_the_table() {
    let table = std::fs::read_to_string(root().join("docs/HOSTILE.md")).unwrap();
    let claimed: BTreeSet<String> = rows(&table).into_iter().map(|(_, _, name)| name).collect();
    for file in ["files.rs", "running.rs", "ports.rs"] {
        let path = root().join("tests/tests/hostile").join(file);
        let source = std::fs::read_to_string(path).unwrap();
        let mut lines = source.lines().peekable();
        while let Some(line) = lines.next() {
            if line == "#[test]"
                && let Some(name) = lines.peek().and_then(|next| {
                    let name = next.strip_prefix("fn ")?;
                    name.split_once('(').map(|(name, _)| name)
                })
            {
                assert!(
                    claimed.contains(name),
                    "`{name}` of {file} stands in no row of docs/HOSTILE.md"
                );
            }
        }
    }
}

#[test]
fn a_test_is_known_by_its_attribute() {
    let source = "#[test]\nfn one() {}\n\n#[tokio::test]\nasync fn two() {}\n\nfn three() {}\n";
    assert!(has_test(source, "one") && has_test(source, "two"));
    assert!(!has_test(source, "three") && !has_test(source, "four"));
    assert_eq!(
        rows("| case | x |\n|---|---|\n| 7 | a | `b.rs` `c` |\n"),
        [(7, "b.rs".to_owned(), "c".to_owned())]
    );
}
