//! Components made in a test from a little WebAssembly text: what no compiler would make.
//!
//! A [`Core`] is a module with the three functions of a driver; each body can be replaced. The world that it claims
//! to fit is the one of `wit/`, or an edited copy.

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, SourceMap};

use crate::paths::root;

/// The bodies of a core module. The default is a driver that does nothing, in good order.
#[derive(Clone, Debug)]
pub struct Core<'a> {
    /// Imports: before everything else.
    pub imports: &'a str,
    /// The memory, exported as `memory`.
    pub memory: &'a str,
    /// Other fields: functions, data, globals, a start function.
    pub fields: &'a str,
    /// Gives a pointer to a `driver-info`. A pointer to zeros is one with empty texts.
    pub describe: &'a str,
    /// Gives a pointer to the answer; zeros are `ok`.
    pub configure: &'a str,
    /// Gives a pointer to the answer; zeros are `ok` with no action.
    pub turn: &'a str,
    /// Gives the address of `(param $old i32) (param $old_size i32) (param $align i32) (param $size i32)`.
    pub realloc: &'a str,
}

/// Where sixty-four zeros are.
const ZEROS: &str = "i32.const 1024";

impl Default for Core<'_> {
    fn default() -> Self {
        Self {
            imports: "",
            memory: r#"(memory (export "memory") 4)"#,
            fields: "",
            describe: ZEROS,
            configure: ZEROS,
            turn: ZEROS,
            // Rounds up to eight, and never gives back.
            realloc: "(global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                global.get $heap
                (global.set $heap (i32.add (global.get $heap) (local.get $size)))",
        }
    }
}

impl Core<'_> {
    /// As WebAssembly text.
    pub fn text(&self) -> String {
        let Self {
            imports,
            memory,
            fields,
            describe,
            configure,
            turn,
            realloc,
        } = self;
        let ten = "i32 ".repeat(10);
        let driver = "bulkhead:channel/driver@0.1.0";
        format!(
            r#"(module
                {imports}
                {memory}
                (global $heap (mut i32) (i32.const 65536))
                {fields}
                (func $realloc (export "cabi_realloc")
                    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
                    {realloc})
                (func $describe (export "{driver}#describe") (result i32) {describe})
                (func $configure (export "{driver}#configure") (param {ten}) (result i32) {configure})
                (func $turn (export "{driver}#turn") (param i64 i64 i32 i32) (result i32) {turn})
            )"#
        )
    }

    /// As a component of the world `channel`.
    pub fn component(&self) -> Vec<u8> {
        World::default().component(&self.text())
    }
}

/// The WIT of `wit/`, or an edited copy.
#[derive(Default)]
pub struct World {
    edits: Vec<(&'static str, &'static str)>,
    other_packages: Vec<&'static str>,
}

impl World {
    /// Replaces a text in every file. It must occur.
    #[must_use]
    pub fn edit(mut self, from: &'static str, to: &'static str) -> Self {
        self.edits.push((from, to));
        self
    }

    /// Adds a package besides.
    #[must_use]
    pub fn package(mut self, wit: &'static str) -> Self {
        self.other_packages.push(wit);
        self
    }

    /// Makes a component of this world from a module in WebAssembly text.
    pub fn component(&self, text: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        for (at, package) in self.other_packages.iter().enumerate() {
            resolve
                .push_source(&format!("other-{at}.wit"), package)
                .expect("good WIT");
        }
        let package = resolve.push_group(
            self.sources()
                .parse()
                .map_err(|(_, error)| error)
                .expect("good WIT"),
        );
        let world = resolve
            .select_world(&[package.expect("good WIT")], Some("channel"))
            .expect("the world");
        let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
        wit_component::embed_component_metadata(
            &mut module,
            &resolve,
            world,
            StringEncoding::UTF8,
            false,
        )
        .expect("the world can be embedded");
        let encoded = ComponentEncoder::default()
            .module(&module)
            .and_then(|encoder| encoder.encode());
        encoded.unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn sources(&self) -> SourceMap {
        let mut unused = self.edits.clone();
        let mut sources = SourceMap::default();
        let mut files: Vec<_> = std::fs::read_dir(root().join("wit"))
            .expect("wit/")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        for file in files {
            let mut wit = std::fs::read_to_string(&file).expect("WIT is text");
            for (from, to) in &self.edits {
                if wit.contains(from) {
                    unused.retain(|(unused, _)| unused != from);
                    wit = wit.replace(from, to);
                }
            }
            sources.push(&file, wit);
        }
        assert!(unused.is_empty(), "{unused:?} does not occur in wit/");
        sources
    }
}
