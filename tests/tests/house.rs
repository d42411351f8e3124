//! The rules of the house that a compiler does not keep: layers, sizes, and guests that somebody uses.
#![expect(
    clippy::unwrap_used,
    reason = "in what only tests call, a panic is the failure of the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bulkhead_tests::paths::root;

/// The most lines of a source file.
const MAX_LINES: usize = 800;

/// A room of the host.
struct Room {
    name: String,
    layer: usize,
    /// What the list says of its layer: `0, pure: no tokio, no wasmtime, no sockets`.
    rule: String,
}

/// The rooms, as `lib.rs` lists them: a comment `// 1, mechanism.` begins each layer.
fn rooms(list: &str) -> Vec<Room> {
    let mut layer = None;
    let mut rooms = Vec::new();
    for line in list.lines() {
        if let Some(rule) = line.strip_prefix("// ") {
            let number = rule
                .split(',')
                .next()
                .and_then(|number| number.parse::<usize>().ok());
            layer = number.map(|number| (number, rule.to_owned())).or(layer);
        }
        let module = line
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ")
            .strip_prefix("mod ");
        if let Some(name) = module.and_then(|module| module.strip_suffix(';')) {
            let (layer, rule) = layer
                .clone()
                .unwrap_or_else(|| panic!("{name} stands in no layer"));
            rooms.push(Room {
                name: name.to_owned(),
                layer,
                rule,
            });
        }
    }
    rooms
}

/// Every file with this ending under a folder, in order.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The source without comments and without the text of literals, so that a word in them is not taken for code.
fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            code.push_str("\"\"");
            length
        } else if first == '"' {
            code.push_str("\"\"");
            string(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// The length of the literal at the beginning, with its quotes.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw literal at the beginning, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = 1 + hashes + 1;
    Some(
        text[begin..]
            .find(&end)
            .map_or(text.len(), |at| begin + at + end.len()),
    )
}

/// The first names after each `prefix::`, those of a group `prefix::{a, b::c}` included.
fn names_after<'a>(code: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let is_whole =
            !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        if !is_whole {
            continue;
        }
        let Some(after) = code[at + prefix.len()..].strip_prefix("::") else {
            continue;
        };
        match after.strip_prefix('{') {
            None => names.extend(name(after)),
            Some(group) => {
                let mut depth = 0_usize;
                let mut begins = true;
                for (at, character) in group.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        _ if begins && depth == 0 && !character.is_whitespace() => {
                            names.extend(name(&group[at..]));
                            begins = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn name(text: &str) -> Option<&str> {
    let end = text
        .find(|character: char| !(character.is_alphanumeric() || character == '_'))
        .unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}

/// How deep in the tree of modules a file stands: 1 for a room's own file.
fn depth(below_source: &Path) -> usize {
    let folders = below_source.components().count() - 1;
    folders + usize::from(!below_source.ends_with("mod.rs"))
}

/// What a file of a room takes from other rooms, by `crate::` and by as many `super::` as lead there.
fn uses<'a>(code: &'a str, below_source: &Path) -> BTreeSet<&'a str> {
    let mut used = names_after(code, "crate");
    // A module of tests within the file is one level deeper; more `super` than that do not compile.
    for up in depth(below_source)..=depth(below_source) + 1 {
        let prefix = vec!["super"; up].join("::");
        used.extend(
            names_after(code, &prefix)
                .into_iter()
                .filter(|name| *name != "super"),
        );
    }
    used
}

/// The faults of one room's file: imports from a layer below, and what a pure room may not know.
fn faults(rooms: &[Room], below_source: &Path, source: &str) -> Vec<String> {
    let at = below_source.display();
    let first = below_source
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs");
    let Some(room) = rooms.iter().find(|room| room.name == first) else {
        return vec![format!("{at}: its room `{first}` does not stand in lib.rs")];
    };
    let code = code(source);
    let mut faults = Vec::new();
    for used in uses(&code, below_source) {
        if let Some(below) = rooms
            .iter()
            .find(|other| other.name == used && other.layer > room.layer)
        {
            faults.push(format!(
                "{at}: `{}` (layer {}) uses `{used}` (layer {}); an import may not point up",
                room.name, room.layer, below.layer
            ));
        }
    }
    if room.rule.contains("pure") {
        for (forbidden, prefix) in [
            ("tokio", "tokio"),
            ("wasmtime", "wasmtime"),
            ("sockets", "std::net"),
        ] {
            let mentioned = match prefix {
                "std::net" => names_after(&code, prefix).iter().any(|name| {
                    name.contains("Stream")
                        || name.contains("Socket") && !name.starts_with("SocketAddr")
                        || name.contains("Listener")
                }),
                _ => code.match_indices(prefix).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
                }),
            };
            if mentioned {
                faults.push(format!(
                    "{at}: `{}` is pure and may not know {forbidden}",
                    room.name
                ));
            }
        }
    }
    faults
}

fn host() -> PathBuf {
    root().join("host/src")
}

fn host_files() -> Vec<(PathBuf, String)> {
    let source = host();
    let own = [source.join("lib.rs"), source.join("main.rs")];
    let files = files(&source, "rs")
        .into_iter()
        .filter(|path| !own.contains(path));
    files
        .map(|path| {
            (
                path.strip_prefix(&source).unwrap().to_owned(),
                std::fs::read_to_string(path).unwrap(),
            )
        })
        .collect()
}

