//! Drivers are compiled in a child that has limits of its own; the host itself never compiles.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead::config::CompileLimits;
use bulkhead::driver::{Driver, LoadError};
use bulkhead::engine::{Compiler, Engine, EngineOptions, Pool};
use bulkhead_tests::components::Core;
use bulkhead_tests::{Folder, PATIENCE, paths};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A small driver whose name (a custom section, say) makes it another one for the cache.
fn small(mark: u32) -> Vec<u8> {
    let fields = format!("(global i32 (i32.const {mark}))");
    Core {
        fields: &fields,
        ..Core::default()
    }
    .component()
}

/// A driver of a few megabytes that takes a compiler many seconds of processor time and hundreds of megabytes.
fn laborious() -> Vec<u8> {
    let mut functions = String::new();
    for number in 0..1_000 {
        write!(
            functions,
            "(func $f{number} (param i32) (result i32) (local i32 i32 i32 i32)"
        )
        .expect("a string takes it");
        for step in 0..200 {
            let (to, from) = (1 + step % 4, 1 + (step + 1) % 4);
            write!(
                functions,
                "(if (i32.lt_s (local.get {from}) (i32.const {step})) (then (local.set {to} (i32.add (local.get 0) (local.get {from})))) \
                 (else (local.set {to} (i32.mul (local.get {to}) (i32.const {number})))))"
            )
            .expect("a string takes it");
        }
        functions += "local.get 1)";
    }
    Core {
        fields: &functions,
        ..Core::default()
    }
    .component()
}

fn options(folder: &Folder, compiler: Compiler) -> EngineOptions {
    EngineOptions {
        pool: Pool::even(4, 64 << 20),
        cache_dir: folder.path().join("cache"),
        compiler,
        compile: CompileLimits::default(),
    }
}

fn child() -> Compiler {
    Compiler::Child(paths::bulkhead().expect("the binary was built"))
}

/// A compiler that is not there: whoever gets along with it compiled nothing.
fn no_child() -> Compiler {
    Compiler::Child(PathBuf::from("/nowhere/bulkhead"))
}

/// All files in the cache.
fn cached(folder: &Folder) -> Vec<PathBuf> {
    fn walk(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                walk(&entry.path(), found);
            } else if entry.path().extension().is_none() {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    walk(&folder.path().join("cache"), &mut found);
    found
}

#[test]
fn a_child_compiles_once_and_the_host_never() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write("small.wasm", small(1))?;

    let first = Engine::new(&options(&folder, child()))?;
    let driver = Driver::load(&first, &path, None)?;
    assert!(!driver.is_from_cache());
    assert_eq!(first.cache_misses_and_hits(), (0, 1), "misses and hits");
    assert_eq!(cached(&folder).len(), 1, "{:?}", cached(&folder));
    let mode = folder.path().join("cache").metadata()?.permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let left = fs::read_dir(folder.path().join("cache/compiling"))?.count();
    assert_eq!(left, 0, "folders of children");

    // The next start of the host needs no child.
    let second = Engine::new(&options(&folder, no_child()))?;
    let driver = Driver::load(&second, &path, None)?;
    assert!(driver.is_from_cache());
    assert_eq!(second.cache_misses_and_hits(), (0, 1), "misses and hits");

    // It could not compile if it wanted to.
    let error = second
        .wasmtime()
        .precompile_component(&small(2))
        .unwrap_err();
    assert!(error.to_string().contains("compiler"), "{error:#}");
    Ok(())
}

