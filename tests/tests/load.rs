//! What is no driver is refused by name before anything of it runs.
#![expect(
    clippy::unwrap_used,
    reason = "in what only tests call, a panic is the failure of the test"
)]

use std::path::PathBuf;

use bulkhead::driver::{Driver, LoadError, VerifyError};
use bulkhead::limits::COMPONENT_BYTES;
use bulkhead_tests::components::{Core, World, sections};
use bulkhead_tests::guests::{driver_path, engine};

/// Loads a file with this content, under a name of its own.
fn load(name: &str, bytes: &[u8]) -> Result<Driver, LoadError> {
    let path = file(name);
    std::fs::write(&path, bytes).unwrap();
    let loaded = Driver::load(engine(), &path, None);
    std::fs::remove_file(&path).unwrap();
    loaded
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.wasm"))
}

/// Expects a refusal that names the file, the thing and a remedy.
fn check(name: &str, bytes: &[u8], kind: &str, message: &str) {
    match load(name, bytes) {
        Ok(_) => panic!("{name} was loaded"),
        Err(error) => check_error(name, &error, kind, message),
    }
}

fn check_error(name: &str, error: &LoadError, kind: &str, message: &str) {
    let said = error.to_string();
    let found = kind_of(error);
    assert_eq!(found, kind, "{name}: {said}");
    assert!(
        said.contains(message),
        "{name}: {said:?} does not say {message:?}"
    );
    assert!(
        said.contains(&format!("{name}.wasm")),
        "{name}: {said:?} does not name the file"
    );
    assert!(said.contains("; "), "{name}: {said:?} names no remedy");
    assert!(
        said.len() < 2000,
        "{name}: {} bytes are no message",
        said.len()
    );
}

fn kind_of(error: &LoadError) -> &'static str {
    match error {
        LoadError::Verify(VerifyError::Unreadable { .. }) => "unreadable",
        LoadError::Verify(VerifyError::Empty { .. }) => "empty",
        LoadError::Verify(VerifyError::TooLarge { .. }) => "too large",
        LoadError::Verify(VerifyError::WrongDigest { .. }) => "wrong digest",
        LoadError::Verify(VerifyError::WrongKind { .. }) => "wrong kind",
        LoadError::Verify(VerifyError::TooManyInstances { .. }) => "too many instances",
        LoadError::Verify(VerifyError::Invalid { .. }) => "invalid",
        LoadError::Compile { .. } => "compile",
        LoadError::CompileLimit { .. } => "compile limit",
        LoadError::CompilerBroke { .. } => "compiler broke",
        LoadError::Host { .. } => "host",
        LoadError::WrongVersion { .. } => "wrong version",
        LoadError::NoDriver { .. } => "no driver",
        LoadError::UnknownImport { .. } => "unknown import",
        LoadError::WrongSignature { .. } => "wrong signature",
    }
}

