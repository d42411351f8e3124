//! Cases 1 to 17: files that are no drivers, or not those that were meant. Each is met by a host that starts, beside a good
//! channel, while another host runs: it ends with one message for each file, and takes no more memory than looking takes.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bulkhead_tests::components::{Core, World, sections};
use bulkhead_tests::{Folder, guests};
use serde_json::Value;

use crate::plant::{HOST_MIB, Plant, is_in_state};

/// The largest file that is looked at, in MiB.
const FILE_MIB: u64 = 64;

/// A file, and what the host is to say of it.
struct Bad {
    name: String,
    content: Content,
    says: &'static str,
    sha256: Option<&'static str>,
}

enum Content {
    Bytes(Vec<u8>),
    /// So many zeros, which take no space.
    Hole(u64),
}

fn bad(name: impl Into<String>, bytes: impl Into<Vec<u8>>, says: &'static str) -> Bad {
    Bad {
        name: name.into(),
        content: Content::Bytes(bytes.into()),
        says,
        sha256: None,
    }
}

/// One that would be good.
fn good() -> Vec<u8> {
    Core::default().component()
}

fn text(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}"))
}

/// Drivers that end before they have said what they are.
pub(crate) fn refused_at_once(
    name: &'static str,
    component: Vec<u8>,
    says: &'static str,
) -> Result<()> {
    refused(&[bad(name, component, says)])
}

/// Expects a start with these drivers to be refused, with a message for each, and nobody else to notice.
fn refused(files: &[Bad]) -> Result<()> {
    let plant = Plant::start(&[])?;
    let folder = Folder::new()?;
    let mut toml = "[[channel]]\nid = \"good\"\ndriver = \"$DRIVERS/signal.wasm\"\n".to_owned();
    for Bad {
        name,
        content,
        sha256,
        ..
    } in files
    {
        let file = format!("{name}.wasm");
        match content {
            Content::Bytes(bytes) => drop(folder.write(&file, bytes)?),
            Content::Hole(size) => fs::File::create(folder.path().join(&file))?.set_len(*size)?,
        }
        let pin = sha256.map_or_else(String::new, |digest| format!("sha256 = \"{digest}\"\n"));
        toml += &format!("[[channel]]\nid = \"{name}\"\ndriver = \"$DIR/{file}\"\n{pin}");
    }
    folder.write_config(&toml)?;

    let running = folder.start(&["run", Folder::CONFIG])?;
    let peak_kib = peak_until_end(running.id());
    let ended = running.wait()?;
    let printed = ended.err.join("\n");
    assert_eq!(ended.code(), Some(1), "{printed}");
    assert!(
        !printed.contains("panicked") && !printed.contains("ready:"),
        "{printed}"
    );
    println!("resident at most: {peak_kib} KiB");
    let bound_kib = 1024 * (FILE_MIB + HOST_MIB);
    assert!(peak_kib <= bound_kib, "{peak_kib} KiB were resident");

    let ended = folder.run(&["check", "--json", Folder::CONFIG])?;
    let report: Value = serde_json::from_str(&ended.out.join(""))?;
    let faults = report["faults"].as_array().context("a list of faults")?;
    assert_eq!(faults.len(), files.len(), "{report:#}");
    for (fault, Bad { name, says, .. }) in faults.iter().zip(files) {
        let message = fault["message"].as_str().context("a message")?;
        let whole = message.contains(&format!("{name}.wasm")) && message.contains("; ");
        assert!(
            whole && message.contains(says),
            "{name}: {message:?} does not say {says:?}"
        );
        assert!(message.len() < 2000, "{name}: that is no message");
        assert!(printed.contains(says), "{name}: {printed}");
    }
    plant.neighbours_go_on()?;
    plant.end()
}

/// The most memory that a process held until it ended, in KiB, as far as it can be seen from outside.
fn peak_until_end(pid: u32) -> u64 {
    let mut peak = 0;
    while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(number) = line.and_then(|line| line.split_whitespace().next()) else {
            break; // It has ended, and nobody has looked at its exit code yet.
        };
        peak = number.parse().expect("a number");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    peak
}

#[test]
fn an_empty_file() -> Result<()> {
    refused(&[bad("01-empty", b"", "is empty")])
}

#[test]
fn random_bytes() -> Result<()> {
    const SEED: u64 = 0x5eed_0003;
    println!("seed {SEED:#x}");
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut noise = |begin: &[u8]| {
        let mut bytes = vec![0; 2000];
        random.fill(&mut bytes);
        [begin, &bytes].concat()
    };
    refused(&[
        bad("02-noise", noise(b"x"), "not WebAssembly"),
        bad(
            "02-noise-in-a-component",
            noise(b"\0asm\x0d\0\x01\0"),
            "not a valid component",
        ),
    ])
}

#[test]
fn a_file_that_ends_at_a_section() -> Result<()> {
    let whole = good();
    let cut = sections(&whole)
        .into_iter()
        // What is lost with custom sections is nothing but names.
        .filter(|(_, only_custom)| !only_custom)
        .map(|(end, _)| bad(format!("03-cut-{end}"), &whole[..end], "is no driver"));
    let cut: Vec<Bad> = cut.collect();
    assert!(cut.len() > 5, "{} sections", cut.len());
    refused(&cut)
}

#[test]
fn a_file_over_the_limit() -> Result<()> {
    refused(&[Bad {
        content: Content::Hole((FILE_MIB << 20) + 1),
        ..bad("04-vast", b"", "has more than 67108864 bytes")
    }])
}

#[test]
fn a_core_module() -> Result<()> {
    refused(&[bad(
        "05-core",
        text("(module)"),
        "a core WebAssembly module, not a component",
    )])
}

