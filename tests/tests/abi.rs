//! Guests that no compiler would make: they break the ABI, their own start, the stack or the memory.
#![expect(
    clippy::unwrap_used,
    reason = "in what only tests call, a panic is the failure of the test"
)]

use bulkhead::driver::{Budget, Driver, Instance, InstanceSpec};
use bulkhead::exit::{During, Exit, ExitKind};
use bulkhead_tests::components::{Core, World, list, returns, with_pollables};
use bulkhead_tests::guests::{Life, engine, moment, spec, started, ten_tags};

/// A component, loaded.
fn load(name: &str, component: &[u8]) -> Driver {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("abi-{name}.wasm"));
    std::fs::write(&path, component).unwrap();
    let driver = Driver::load(engine(), &path, None).unwrap_or_else(|error| panic!("{error}"));
    std::fs::remove_file(path).unwrap();
    driver
}

/// Lets it live for one turn, and gives its end.
async fn end(driver: &Driver, spec: InstanceSpec) -> Exit {
    let begun = Life::begin(driver, spec, &ten_tags("{}")).await;
    match begun {
        Ok(life) => match life.turn([started()]).await {
            Ok((_, actions)) => panic!("a turn went well: {actions:?}"),
            Err(exit) => exit,
        },
        Err(exit) => exit,
    }
}

/// Expects this end of the first turn, or of what comes before it.
async fn check(name: &str, core: Core<'_>, kind: ExitKind, during: During, says: &str) {
    check_with(name, core, spec(), kind, during, says).await;
}

async fn check_with(
    name: &str,
    core: Core<'_>,
    spec: InstanceSpec,
    kind: ExitKind,
    during: During,
    says: &str,
) {
    let exit = end(&load(name, &core.component()), spec).await;
    assert_eq!((exit.kind, exit.during), (kind, during), "{name}: {exit}");
    assert!(
        exit.sentence.contains(says),
        "{name}: {exit} does not say {says:?}"
    );
}

#[tokio::test]
async fn a_list_made_by_hand_crosses_as_it_is() {
    const CANCEL_TIMER: u8 = 7;
    let (fields, length) = returns(&[(CANCEL_TIMER, &[17]), (CANCEL_TIMER, &[18])]);
    let turn = list(2048, length);
    let driver = load(
        "by-hand",
        &Core {
            fields: &fields,
            turn: &turn,
            ..Core::default()
        }
        .component(),
    );
    let life = Life::begin(&driver, spec(), &ten_tags("{}")).await.unwrap();
    let (_, actions) = life.turn([started()]).await.unwrap();
    assert_eq!(
        format!("{actions:?}"),
        "[Action::CancelTimer(17), Action::CancelTimer(18)]"
    );
}

#[tokio::test]
async fn a_broken_abi_is_refused() {
    const CANCEL_TIMER: u8 = 7;
    const PUBLISH: u8 = 8;
    const METRIC: u8 = 16;
    const SAVE_STATE: u8 = 18;
    let (refused, turn) = (ExitKind::Refused, During::Turn);
    let check_turn = async |name, body: &str, says| {
        check(
            name,
            Core {
                turn: body,
                ..Core::default()
            },
            refused,
            turn,
            says,
        )
        .await;
    };

    check_turn("far-answer", "i32.const 0x7ffffff0", "broke the ABI").await;
    check_turn("negative-answer", "i32.const -4", "broke the ABI").await;
    check_turn("misaligned-answer", "i32.const 1025", "not aligned").await;
    let body = "(i32.store8 (i32.const 1024) (i32.const 2)) i32.const 1024";
    check_turn("neither-ok-nor-err", body, "discriminant").await;
    check_turn("far-list", &list(0x7fff_fff0, 1), "out of bounds").await;
    check_turn("misaligned-list", &list(2049, 1), "not aligned").await;
    check_turn("list-of-4-billion", &list(2048, u32::MAX), "broke the ABI").await;
    check_turn(
        "list-that-overruns",
        &list(4 * 65_536 - 56, 2),
        "out of bounds",
    )
    .await;

    for (name, action, says) in [
        ("unknown-action", (21, &[][..]), "discriminant"),
        ("last-action", (255, &[]), "discriminant"),
        (
            "name-of-2-gib",
            (METRIC, &[2048, 0x7fff_ffff]),
            "out of bounds",
        ),
        (
            "state-of-4-gib",
            (SAVE_STATE, &[2048, u32::MAX]),
            "out of bounds",
        ),
        (
            "name-elsewhere",
            (METRIC, &[0xffff_0000, 4]),
            "out of bounds",
        ),
        ("neither-some-nor-none", (PUBLISH, &[2]), "discriminant"),
    ] {
        let (fields, length) = returns(&[(CANCEL_TIMER, &[1]), action]);
        let turn_body = list(2048, length);
        let core = Core {
            fields: &fields,
            turn: &turn_body,
            ..Core::default()
        };
        check(name, core, refused, turn, says).await;
    }

    let (fields, length) = returns(&[(METRIC, &[3000, 4])]);
    for (name, bytes) in [
        ("latin-1", "caf\\e9"),
        ("overlong", "\\c0\\80ab"),
        ("surrogate", "\\ed\\a0\\80x"),
    ] {
        let fields = format!("{fields} (data (i32.const 3000) \"{bytes}\")");
        let turn_body = list(2048, length);
        check(
            name,
            Core {
                fields: &fields,
                turn: &turn_body,
                ..Core::default()
            },
            refused,
            turn,
            "utf-8",
        )
        .await;
    }
}