fn text(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_smallest_driver_loads() {
    load("smallest", &Core::default().component()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn other_files_are_refused_by_kind() {
    check("nothing", b"", "empty", "is empty");
    check(
        "core",
        &text("(module)"),
        "wrong kind",
        "a core WebAssembly module, not a component",
    );
    check(
        "text",
        Core::default().text().as_bytes(),
        "wrong kind",
        "WebAssembly text",
    );
    check(
        "text-of-component",
        b"\n  (component)",
        "wrong kind",
        "WebAssembly text",
    );
    check(
        "program",
        &std::fs::read("/proc/self/exe").unwrap()[..4096],
        "wrong kind",
        "ELF",
    );
    check(
        "picture",
        b"\x89PNG\r\n\x1a\n",
        "wrong kind",
        "not WebAssembly",
    );
    check("half-a-magic", b"\0as", "wrong kind", "not WebAssembly");
    check(
        "future",
        b"\0asm\x0e\0\x01\0",
        "wrong kind",
        "unknown version",
    );
}

#[test]
fn precompiled_code_never_runs() {
    let component = Core::default().component();
    let machine_code = wasmtime::Engine::default()
        .precompile_component(&component)
        .unwrap();
    check(
        "precompiled",
        &machine_code,
        "wrong kind",
        "precompiled code (.cwasm)",
    );
}

#[test]
fn what_is_not_there_is_refused() {
    for (name, path, kind, message) in [
        ("missing", file("missing"), "unreadable", "No such file"),
        (
            "folder",
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("folder.wasm"),
            "wrong kind",
            "not a file",
        ),
    ] {
        if name == "folder" {
            std::fs::create_dir_all(&path).unwrap();
        }
        let error = Driver::load(engine(), &path, None).err().unwrap();
        check_error(name, &error, kind, message);
    }
}

#[test]
fn a_pipe_is_refused_without_waiting_for_a_writer() {
    let path = file("pipe");
    drop(std::fs::remove_file(&path));
    let made = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    let error = Driver::load(engine(), &path, None).err().unwrap();
    check_error("pipe", &error, "wrong kind", "not a file");
}

#[test]
fn a_file_over_the_limit_is_refused() {
    let path = file("vast");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(COMPONENT_BYTES + 1)
        .unwrap();
    let error = Driver::load(engine(), &path, None).err().unwrap();
    std::fs::remove_file(&path).unwrap();
    check_error("vast", &error, "too large", "more than 67108864 bytes");
}

#[test]
fn a_pinned_file_must_be_the_pinned_one() {
    let signal = std::fs::read(driver_path("signal")).unwrap();
    let digest = bulkhead::driver::digest(&signal);
    let path = file("pinned");
    std::fs::write(&path, &signal).unwrap();
    Driver::load(engine(), &path, Some(&digest)).unwrap_or_else(|error| panic!("{error}"));

    // Still a good component: one byte of a name differs.
    let other = Core::default().component();
    std::fs::write(&path, other).unwrap();
    let error = Driver::load(engine(), &path, Some(&digest)).err().unwrap();
    check_error(
        "pinned",
        &error,
        "wrong digest",
        "but the configuration pins",
    );
}

#[test]
fn random_bytes_are_refused() {
    const SEED: u64 = 0x5eed_0001;
    println!("seed {SEED:#x}");
    let mut random = fastrand::Rng::with_seed(SEED);
    for round in 0..300 {
        let mut bytes = vec![0; random.usize(1..2000)];
        random.fill(&mut bytes);
        let kinds: &[&str] = if round % 2 == 0 {
            &["wrong kind"]
        } else {
            bytes.splice(0..0, *b"\0asm\x0d\0\x01\0");
            &["invalid"]
        };
        let error = load("random", &bytes).err().unwrap();
        assert!(kinds.contains(&kind_of(&error)), "round {round}: {error}");
    }
}

#[test]
fn a_truncated_driver_is_refused_wherever_it_ends() {
    let whole = Core::default().component();
    let boundaries = sections(&whole);
    assert!(boundaries.len() > 5, "{boundaries:?}");
    for end in 1..whole.len() {
        let loaded = load("truncated", &whole[..end]);
        match boundaries.iter().find(|(at, _)| *at == end) {
            // Nothing but names is missing.
            Some((_, true)) => assert!(loaded.is_ok(), "{end}"),
            Some((_, false)) => assert_eq!(
                loaded.err().map(|error| kind_of(&error)),
                Some("no driver"),
                "{end}"
            ),
            None => {
                let error = loaded.err().unwrap();
                assert!(
                    ["invalid", "wrong kind"].contains(&kind_of(&error)),
                    "{end}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_driver_with_a_flipped_bit_is_refused_or_loads_but_harms_nobody() {
    const SEED: u64 = 0x5eed_0002;
    println!("seed {SEED:#x}");
    let mut random = fastrand::Rng::with_seed(SEED);
    let whole = Core::default().component();
    let mut refused = 0;
    for _ in 0..500 {
        let mut bytes = whole.clone();
        let at = random.usize(8..bytes.len());
        bytes[at] ^= 1 << random.u32(0..8);
        refused += u32::from(load("flipped", &bytes).is_err());
    }
    assert!(refused > 250, "{refused} of 500 refused");
}

#[test]
fn another_world_is_refused_by_what_differs() {
    let core = Core::default();
    let other_version = core.text().replace("@0.1.0#", "@0.2.0#");
    let component = World::default()
        .edit(
            "package bulkhead:channel@0.1.0",
            "package bulkhead:channel@0.2.0",
        )
        .component(&other_version);
    check(
        "next-version",
        &component,
        "wrong version",
        "exports bulkhead:channel/driver@0.2.0",
    );

    check(
        "exports-nothing",
        &text("(component)"),
        "no driver",
        "it exports nothing",
    );
    let component = World::default()
        .edit("export driver;", "export run: func();")
        .component(r#"(module (memory (export "memory") 1) (func (export "run")))"#);
    check("another-program", &component, "no driver", "it exports run");

    let component = World::default()
        .package("package acme:plant@1.0.0; interface valve { open: func(); }")
        .edit("import log;", "import log; import acme:plant/valve@1.0.0;")
        .component(
            &Core {
                imports: r#"(import "acme:plant/valve@1.0.0" "open" (func))"#,
                ..core.clone()
            }
            .text(),
        );
    check(
        "wants-more",
        &component,
        "unknown import",
        "imports acme:plant/valve@1.0.0",
    );

    let component = World::default()
        .package("package wasi:http@0.2.0; interface types { send: func(); }")
        .edit("import log;", "import log; import wasi:http/types@0.2.0;")
        .component(
            &Core {
                imports: r#"(import "wasi:http/types@0.2.0" "send" (func))"#,
                ..core.clone()
            }
            .text(),
        );
    check(
        "wants-http",
        &component,
        "unknown import",
        "imports wasi:http/types@0.2.0",
    );

    let component = World::default()
        .edit(
            "write: func(level: level, message: string);",
            "write: func(level: level, message: string); read: func();",
        )
        .component(
            &Core {
                imports: r#"(import "bulkhead:channel/log@0.1.0" "read" (func))"#,
                ..core
            }
            .text(),
        );
    check(
        "wants-more-of-the-log",
        &component,
        "wrong signature",
        "read",
    );
}

#[test]
fn another_signature_is_refused() {
    let text = Core::default().text();
    let renamed = World::default().edit("turn: func(now: instant", "play: func(now: instant");
    check(
        "no-turn",
        &renamed.component(&text.replace("#turn", "#play")),
        "wrong signature",
        "turn",
    );

    let wrong = World::default().edit("events: list<event>)", "events: list<action>)");
    check(
        "other-parameter",
        &wrong.component(&text),
        "wrong signature",
        "turn",
    );

    // Variants are closed: one more case is another type.
    let wrong = World::default().edit(
        "health-done(health-done),",
        "health-done(health-done), explode,",
    );
    check(
        "one-more-action",
        &wrong.component(&text),
        "wrong signature",
        "turn",
    );

    let wrong = World::default().edit("up,\n        down,", "down,\n        up,");
    check(
        "other-order",
        &wrong.component(&text),
        "wrong signature",
        "turn",
    );
}

/// Wraps bytes as one section, `depth` times over: a component in a component in a component.
fn nested_components(depth: usize) -> Vec<u8> {
    const COMPONENT_SECTION: u8 = 4;
    const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    // Built backwards, so that no level copies the ones within.
    let mut backwards: Vec<u8> = HEADER.iter().rev().copied().collect();
    for _ in 0..depth {
        let mut size = backwards.len();
        let mut leb = Vec::new();
        loop {
            let more = size > 0x7f;
            leb.push((size & 0x7f) as u8 | if more { 0x80 } else { 0 });
            size >>= 7;
            if !more {
                break;
            }
        }
        backwards.extend(leb.iter().rev());
        backwards.push(COMPONENT_SECTION);
        backwards.extend(HEADER.iter().rev());
    }
    backwards.reverse();
    backwards
}

/// Types that are `depth` levels deep, each made of two of the one before where `doubling`.
fn nested_types(depth: usize, doubling: bool) -> String {
    let mut text = String::from("(component (type $t0 (list u8))");
    for level in 1..=depth {
        let below = level - 1;
        text += &match doubling {
            true => format!("(type $t{level} (tuple $t{below} $t{below}))"),
            false => format!("(type $t{level} (list $t{below}))"),
        };
    }
    text += &format!("(import \"f\" (func (param \"x\" $t{depth}))))");
    text
}

#[test]
fn what_is_too_deep_is_refused() {
    check(
        "components-in-components",
        &nested_components(100_000),
        "invalid",
        "exceeds limit of 1000",
    );
    check(
        "lists-of-lists",
        &text(&nested_types(10_000, false)),
        "invalid",
        "type nesting is too deep",
    );
    check(
        "pairs-of-pairs",
        &text(&nested_types(60, true)),
        "invalid",
        "effective type size exceeds the limit",
    );
}

#[test]
fn what_is_too_large_is_refused() {
    let with_memory = |memory| {
        Core {
            memory,
            ..Core::default()
        }
        .component()
    };
    check(
        "memory-of-4-gib",
        &with_memory(r#"(memory (export "memory") 65536)"#),
        "compile",
        "memory",
    );
    let with_fields = |fields: &str| {
        Core {
            fields,
            ..Core::default()
        }
        .component()
    };
    check(
        "memory-of-16-tib",
        &with_fields("(memory i64 0x10000000)"),
        "compile",
        "exceeds the limit",
    );
    check(
        "table-of-a-billion",
        &with_fields("(table 1000000000 funcref)"),
        "compile",
        "1000000000",
    );
    check(
        "ninety-memories",
        &with_fields(&"(memory 1)".repeat(90)),
        "compile",
        "memories count of 91",
    );
    check(
        "ninety-tables",
        &with_fields(&"(table 1 funcref)".repeat(90)),
        "compile",
        "tables count of 90",
    );
    let instances = "(core instance (instantiate $m))".repeat(900);
    check(
        "900-instances",
        &text(&format!("(component (core module $m) {instances})")),
        "compile",
        "900 core module",
    );
}

#[test]
fn a_few_bytes_that_stand_for_millions_of_instances_are_refused() {
    let ten = "(instance (instantiate $c))".repeat(10);
    let tower = |levels| {
        let mut tower =
            "(component $c (core module $m) (core instance (instantiate $m)))".to_owned();
        for _ in 0..levels {
            tower = format!("(component $c {tower} {ten})");
        }
        text(&format!("(component {tower} {ten})"))
    };
    check("tower-of-0", &tower(0), "no driver", "exports nothing");
    // 1 + 10 (1 + 10 * 2) passes the census; the pool has no room for its hundred modules.
    check(
        "tower-of-1",
        &tower(1),
        "compile",
        "100 core module instances",
    );
    check("tower-of-2", &tower(2), "too many instances", "2111");
    check("tower-of-8", &tower(8), "too many instances", "2111111111");
    check(
        "tower-of-30",
        &tower(30),
        "too many instances",
        "18446744073709551615",
    );

    // The same through an alias of a component further out, and through an export.
    let alias = text(&format!(
        "(component (component $a (core module $m) {})
            (component $b (alias outer 1 $a (component $c)) {ten})
            (export $d \"d\" (component $b)) {})",
        "(core instance (instantiate $m))".repeat(50),
        "(instance (instantiate $d))".repeat(10),
    ));
    check("alias", &alias, "too many instances", "5111");
    // What is handed in could be anything.
    let handed_in = text(
        r#"(component (component $a) (component $b (import "c" (component $c)) (instance (instantiate $c)))
            (instance (instantiate $b (with "c" (component $a)))))"#,
    );
    check(
        "handed-in",
        &handed_in,
        "invalid",
        "a component that it does not define itself",
    );
}
