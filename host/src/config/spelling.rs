//! "Did you mean": the known word nearest to an unknown one.

/// The nearest known word, if it is near enough to have been meant: a third of its letters may differ.
pub(super) fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    const MAX_CHARS: usize = 64;
    let word: Vec<char> = word
        .chars()
        .take(MAX_CHARS + 1)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if word.len() > MAX_CHARS {
        return None;
    }
    known
        .iter()
        .map(|candidate| (distance(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, where two neighbours swapped count once.
fn distance(from: &[char], to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found() {
        let known = ["period", "tags", "name", "max_delay", "id"];
        for (word, expected) in [
            ("periode", Some("period")),
            ("preiod", Some("period")),
            ("tag", Some("tags")),
            ("max-delay", Some("max_delay")),
            ("Name", Some("name")),
            ("colour", None),
            ("", None),
            ("xy", None),
        ] {
            assert_eq!(closest(word, &known), expected, "{word}");
        }
        assert_eq!(closest(&"p".repeat(1_000_000), &known), None);
    }
}