#[tokio::test]
async fn lists_that_multiply_on_the_host_are_refused() {
    // A thousand batches, each of the same ten thousand samples: half a megabyte becomes half a gigabyte.
    let fields = "(func $fill (local $at i32)
            (loop $next
                (i32.store8 (i32.add (i32.const 2048) (local.get $at)) (i32.const 8)) ;; publish
                (i32.store offset=24 (i32.add (i32.const 2048) (local.get $at)) (i32.const 524288))
                (i32.store offset=28 (i32.add (i32.const 2048) (local.get $at)) (i32.const 10000))
                (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 56))) (i32.const 56000)))))
        (start $fill)";
    let turn = list(2048, 1000);
    let memory = r#"(memory (export "memory") 32)"#;
    let core = Core {
        memory,
        fields,
        turn: &turn,
        ..Core::default()
    };
    check(
        "multiplies",
        core,
        ExitKind::Refused,
        During::Turn,
        "too much data",
    )
    .await;
}

#[tokio::test]
async fn what_the_guest_says_where_its_words_should_go_is_checked() {
    // `cabi_realloc` decides where the host writes the configuration.
    for (name, realloc, kind, says) in [
        (
            "realloc-far",
            "i32.const 0x7ffffff8",
            ExitKind::Refused,
            "beyond end of memory",
        ),
        (
            "realloc-misaligned",
            "i32.const 65537",
            ExitKind::Refused,
            "not aligned",
        ),
        (
            "realloc-traps",
            "unreachable",
            ExitKind::Trapped,
            "unreachable",
        ),
        (
            "realloc-loops",
            "(loop $ever (br $ever)) unreachable",
            ExitKind::OutOfFuel,
            "units of fuel",
        ),
    ] {
        check(
            name,
            Core {
                realloc,
                ..Core::default()
            },
            kind,
            During::Configure,
            says,
        )
        .await;
    }
}

#[tokio::test]
async fn a_start_function_is_held_to_the_budget() {
    for (name, body, kind, says) in [
        (
            "start-traps",
            "unreachable",
            ExitKind::Trapped,
            "unreachable",
        ),
        (
            "start-divides",
            "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
            ExitKind::Trapped,
            "divide by zero",
        ),
        (
            "start-reads-far",
            "(drop (i32.load (i32.const -4)))",
            ExitKind::Trapped,
            "out of bounds memory access",
        ),
        (
            "start-loops",
            "(loop $ever (br $ever))",
            ExitKind::OutOfFuel,
            "units of fuel",
        ),
    ] {
        let fields = format!("(func $begin {body}) (start $begin)");
        check(
            name,
            Core {
                fields: &fields,
                ..Core::default()
            },
            kind,
            During::Start,
            says,
        )
        .await;
    }

    let fields = "(func $begin (loop $ever (br $ever))) (start $begin)";
    let start = Budget {
        fuel: u64::MAX / 2,
        deadline: std::time::Duration::from_millis(100),
    };
    let short = InstanceSpec { start, ..spec() };
    let core = Core {
        fields,
        ..Core::default()
    };
    check_with(
        "start-spins",
        core,
        short,
        ExitKind::DeadlineExceeded,
        During::Start,
        "longer than 100ms",
    )
    .await;
}

