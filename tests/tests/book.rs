//! The book in `docs/`: every page stands in it, and every link leads somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::paths::root;

/// The lines of a page that are no code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The targets of the links of a line, `[text](target)`.
fn targets(line: &str) -> Vec<&str> {
    let after = line.split("](").skip(1);
    after.filter_map(|rest| rest.split(')').next()).collect()
}

/// The name by which a heading is linked to, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let kept = heading.trim().chars().filter(kept);
    kept.map(|c| {
        if c == ' ' {
            '-'
        } else {
            c.to_ascii_lowercase()
        }
    })
    .collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

fn pages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}

/// What is wrong with the links of a page.
fn broken(page: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(page)?;
    let mut faults = Vec::new();
    for target in prose(&text).flat_map(targets) {
        if target.contains("://") {
            continue;
        }
        let (path, place) = target.split_once('#').unwrap_or((target, ""));
        let file = match path {
            "" => page.to_owned(),
            path => page.parent().context("a page is in a folder")?.join(path),
        };
        let leads = match place {
            "" => file.exists(),
            place => {
                std::fs::read_to_string(&file).is_ok_and(|text| anchors(&text).contains(place))
            }
        };
        if !leads {
            faults.push(format!("{}: {target}", page.display()));
        }
    }
    Ok(faults)
}

#[test]
fn links_are_read_as_they_are_meant() {
    assert_eq!(
        targets("see [a](B.md#c), [d](#e) and (f)"),
        ["B.md#c", "#e"]
    );
    assert_eq!(
        anchor(" What a `turn` is, and why"),
        "what-a-turn-is-and-why"
    );
    let page = "# One\n```\n# two\n[a](b)\n```\n## `Three`: 3\n";
    assert_eq!(
        anchors(page),
        BTreeSet::from(["one".to_owned(), "three-3".to_owned()])
    );
}

#[test]
fn every_page_is_in_the_book_once() -> Result<()> {
    let docs = root().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md"))?;
    let mut listed: Vec<PathBuf> = prose(&summary)
        .flat_map(targets)
        .map(|target| docs.join(target))
        .collect();
    listed.push(docs.join("SUMMARY.md"));
    listed.sort();
    assert_eq!(listed, pages(&docs)?);
    Ok(())
}

#[test]
fn links_lead_somewhere() -> Result<()> {
    let mut faults = Vec::new();
    let mut all = pages(&root().join("docs"))?;
    for page in ["README.md", "guest-sdk/python/README.md"] {
        all.push(root().join(page));
    }
    for page in all {
        faults.extend(broken(&page)?);
    }
    ensure!(
        faults.is_empty(),
        "these lead nowhere:\n{}",
        faults.join("\n")
    );
    Ok(())
}
