//! What a user does wrong, or meets: each ends in one clear message that names the thing and the remedy, and in the
//! right exit code (0 fine, 1 the thing checked is at fault, 2 wrong usage, 3 the host's own failure). Nothing panics.
//!
//! - `files`: configurations and drivers. `clients`: commands that ask a running host.
//! - `life`: what a host meets as it starts, runs and ends.

mod clients;
mod files;
mod life;

use anyhow::Result;
use bulkhead_tests::{Ended, Folder};

/// A host that needs nothing but itself.
const ALONE: &str = "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
    [[channel.group]]\nname = \"g\"\nperiod = \"100ms\"\ntags = [{ name = \"t\", address = \"counter\", type = \"uint64\" }]\n";

/// Runs a command in a folder, and checks how it ends: with this code, this many messages, and these words in them.
fn check(
    folder: &Folder,
    command: &[&str],
    code: i32,
    messages: usize,
    words: &[&str],
) -> Result<Ended> {
    let ended = folder.run(command)?;
    let context = || format!("{command:?} in {}: {ended:#?}", folder.path().display());
    assert_eq!(ended.code(), Some(code), "{}", context());
    no_panic(&ended);
    assert!(ended.out.is_empty(), "{}", context());
    let told = messages_of(&ended);
    assert_eq!(told.len(), messages, "{}", context());
    let told = told.join("\n");
    for word in words {
        assert!(told.contains(word), "`{word}` is not in {}", context());
    }
    Ok(ended)
}

/// What was said, progress apart. A remedy on a line of its own belongs to the line before.
fn messages_of(ended: &Ended) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for line in &ended.err {
        let is_progress = ["loading ", "loaded ", "compiled ", "starting "]
            .iter()
            .any(|beginning| line.starts_with(beginning));
        let is_count = line.ends_with(" fault") || line.ends_with(" faults");
        match messages.last_mut() {
            _ if is_progress || is_count => {}
            Some(last) if line.starts_with(' ') => last.push_str(line),
            _ => messages.push(line.clone()),
        }
    }
    messages
}

fn no_panic(ended: &Ended) {
    for line in ended.out.iter().chain(&ended.err) {
        let line = line.to_lowercase();
        assert!(
            !line.contains("panicked") && !line.contains("rust_backtrace"),
            "{ended:#?}"
        );
    }
}
