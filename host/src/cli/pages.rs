//! Lists that the host gives page by page.
//!
//! Where the configuration is reloaded between two pages the host refuses to go on, since something might be left out. Then what has
//! come is thrown away, and the list is asked for from its beginning; so nothing is printed before all of it is there.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::client::{Client, query};
use super::failure::Failure;
use crate::http::wire;

/// How the host says that a list has to begin again.
const CHANGED: &str = "list-changed";
/// How often it is begun again. A reload changes the list a few times.
const ATTEMPTS: u32 = 20;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// A page of a list.
pub(super) trait Page: DeserializeOwned {
    /// What it is a list of.
    type Item;
    /// What is on it, and how to ask for the next one.
    fn into_parts(self) -> (Vec<Self::Item>, Option<String>);
}

macro_rules! page {
    ($page:ident, $items:ident, $item:ident) => {
        impl Page for wire::$page {
            type Item = wire::$item;
            fn into_parts(self) -> (Vec<Self::Item>, Option<String>) {
                (self.$items, self.next_cursor)
            }
        }
    };
}

page!(TagPage, tags, Tag);
page!(ChannelPage, channels, Channel);
page!(LinkPage, links, LinkSummary);
page!(DeadLetterPage, dead_letters, DeadLetter);

/// The first `most` of a list, `at_once` on a page where that is said.
pub(super) fn first<P: Page>(
    client: &Client,
    path: &str,
    parameters: &[(&str, &str)],
    (most, at_once): (usize, Option<usize>),
) -> Result<Vec<P::Item>, Failure> {
    let ask = |cursor: Option<&str>, left: usize| -> Result<P, Failure> {
        let limit = at_once.map(|at_once| at_once.min(left).to_string());
        let more = [("limit", limit.as_deref()), ("cursor", cursor)];
        let more = more
            .iter()
            .filter_map(|(key, value)| Some((*key, (*value)?)));
        client.get(&format!(
            "{path}{}",
            query(parameters.iter().copied().chain(more))
        ))
    };
    gather(most, ask, std::thread::sleep)
}

/// All of a list.
pub(super) fn all<P: Page>(
    client: &Client,
    path: &str,
    parameters: &[(&str, &str)],
) -> Result<Vec<P::Item>, Failure> {
    first::<P>(client, path, parameters, (usize::MAX, None))
}

fn gather<P: Page>(
    most: usize,
    ask: impl Fn(Option<&str>, usize) -> Result<P, Failure>,
    pause: impl Fn(Duration),
) -> Result<Vec<P::Item>, Failure> {
    let mut attempt = 1;
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    while items.len() < most {
        match ask(cursor.as_deref(), most - items.len()) {
            Ok(page) => {
                let (more, next) = page.into_parts();
                items.extend(more);
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            Err(Failure::Refused(error)) if error.code == CHANGED && attempt < ATTEMPTS => {
                attempt += 1;
                items.clear();
                cursor = None;
                pause(PAUSE);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Numbers below ten, three on a page; a cursor is the list's generation and the number to go on with.
    #[derive(serde::Deserialize)]
    struct Numbers(Vec<u32>, Option<String>);

    impl Page for Numbers {
        type Item = u32;
        fn into_parts(self) -> (Vec<u32>, Option<String>) {
            (self.0, self.1)
        }
    }

    /// A list that changes before each of these questions, counted from 0.
    fn check(changes: impl Fn(u32) -> bool, most: usize) -> Result<Vec<u32>, Failure> {
        let (asked, generation) = (Cell::new(0), Cell::new(0_u32));
        let paused = RefCell::new(0);
        let ask = |cursor: Option<&str>, left: usize| {
            let number = asked.replace(asked.get() + 1);
            if changes(number) {
                generation.set(generation.get() + 1);
            }
            let from = match cursor.map(|cursor| cursor.split_once('-').unwrap()) {
                None => 0,
                Some((of, from)) if of == generation.get().to_string() => from.parse().unwrap(),
                Some(_) => {
                    return Err(Failure::Refused(Box::new(wire::Error {
                        code: CHANGED.to_owned(),
                        message: "another".to_owned(),
                        remedy: "begin again".to_owned(),
                        quality: None,
                        device_code: None,
                        trace: None,
                        faults: None,
                        retry_after_ms: None,
                    })));
                }
            };
            // The order of each list is another.
            let turned = |place: u32| (place + generation.get()) % 10;
            let to = (from + 3)
                .min(10)
                .min(from + u32::try_from(left).unwrap_or(10));
            let next = (to < 10).then(|| format!("{}-{to}", generation.get()));
            Ok(Numbers((from..to).map(turned).collect(), next))
        };
        gather(most, ask, |_| *paused.borrow_mut() += 1)
    }

    #[test]
    fn a_list_that_changes_is_begun_again_and_leaves_nothing_out() {
        let all = |from: u32| (0..10).map(|place| (place + from) % 10).collect::<Vec<_>>();
        assert_eq!(check(|_| false, usize::MAX).unwrap(), all(0));
        assert_eq!(check(|asked| asked == 2, usize::MAX).unwrap(), all(1));
        assert_eq!(
            check(|asked| asked == 2 || asked == 5, usize::MAX).unwrap(),
            all(2)
        );
        assert_eq!(check(|asked| asked == 1, 4).unwrap(), [1, 2, 3, 4]);
        assert_eq!(check(|asked| asked == 0, 0).unwrap(), [0; 0]);
        let endless = check(|_| true, usize::MAX).unwrap_err();
        assert!(
            matches!(&endless, Failure::Refused(error) if error.code == CHANGED),
            "{endless:?}"
        );
    }
}