#[test]
fn the_list_of_rooms_is_read_as_it_is_meant() {
    let rooms = rooms(&std::fs::read_to_string(host().join("lib.rs")).unwrap());
    let layer = |name: &str| {
        rooms
            .iter()
            .find(|room| room.name == name)
            .map(|room| room.layer)
    };
    assert_eq!(
        (layer("config"), layer("engine"), layer("driver")),
        (Some(0), Some(1), Some(2))
    );
    assert!(
        rooms
            .iter()
            .filter(|room| room.rule.contains("pure"))
            .count()
            >= 5
    );
}

#[test]
fn imports_point_one_way() {
    let rooms = rooms(&std::fs::read_to_string(host().join("lib.rs")).unwrap());
    let files = host_files();
    assert!(files.len() > 50, "{} files", files.len());
    let faults: Vec<String> = files
        .iter()
        .flat_map(|(path, source)| faults(&rooms, path, source))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Expects the faults of one made-up file in made-up rooms.
fn check(path: &str, source: &str, expected: &[&str]) {
    let rooms = rooms(
        "// 0, pure: no tokio, no wasmtime, no sockets.\npub mod ids;\npub mod policy;\n// 1, mechanism.\npub mod engine;\n// 2, edges.\nmod driver;\n",
    );
    let found = faults(&rooms, Path::new(path), source);
    assert_eq!(found.len(), expected.len(), "{path}: {found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            found.contains(expected),
            "{path}: {found:?} does not say {expected:?}"
        );
    }
}

#[test]
fn what_the_layers_forbid_is_found() {
    check(
        "engine/mod.rs",
        "use crate::ids::Id;\nuse crate::policy;",
        &[],
    );
    check(
        "engine/mod.rs",
        "use crate::driver::Driver;",
        &["`engine` (layer 1) uses `driver` (layer 2)"],
    );
    check(
        "engine/mod.rs",
        "use crate::{ids, driver::{self, Driver}};",
        &["uses `driver`"],
    );
    check(
        "engine/mod.rs",
        "use super::driver::Driver;",
        &["uses `driver`"],
    );
    check("engine/ticker.rs", "use super::driver;", &[]);
    check(
        "engine/ticker.rs",
        "use super::super::driver;",
        &["uses `driver`"],
    );
    check(
        "engine/a/mod.rs",
        "use super::super::{ids, driver};",
        &["uses `driver`"],
    );
    check(
        "ids.rs",
        "fn f() { crate::engine::start() }",
        &["`ids` (layer 0) uses `engine`"],
    );
    check(
        "ids.rs",
        "mod tests { use super::super::engine; }",
        &["uses `engine`"],
    );
    check(
        "ids.rs",
        "// crate::engine is elsewhere\nconst A: &str = \"crate::engine\"; /* tokio */",
        &[],
    );
    check(
        "ids.rs",
        "const A: &str = r#\"tokio \"wasmtime\" \"#; const B: char = '\"'; use crate::policy;",
        &[],
    );
    check(
        "policy/mod.rs",
        "use tokio::time::Instant;",
        &["`policy` is pure and may not know tokio"],
    );
    check(
        "policy/mod.rs",
        "fn f(error: wasmtime::Error) {}",
        &["may not know wasmtime"],
    );
    check(
        "policy/mod.rs",
        "use std::net::{IpAddr, TcpStream};",
        &["may not know sockets"],
    );
    check("policy/mod.rs", "use std::net::{IpAddr, SocketAddr};", &[]);
    check("cellar/mod.rs", "", &["does not stand in lib.rs"]);
}

#[test]
fn no_file_is_longer_than_eight_hundred_lines() {
    let mut long = Vec::new();
    let mut seen = 0;
    for folder in ["host", "guest-sdk", "channels", "tests", "xtask"] {
        for path in files(&root().join(folder), "rs") {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            seen += 1;
            if lines > MAX_LINES {
                long.push(format!(
                    "{} has {lines} lines",
                    path.strip_prefix(root()).unwrap().display()
                ));
            }
        }
    }
    assert!(seen > 100, "{seen} files");
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_guest_is_used() {
    let mut claims: BTreeMap<String, usize> = std::fs::read_dir(root().join("tests/guests"))
        .unwrap()
        .map(|entry| (entry.unwrap().file_name().into_string().unwrap(), 0))
        .collect();
    assert!(claims.len() >= 10, "{claims:?}");
    let users = ["tests/tests", "tests/bench"].map(|folder| files(&root().join(folder), "rs"));
    for path in users.into_iter().flatten() {
        // This file names guests without using them.
        if path.ends_with("house.rs") {
            continue;
        }
        let source = std::fs::read_to_string(path).unwrap();
        for (name, uses) in &mut claims {
            for claim in [
                format!("\"{name}\""),
                format!("\"guests/{name}\""),
                format!("guests/{name}.wasm"),
                format!("$GUESTS/{name}.wasm"),
            ] {
                *uses += source.matches(&claim).count();
            }
        }
    }
    let idle: Vec<&String> = claims
        .iter()
        .filter(|(_, uses)| **uses == 0)
        .map(|(name, _)| name)
        .collect();
    assert!(
        idle.is_empty(),
        "no test and no bench uses the guests {idle:?}; a test names what it uses, as in guests::path(\"traps\")"
    );
}