#[test]
fn what_is_not_in_the_cache_is_a_fault_of_the_host_and_not_compiled_in_it() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write("small.wasm", small(3))?;
    let engine = Engine::new(&options(&folder, no_child()))?;
    let error = Driver::load(&engine, &path, None)
        .err()
        .context("it was loaded")?;
    assert!(matches!(error, LoadError::Host { .. }), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("/nowhere/bulkhead") && said.contains("fault of the host"),
        "{said}"
    );

    // A child that says it is done, and is not.
    let liar = script(&folder, "liar", "cat > /dev/null; echo '\"done\"'")?;
    let engine = Engine::new(&options(&folder, Compiler::Child(liar)))?;
    let error = Driver::load(&engine, &path, None)
        .err()
        .context("it was loaded")?;
    assert!(matches!(error, LoadError::Host { .. }), "{error:?}");
    assert!(error.to_string().contains("does not find"), "{error}");
    assert_eq!(engine.cache_misses_and_hits(), (0, 0), "misses and hits");
    assert_eq!(cached(&folder), Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn code_that_was_damaged_is_compiled_anew() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write("small.wasm", small(4))?;
    let engine = Engine::new(&options(&folder, child()))?;
    Driver::load(&engine, &path, None)?;
    let cached = cached(&folder).pop().context("it is in the cache")?;
    let whole = fs::read(&cached)?;
    for damaged in [&whole[..whole.len() / 2], b"", b"\x7fELF and so on"] {
        fs::write(&cached, damaged)?;
        let engine = Engine::new(&options(&folder, child()))?;
        let driver = Driver::load(&engine, &path, None)?;
        assert!(!driver.is_from_cache(), "{} bytes", damaged.len());
        assert_eq!(engine.cache_misses_and_hits(), (0, 1), "misses and hits");
    }
    Ok(())
}

/// Case 12: a component that takes too much to compile.
#[test]
fn a_component_that_takes_too_much_to_compile_is_refused_by_what_it_takes() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write("laborious.wasm", laborious())?;
    let enough = CompileLimits {
        memory: 16 << 30,
        processor_time: Duration::from_secs(3600),
        time: Duration::from_secs(3600),
    };
    let limits = [
        (
            CompileLimits {
                memory: 128 << 20,
                ..enough.clone()
            },
            "more than 128 MiB of memory",
            "host.compile.memory",
        ),
        (
            CompileLimits {
                processor_time: Duration::from_secs(1),
                ..enough.clone()
            },
            "more than 1 s of processor time",
            "host.compile.processor_time",
        ),
        (
            CompileLimits {
                time: Duration::from_millis(1500),
                ..enough
            },
            "more than 1 s to compile",
            "host.compile.time",
        ),
    ];
    for (compile, what, remedy) in limits {
        let options = EngineOptions {
            compile,
            ..options(&folder, child())
        };
        let engine = Engine::new(&options)?;
        let error = Driver::load(&engine, &path, None)
            .err()
            .context("it was loaded")?;
        let said = error.to_string();
        assert!(
            matches!(error, LoadError::CompileLimit { .. }),
            "{what}: {said}"
        );
        assert!(
            said.contains(what) && said.contains(remedy) && said.contains("laborious.wasm"),
            "{said}"
        );
        // Nothing is left of it, and the same engine goes on with others.
        assert_eq!(cached(&folder), Vec::<PathBuf>::new());
        let small_path = folder.write("small.wasm", small(5))?;
        assert!(!Driver::load(&engine, &small_path, None)?.is_from_cache());
        fs::remove_dir_all(folder.path().join("cache"))?;
    }
    Ok(())
}

/// Case 17: a file that is exchanged between verification and load.
#[test]
fn what_was_verified_is_what_is_compiled_and_loaded() -> Result<()> {
    let folder = Folder::new()?;
    let (good, evil) = (small(6), small(7));
    let path = folder.write("driver.wasm", &good)?;
    folder.write("evil.wasm", &evil)?;
    let swap = format!(
        "cp {0}/evil.wasm {0}/driver.wasm\nexec {1} \"$@\"",
        folder.path().display(),
        paths::bulkhead()?.display()
    );
    let swapping = Compiler::Child(script(&folder, "swapping", &swap)?);
    let engine = Engine::new(&options(&folder, swapping))?;
    let digest = bulkhead::driver::digest(&good);
    let driver = Driver::load(&engine, &path, Some(&digest))?;
    assert_eq!(fs::read(&path)?, evil, "it was exchanged");
    assert_eq!(driver.size(), good.len() as u64);

    // What is in the cache is the good one.
    let engine = Engine::new(&options(&folder, no_child()))?;
    fs::write(&path, &good)?;
    assert!(Driver::load(&engine, &path, Some(&digest))?.is_from_cache());
    fs::write(&path, &evil)?;
    let error = Driver::load(&engine, &path, None)
        .err()
        .context("it was loaded")?;
    assert!(matches!(error, LoadError::Host { .. }), "{error}");
    Ok(())
}

