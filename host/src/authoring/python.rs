//! A project in Python: a package, with the SDK beside it on the path.

use super::embedded::{
    PYTHON_DRIVER, PYTHON_GENERATED, PYTHON_REQUIREMENTS, PYTHON_SDK, PYTHON_TYPES, WIT,
};
use super::project::{Item, Name, fill, script};

/// What Python's library imports, whether it is used or not. The host gives none of it.
const IMPORTS: &str = "allow-import wasi:sockets/\n";

/// Every file of the project.
pub(super) fn items(name: &Name) -> Vec<Item> {
    let template = |path: &str, text: &str| Item::new(path, fill(text, name));
    let mut items = vec![
        template(
            "pyproject.toml",
            include_str!("templates/python/pyproject.toml.in"),
        ),
        Item::new("requirements.txt", PYTHON_REQUIREMENTS),
        template("README.md", include_str!("templates/python/README.md")),
        template(
            "bulkhead.toml",
            include_str!("templates/python/bulkhead.toml"),
        ),
        template(
            ".github/workflows/ci.yml",
            include_str!("templates/python/ci.yml"),
        ),
        script(name, IMPORTS),
        Item::new(".gitignore", "/.venv\n/data\n__pycache__/\n*.wasm\n"),
        Item::new("vendor/componentize_py_types.py", PYTHON_GENERATED),
        Item::new("vendor/bulkhead_sdk/py.typed", ""),
    ];
    for file in PYTHON_DRIVER {
        let path = file.path.replacen("line/", &format!("{}/", name.snake), 1);
        items.push(Item::new(path, driver(file.text, name)));
    }
    for (folder, files) in [
        ("bulkhead_sdk", PYTHON_SDK),
        ("wit_world", PYTHON_TYPES),
        ("wit", WIT),
    ] {
        for file in files {
            items.push(Item::new(
                format!("vendor/{folder}/{}", file.path),
                file.text,
            ));
        }
    }
    items
}

/// A file of the driver, under the project's name.
fn driver(text: &str, name: &Name) -> String {
    text.replace(
        "Small and whole, so that it can be the first driver that one reads, and what `bulkhead new` begins with. The same driver in Rust \
         stands\nin `channels/line`.\n",
        "Made by `bulkhead new`: put your own protocol in its place, file by file. The tests say what a driver owes its host.\n",
    )
    .replace("LineDriver", &format!("{}Driver", name.camel))
    .replace("name=\"line-python\"", &format!("name=\"{}\"", name.kebab))
    .replace("from line.", &format!("from {}.", name.snake))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_takes_the_projects_name() {
        let name = Name::parse("furnace-9").unwrap();
        let items = items(&name);
        let find = |path: &str| &items.iter().find(|item| item.path == path).unwrap().text;
        assert!(find("furnace_9/__init__.py").contains("Component = export(Furnace9Driver)"));
        assert!(find("furnace_9/__init__.py").contains("Made by `bulkhead new`"));
        assert!(find("furnace_9/driver.py").contains("name=\"furnace-9\""));
        assert!(
            find("tests/test_driver.py").contains("from furnace_9.driver import Furnace9Driver")
        );
        assert!(find("pyproject.toml").contains("module = \"furnace_9\""));
    }
}