#[test]
fn precompiled_code() -> Result<()> {
    let code = wasmtime::Engine::default()
        .precompile_component(&good())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    refused(&[bad("06-precompiled", code, "precompiled code (.cwasm)")])
}

#[test]
fn webassembly_text() -> Result<()> {
    refused(&[bad(
        "07-text",
        Core::default().text().as_bytes(),
        "WebAssembly text",
    )])
}

#[test]
fn an_unknown_import() -> Result<()> {
    let core = Core {
        imports: r#"(import "acme:plant/valve@1.0.0" "open" (func))"#,
        ..Core::default()
    };
    let component = World::default()
        .package("package acme:plant@1.0.0; interface valve { open: func(); }")
        .edit("import log;", "import log; import acme:plant/valve@1.0.0;")
        .component(&core.text());
    refused(&[bad(
        "08-wants-more",
        component,
        "imports acme:plant/valve@1.0.0",
    )])
}

#[test]
fn another_version_of_the_world() -> Result<()> {
    let next = Core::default().text().replace("@0.1.0#", "@0.2.0#");
    let component = World::default()
        .edit(
            "package bulkhead:channel@0.1.0",
            "package bulkhead:channel@0.2.0",
        )
        .component(&next);
    refused(&[bad(
        "09-next-version",
        component,
        "exports bulkhead:channel/driver@0.2.0",
    )])
}

#[test]
fn a_missing_export() -> Result<()> {
    let play = World::default().edit("turn: func(now: instant", "play: func(now: instant");
    let without = play.component(&Core::default().text().replace("#turn", "#play"));
    refused(&[
        bad("10-exports-nothing", text("(component)"), "exports nothing"),
        bad("10-without-turn", without, "turn"),
    ])
}

#[test]
fn an_export_with_another_signature() -> Result<()> {
    let core = Core::default().text();
    let other = World::default().edit("events: list<event>)", "events: list<action>)");
    let more = World::default().edit(
        "health-done(health-done),",
        "health-done(health-done), explode,",
    );
    refused(&[
        bad("11-other-parameter", other.component(&core), "turn"),
        bad("11-one-more-case", more.component(&core), "turn"),
    ])
}

#[test]
fn types_that_nest_deeply() -> Result<()> {
    let nested = |depth: usize, make: fn(usize) -> String| {
        let levels: String = (1..=depth)
            .map(|level| format!("(type $t{level} {})", make(level - 1)))
            .collect();
        text(&format!(
            "(component (type $t0 (list u8)) {levels} (import \"f\" (func (param \"x\" $t{depth}))))"
        ))
    };
    refused(&[
        bad(
            "13-lists",
            nested(10_000, |below| format!("(list $t{below})")),
            "type nesting is too deep",
        ),
        bad(
            "13-pairs",
            nested(60, |below| format!("(tuple $t{below} $t{below})")),
            "effective type size exceeds the limit",
        ),
    ])
}

/// The good driver with further fields.
fn with(fields: &str) -> Vec<u8> {
    Core {
        fields,
        ..Core::default()
    }
    .component()
}

#[test]
fn a_huge_memory_or_table() -> Result<()> {
    refused(&[
        bad("14-memory", with("(memory 65536)"), "memor"),
        bad("14-memory-64", with("(memory i64 0x10000000)"), "memor"),
        bad("14-table", with("(table 1000000000 funcref)"), "1000000000"),
    ])
}

#[test]
fn thousands_of_instances_or_memories() -> Result<()> {
    let instances = "(core instance (instantiate $m))".repeat(5_000);
    refused(&[
        bad(
            "15-instances",
            text(&format!("(component (core module $m) {instances})")),
            "instances count exceeds limit of 4096",
        ),
        bad(
            "15-memories",
            with(&"(memory 1)".repeat(90)),
            "memories count of 91",
        ),
    ])
}

#[test]
fn a_file_that_is_not_the_pinned_one() -> Result<()> {
    refused(&[Bad {
        sha256: Some("5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"),
        ..bad("16-another", good(), "but the configuration pins 5feceb66")
    }])
}

#[test]
fn a_file_that_is_swapped_after_it_was_verified() -> Result<()> {
    let folder = Folder::new()?;
    let path: PathBuf = folder.path().join("signal.wasm");
    fs::copy(guests::driver_path("signal"), &path)?;
    let plant = Plant::start_in(
        folder,
        r#"
        [[channel]]
        id = "17-swapped"
        driver = "$DIR/signal.wasm"
        enabled = false
        [[channel.group]]
        name = "all"
        period = "50ms"
        tags = [{ name = "wave", address = "sine", type = "float64" }]
        "#,
    )?;
    let id = "17-swapped";
    plant.within_bounds(id, 32, || {
        for (life, content) in [
            (1, b"\0asm\x01\0\0\0".as_slice()),
            (2, b"(component)"),
            (3, b""),
        ] {
            // Written over, and removed: what runs is what was verified.
            fs::write(&path, content)?;
            if content.is_empty() {
                fs::remove_file(&path)?;
            }
            plant.order(id, if life == 1 { "start" } else { "restart" })?;
            plant
                .recorder
                .wait("it publishes in each of its lives", |seen| {
                    seen.iter().any(|(name, data)| {
                        name == "sample"
                            && data["channel"] == *id
                            && data["incarnation"] == life
                            && data["quality"] == "good"
                    })
                })?;
        }
        plant.neighbours_go_on()
    })?;
    let seen = plant.recorder.so_far();
    assert_eq!(crate::plant::exits(&seen, id), Vec::<&Value>::new());
    assert!(is_in_state(&seen, id, "running"));
    plant.end()
}