fn script(folder: &Folder, name: &str, body: &str) -> Result<PathBuf> {
    let path = folder.write(name, format!("#!/bin/sh\n{body}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

/// A configuration with a driver that compiles for long.
const SLOW: &str = r#"
    [host]
    data_dir = "$DIR/own"
    [[channel]]
    id = "slow"
    driver = "$DIR/laborious.wasm"
"#;
/// And one that does not.
const GOOD: &str = r#"
    [[channel]]
    id = "good"
    driver = "$DIR/small.wasm"
"#;

fn slow(more: &str) -> Result<Folder> {
    let folder = Folder::new()?;
    folder.write("laborious.wasm", laborious())?;
    folder.write_config(&format!("{SLOW}{more}"))?;
    Ok(folder)
}

#[test]
fn the_operator_is_told_which_limit_and_which_key() -> Result<()> {
    let folder = slow(&format!("{GOOD}[host.compile]\ntime = \"1s\"\n"))?;
    folder.write("small.wasm", small(8))?;
    let ended = folder.run(&["check", Folder::CONFIG, "--json"])?;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.out.concat())?;
    let faults = report["faults"].as_array().context("faults")?;
    assert_eq!(faults.len(), 1, "{report:#}");
    assert_eq!(faults[0]["at"], "channel slow, driver", "{report:#}");
    let message = faults[0]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("more than 1 s to compile") && message.contains("host.compile.time"),
        "{message}"
    );
    Ok(())
}

/// The children of a process.
fn children(parent: u32) -> Vec<u32> {
    let tasks = format!("/proc/{parent}/task");
    let lists = fs::read_dir(tasks).into_iter().flatten().flatten();
    lists
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            let ids: Vec<u32> = list
                .split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect();
            ids
        })
        .collect()
}

/// Whether it runs: neither gone nor waiting to be reaped.
fn runs(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T> {
    const STEP: Duration = Duration::from_millis(5);
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        if let Some(found) = found() {
            return Ok(found);
        }
        thread::sleep(STEP);
    }
    anyhow::bail!("{what}: not within {PATIENCE:?}")
}

/// The child that compiles, once it is one.
fn compiling_child(parent: u32) -> Result<u32> {
    until("a child compiles", || {
        let found = children(parent);
        let child = *found.first()?;
        let command = fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
        command.contains("compile-component").then_some(child)
    })
}

#[test]
fn a_child_dies_with_its_host() -> Result<()> {
    let folder = slow("")?;
    let running = folder.start(&["check", Folder::CONFIG])?;
    let child = compiling_child(running.id())?;
    assert!(runs(child));
    // SIGKILL: it can say nothing to its child.
    drop(running);
    until("the child is gone", || (!runs(child)).then_some(()))?;

    // What it left behind is gone with the next start.
    let compiling = folder.path().join("own/cache/compiling");
    assert_eq!(fs::read_dir(&compiling)?.count(), 1);
    folder.write("laborious.wasm", small(9))?;
    let ended = folder.run(&["check", Folder::CONFIG])?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(fs::read_dir(&compiling)?.count(), 0);
    Ok(())
}

#[test]
fn a_child_that_is_ended_by_a_signal_is_reported_with_it() -> Result<()> {
    let folder = slow("")?;
    let running = folder.start(&["check", Folder::CONFIG])?;
    let child = compiling_child(running.id())?;
    let child = Pid::from_raw(i32::try_from(child)?).context("an id")?;
    kill_process(child, Signal::TERM)?;
    let ended = running.wait()?;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let said = ended.err.join("\n");
    ensure!(
        said.contains("channel slow, driver")
            && said.contains("the compiler was ended by signal 15"),
        "{said}"
    );
    Ok(())
}
