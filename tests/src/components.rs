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

/// Where more zeros are than any answer has bytes.
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
        let twelve = "i32 ".repeat(12);
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
                (func $configure (export "{driver}#configure") (param {twelve}) (result i32) {configure})
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

/// The size of an `action` in the canonical ABI: 8 for the discriminant, 48 for the largest payload.
const ACTION_BYTES: usize = 56;

/// A list of actions that lies at 2048, as `(discriminant, payload words)` each: a field of a [`Core`], and how many.
pub fn returns(actions: &[(u8, &[u32])]) -> (String, u32) {
    let mut data = String::new();
    for (discriminant, payload) in actions {
        let mut bytes = vec![*discriminant, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(payload.iter().flat_map(|word| word.to_le_bytes()));
        bytes.resize(ACTION_BYTES, 0);
        data += &bytes
            .iter()
            .map(|byte| format!("\\{byte:02x}"))
            .collect::<String>();
    }
    (
        format!("(data (i32.const 2048) \"{data}\")"),
        actions.len() as u32,
    )
}

/// The body of a turn that answers `ok(list)` at 1024, with this pointer and length.
pub fn list(pointer: u32, length: u32) -> String {
    format!(
        "(i32.store (i32.const 1028) (i32.const {pointer})) (i32.store (i32.const 1032) (i32.const {length})) i32.const 1024",
        pointer = pointer as i32,
        length = length as i32
    )
}

/// A driver with a turn that can call `$subscribe` (nanoseconds to a pollable of `wasi:io`), `$block` and `$drop`.
pub fn with_pollables(turn: &str) -> Vec<u8> {
    const IO: &str =
        "package wasi:io@0.2.0; interface poll { resource pollable { block: func(); } }";
    const CLOCKS: &str = "package wasi:clocks@0.2.0;
        interface monotonic-clock { use wasi:io/poll@0.2.0.{pollable}; subscribe-duration: func(nanos: u64) -> pollable; }";
    let imports = r#"
        (import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
        (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
        (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))"#;
    let core = Core {
        imports,
        turn,
        ..Core::default()
    };
    World::default()
        .package(IO)
        .package(CLOCKS)
        .edit(
            "import log;",
            "import log; import wasi:io/poll@0.2.0; import wasi:clocks/monotonic-clock@0.2.0;",
        )
        .component(&core.text())
}

/// A driver that makes a resource of its own in each turn and drops it. The body is the resource's destructor.
pub fn with_destructor(body: &str) -> Vec<u8> {
    const BOMB: &str = "package acme:bomb@1.0.0; interface bomb { resource charge; }";
    let fields =
        format!(r#"(func (export "acme:bomb/bomb@1.0.0#[dtor]charge") (param i32) {body})"#);
    let core = Core {
        imports: r#"
            (import "[export]acme:bomb/bomb@1.0.0" "[resource-new]charge" (func $new (param i32) (result i32)))
            (import "[export]acme:bomb/bomb@1.0.0" "[resource-drop]charge" (func $drop (param i32)))"#,
        fields: &fields,
        turn: "(call $drop (call $new (i32.const 7))) i32.const 1024",
        ..Core::default()
    };
    World::default()
        .package(BOMB)
        .edit(
            "export driver;",
            "export driver; export acme:bomb/bomb@1.0.0;",
        )
        .component(&core.text())
}

/// A component with a further core module, in so many instances.
pub fn with_module(component: &[u8], module: &str, instances: u8) -> Vec<u8> {
    const CORE_MODULE: u8 = 1;
    const CORE_INSTANCE: u8 = 2;
    let module = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}"));
    let modules = sections(component)
        .into_iter()
        .filter(|(at, _)| component[*at] == CORE_MODULE);
    let index = modules.count() as u8;
    let mut list = vec![instances];
    for _ in 0..instances {
        // Instantiate; which module; with nothing.
        list.extend([0, index, 0]);
    }
    [
        component,
        &section(CORE_MODULE, &module),
        &section(CORE_INSTANCE, &list),
    ]
    .concat()
}

/// Where each section of a component begins, and whether all from there on are custom ones.
pub fn sections(component: &[u8]) -> Vec<(usize, bool)> {
    let mut at = 8;
    let mut found = Vec::new();
    while at < component.len() {
        let custom = component[at] == 0;
        found.push((at, custom));
        let (mut size, mut shift, mut next) = (0_usize, 0, at + 1);
        loop {
            let byte = component[next];
            size |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            next += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at = next + size;
    }
    assert_eq!(at, component.len());
    for index in (0..found.len().saturating_sub(1)).rev() {
        found[index].1 &= found[index + 1].1;
    }
    found
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![id];
    let mut size = content.len();
    while size > 0x7f {
        section.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    section.push(size as u8);
    section.extend_from_slice(content);
    section
}