#[tokio::test]
async fn tidying_up_after_a_call_is_part_of_it() {
    for (name, body, kind, says) in [
        (
            "post-return-traps",
            "unreachable",
            ExitKind::Trapped,
            "unreachable",
        ),
        (
            "post-return-loops",
            "(loop $ever (br $ever))",
            ExitKind::OutOfFuel,
            "units of fuel",
        ),
    ] {
        let fields = format!(
            r#"(func (export "cabi_post_bulkhead:channel/driver@0.1.0#turn") (param i32) {body})"#
        );
        check(
            name,
            Core {
                fields: &fields,
                ..Core::default()
            },
            kind,
            During::Turn,
            says,
        )
        .await;
    }
}

#[tokio::test]
async fn recursion_without_end_is_a_trap() {
    let fields = "(func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0))))";
    let core = Core {
        fields,
        turn: "(call $deeper (i32.const 0))",
        ..Core::default()
    };
    check(
        "recursion",
        core,
        ExitKind::Trapped,
        During::Turn,
        "call stack exhausted",
    )
    .await;
}

#[tokio::test]
async fn memory_and_tables_are_limited_from_the_start_and_together() {
    let small = InstanceSpec {
        memory: 1 << 20,
        ..spec()
    };
    let core = Core {
        memory: r#"(memory (export "memory") 17)"#,
        ..Core::default()
    };
    check_with(
        "born-too-large",
        core,
        small.clone(),
        ExitKind::OutOfMemory,
        During::Start,
        "1048576",
    )
    .await;

    // Until it is refused, and then it traps.
    let grows = "(loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) unreachable";
    let core = Core {
        turn: grows,
        ..Core::default()
    };
    check_with(
        "grows",
        core,
        small.clone(),
        ExitKind::OutOfMemory,
        During::Turn,
        "its limit is 1048576",
    )
    .await;

    let fields = "(table $t 0 funcref)";
    let grows = "(loop $more (br_if $more (i32.ge_s (table.grow $t (ref.null func) (i32.const 1000)) (i32.const 0))))
        unreachable";
    let core = Core {
        memory: r#"(memory (export "memory") 15)"#,
        fields,
        turn: grows,
        ..Core::default()
    };
    check_with(
        "grows-a-table",
        core,
        small.clone(),
        ExitKind::OutOfMemory,
        During::Turn,
        "its limit is 1048576",
    )
    .await;

    // A memory with a maximum of its own is refused by that, which is no matter of the limit.
    let grows = "(loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) unreachable";
    let core = Core {
        memory: r#"(memory (export "memory") 4 6)"#,
        turn: grows,
        ..Core::default()
    };
    check_with(
        "own-maximum",
        core,
        small,
        ExitKind::Trapped,
        During::Turn,
        "unreachable",
    )
    .await;
}

#[tokio::test]
async fn a_loop_of_huge_fills_ends_with_the_deadline() {
    let fill = "(loop $again (memory.fill (i32.const 65536) (i32.const 1) (i32.const 0xf00000)) (br $again)) unreachable";
    let core = Core {
        memory: r#"(memory (export "memory") 256)"#,
        turn: fill,
        ..Core::default()
    };
    let deadline = std::time::Duration::from_millis(200);
    let spec = InstanceSpec {
        turn: Budget {
            fuel: u64::MAX / 2,
            deadline,
        },
        ..spec()
    };
    check_with(
        "fills",
        core,
        spec,
        ExitKind::DeadlineExceeded,
        During::Turn,
        "longer than 200ms",
    )
    .await;
}

