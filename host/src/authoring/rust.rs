//! A project in Rust: a crate of its own, with the SDK beside it as the other member of its workspace.

use super::embedded::{LOCK, RUST_DRIVER, RUST_SDK, RUST_SDK_MANIFEST, WIT, WORKSPACE};
use super::project::{Item, Name, fill, script};

/// The libraries of the driver and of the SDK.
const LIBRARIES: [&str; 6] = [
    "schemars",
    "serde",
    "serde_json",
    "serde_path_to_error",
    "thiserror",
    "wit-bindgen",
];

/// Every file of the project.
pub(super) fn items(name: &Name) -> Vec<Item> {
    let manifest = fill(include_str!("templates/rust/Cargo.toml.in"), name)
        .replace("# LIBRARIES\n", &libraries());
    let template = |path: &str, text: &str| Item::new(path, fill(text, name));
    let mut items = vec![
        Item::new("Cargo.toml", manifest),
        Item::new("Cargo.lock", LOCK),
        template(
            "rust-toolchain.toml",
            include_str!("templates/rust/rust-toolchain.toml"),
        ),
        template("README.md", include_str!("templates/rust/README.md")),
        template(
            "bulkhead.toml",
            include_str!("templates/rust/bulkhead.toml"),
        ),
        template(
            ".github/workflows/ci.yml",
            include_str!("templates/rust/ci.yml"),
        ),
        script(name, ""),
        Item::new(".gitignore", "/target\n/data\n*.wasm\n"),
        Item::new("vendor/bulkhead-sdk/Cargo.toml", sdk_manifest()),
    ];
    for file in RUST_DRIVER {
        items.push(Item::new(file.path, driver(file.text, name)));
    }
    for file in RUST_SDK {
        let path = format!("vendor/bulkhead-sdk/src/{}", file.path);
        items.push(Item::new(path, file.text));
    }
    for file in WIT {
        items.push(Item::new(format!("vendor/wit/{}", file.path), file.text));
    }
    items
}

/// A file of the driver, under the project's name.
fn driver(text: &str, name: &Name) -> String {
    text.replace(
        "//! Small and whole, so that it can be the first driver that one reads, and what `bulkhead new` begins with. The same driver\n\
         //! in Python stands in `channels/line-python`; both are held to the same tests.\n",
        "//! Made by `bulkhead new`: put your own protocol in its place, file by file. The tests say what a driver owes its host.\n",
    )
    .replace("LineDriver", &format!("{}Driver", name.camel))
    .replace("name: \"line\"", &format!("name: \"{}\"", name.kebab))
    .replace("use line::", &format!("use {}::", name.snake))
}

/// The lines of this repository's manifest that name the libraries.
fn libraries() -> String {
    let lines = WORKSPACE.lines().filter(|line| {
        let name = line.split_once(" = ").map(|(name, _)| name);
        name.is_some_and(|name| LIBRARIES.contains(&name))
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The manifest of the SDK, without what its own tests need.
fn sdk_manifest() -> &'static str {
    let end = RUST_SDK_MANIFEST.find("\n[dev-dependencies]");
    &RUST_SDK_MANIFEST[..end.unwrap_or(RUST_SDK_MANIFEST.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_has_its_version() {
        let lines = libraries();
        assert_eq!(lines.lines().count(), LIBRARIES.len(), "{lines}");
        for needed in sdk_manifest().lines() {
            if let Some((name, _)) = needed.split_once(".workspace = true")
                && !["version", "edition", "rust-version", "license", "publish"].contains(&name)
            {
                assert!(LIBRARIES.contains(&name), "{name}");
            }
        }
        assert!(!sdk_manifest().contains("proptest"));
    }

    #[test]
    fn the_driver_takes_the_projects_name() {
        let name = Name::parse("furnace-9").unwrap();
        let items = items(&name);
        let find = |path: &str| &items.iter().find(|item| item.path == path).unwrap().text;
        assert!(find("src/lib.rs").contains("export!(Furnace9Driver)"));
        assert!(find("src/lib.rs").contains("Made by `bulkhead new`"));
        assert!(find("src/driver.rs").contains("name: \"furnace-9\""));
        assert!(find("tests/driver.rs").contains("use furnace_9::Furnace9Driver"));
    }
}
