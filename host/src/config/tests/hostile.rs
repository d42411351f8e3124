//! Whatever the text: no panic, and faults that lie within it.

use proptest::prelude::*;

use super::{QUICKSTART, parsed};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        prop_assert!(parsed(&text).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parsed(&String::from_utf8_lossy(&bytes)).is_err());
    }

    /// A good file with pieces cut out, doubled or put in; whatever comes of it, faults lie within the text.
    #[test]
    fn no_mutation_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, 0..PIECES.len(), 0u8..3), 1..6),
    ) {
        let mut text = QUICKSTART.to_owned();
        for (place, length, piece, edit) in edits {
            let from = text.floor_char_boundary(place.index(text.len()));
            let to = text.floor_char_boundary((from + length).min(text.len()));
            let original = text.clone();
            match edit {
                0 => text.replace_range(from..to, ""),
                1 => text.insert_str(from, &original[from..to]),
                _ => text.replace_range(from..to, PIECES[piece]),
            }
        }
        if let Err(faults) = parsed(&text) {
            let lines = text.split('\n').count();
            for fault in &faults.faults {
                prop_assert!((1..=lines).contains(&(fault.position.line as usize)), "{faults}");
                prop_assert!(fault.message.contains("; ") || fault.message.contains("did you mean"), "{faults}");
            }
        }
    }
}

const PIECES: [&str; 16] = [
    "\"",
    "=",
    "[",
    "]]",
    "{",
    "}",
    "\n",
    "1e999",
    "-1",
    "\u{0}",
    "ß",
    "tags = 1",
    "\"\"",
    "nan",
    "1979-05-27",
    "a.b.c = 1",
];