#[tokio::test]
async fn handles_that_are_forged_dropped_twice_or_hoarded_end_the_life() {
    for (name, turn, kind, says) in [
        ("forged", "(call $drop (i32.const 12345)) unreachable", ExitKind::Refused, "unknown handle"),
        ("blocks-on-nothing", "(call $block (i32.const 7)) unreachable", ExitKind::Refused, "unknown handle"),
        (
            "dropped-twice",
            "(local $h i32) (local.set $h (call $subscribe (i64.const 9))) (call $drop (local.get $h))
                (call $drop (local.get $h)) unreachable",
            ExitKind::Refused,
            "unknown handle",
        ),
        (
            "hoarded",
            "(loop $more (drop (call $subscribe (i64.const 9))) (br $more)) unreachable",
            ExitKind::Refused,
            "resource",
        ),
        (
            "waited-for",
            "(call $block (call $subscribe (i64.const 3600000000000))) unreachable",
            ExitKind::Refused,
            "tried to wait inside WASI",
        ),
    ] {
        let exit = end(&load(name, &with_pollables(turn)), spec()).await;
        assert_eq!(exit.kind, kind, "{name}: {exit}");
        assert!(exit.sentence.contains(says), "{name}: {exit} does not say {says:?}");
    }
}

/// The three ids of timers that the guest makes of WASI's random numbers.
async fn random_timers(seed: u64) -> String {
    const WASI_RANDOM: &str = "package wasi:random@0.2.0;
        interface random { get-random-u64: func() -> u64; }
        interface insecure { get-insecure-random-u64: func() -> u64; }
        interface insecure-seed { insecure-seed: func() -> tuple<u64, u64>; }";
    const CANCEL_TIMER: u8 = 7;
    let imports = r#"
        (import "wasi:random/random@0.2.0" "get-random-u64" (func $secure (result i64)))
        (import "wasi:random/insecure@0.2.0" "get-insecure-random-u64" (func $insecure (result i64)))
        (import "wasi:random/insecure-seed@0.2.0" "insecure-seed" (func $seed (param i32)))"#;
    let (fields, length) = returns(&[
        (CANCEL_TIMER, &[0]),
        (CANCEL_TIMER, &[0]),
        (CANCEL_TIMER, &[0]),
    ]);
    let turn = format!(
        "(i64.store32 (i32.const 2056) (call $secure))
            (i64.store32 (i32.const 2112) (call $insecure))
            (call $seed (i32.const 3000))
            (i64.store32 (i32.const 2168) (i64.load (i32.const 3000)))
            {}",
        list(2048, length)
    );
    let component = World::default()
        .package(WASI_RANDOM)
        .edit(
            "import log;",
            "import log; import wasi:random/random@0.2.0; import wasi:random/insecure@0.2.0;
            import wasi:random/insecure-seed@0.2.0;",
        )
        .component(
            &Core {
                imports,
                fields: &fields,
                turn: &turn,
                ..Core::default()
            }
            .text(),
        );
    let driver = load(&format!("random-{seed}"), &component);
    let life = Life::begin(&driver, InstanceSpec { seed, ..spec() }, &ten_tags("{}"))
        .await
        .unwrap();
    let (_, actions) = life.turn([started()]).await.unwrap();
    format!("{actions:?}")
}

#[tokio::test]
async fn every_random_number_of_wasi_comes_from_the_seed() {
    let first = random_timers(7).await;
    assert_eq!(first, random_timers(7).await);
    let other = random_timers(8).await;
    for (one, another) in first.split(", ").zip(other.split(", ")) {
        assert_ne!(one, another, "{first} and {other}");
    }
}

#[tokio::test]
async fn describe_is_held_to_the_same_rules() {
    for (name, describe, kind) in [
        ("describe-traps", "unreachable", ExitKind::Trapped),
        (
            "describe-loops",
            "(loop $ever (br $ever)) unreachable",
            ExitKind::OutOfFuel,
        ),
        ("describe-far", "i32.const -4", ExitKind::Refused),
    ] {
        let driver = load(
            name,
            &Core {
                describe,
                ..Core::default()
            }
            .component(),
        );
        let instance = Instance::start(&driver, spec(), moment(0)).await.unwrap();
        let exit = instance.describe().await.err().unwrap();
        assert_eq!(exit.kind, kind, "{name}: {exit}");
    }
}
