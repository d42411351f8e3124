//! Cases 18 to 37: guests that misbehave while they run.

use anyhow::Result;
use bulkhead_tests::components::{
    Core, World, list, returns, with_destructor, with_module, with_pollables,
};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::files::refused_at_once;
use crate::plant::{Culprit, Driver, NUMBER, Plant, culprit, is_in_state};

const LOOP: &str = "(loop $ever (br $ever))";

fn component(core: Core<'_>) -> Driver {
    Driver::Component(core.component())
}

/// A driver that behaves while the host looks at it before it runs, when its random numbers begin at seed 0, and does this
/// later: in its start function, or in `configure`.
fn two_faced(in_start: bool, body: &str) -> Driver {
    const RANDOM: &str =
        "package wasi:random@0.2.0; interface random { get-random-u64: func() -> u64; }";
    let first = ChaCha12Rng::seed_from_u64(0).next_u64().cast_signed();
    let fields = format!(
        "(func $turn_bad (if (i64.ne (call $random) (i64.const {first})) (then {body}))) {}",
        if in_start { "(start $turn_bad)" } else { "" }
    );
    let configure = if in_start {
        "i32.const 1024"
    } else {
        "(call $turn_bad) i32.const 1024"
    };
    let core = Core {
        imports: r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))"#,
        fields: &fields,
        configure,
        ..Core::default()
    };
    let world = World::default().package(RANDOM).edit(
        "import log;",
        "import log; import wasi:random/random@0.2.0;",
    );
    Driver::Component(world.component(&core.text()))
}

fn check(culprits: &[Culprit]) -> Result<()> {
    let plant = Plant::start(culprits)?;
    for culprit in culprits {
        plant.contain(culprit)?;
    }
    plant.end()
}

#[test]
fn a_start_function_that_traps() -> Result<()> {
    let at_once = Core {
        fields: "(func $begin unreachable) (start $begin)",
        ..Core::default()
    };
    refused_at_once("18-traps-at-once", at_once.component(), "trapped in start")?;
    check(&[Culprit {
        during: "start",
        says: "unreachable",
        upon: None,
        ..culprit("18-start-traps", two_faced(true, "unreachable"))
    }])
}

/// The budget of a start is two billion units of fuel and ten seconds: on a slow machine the time is over first.
const SPENT: &[&str] = &["out-of-fuel", "deadline-exceeded"];

#[test]
fn a_start_function_that_never_ends() -> Result<()> {
    check(&[Culprit {
        kinds: SPENT,
        during: "start",
        upon: None,
        ..culprit("19-start-loops", two_faced(true, LOOP))
    }])
}

#[test]
fn a_configure_that_never_ends() -> Result<()> {
    check(&[Culprit {
        kinds: SPENT,
        during: "configure",
        upon: None,
        ..culprit("20-configure-loops", two_faced(false, LOOP))
    }])
}

#[test]
fn a_turn_that_never_ends() -> Result<()> {
    let spins = |id| Culprit {
        keys: r#"settings = { when = "poll", after = 2 }"#.into(),
        tables: NUMBER,
        upon: Some("poll"),
        ..culprit(id, Driver::Guest("spins"))
    };
    check(&[
        Culprit {
            limits: r#"fuel_per_turn = 10_000_000, turn_deadline = "60s""#,
            kinds: &["out-of-fuel"],
            says: "more than 10000000 units of fuel",
            ..spins("21-turn-loops")
        },
        Culprit {
            limits: r#"fuel_per_turn = 10_000_000_000, turn_deadline = "200ms""#,
            kinds: &["deadline-exceeded"],
            says: "longer than 200ms",
            ..spins("21-turn-lingers")
        },
    ])
}

#[test]
fn a_stop_that_never_ends() -> Result<()> {
    let id = "22-stop-loops";
    let spins = Culprit {
        keys: r#"settings = { when = "stop" }"#.into(),
        limits: r#"fuel_per_turn = 10_000_000, turn_deadline = "60s""#,
        tables: NUMBER,
        kinds: &["out-of-fuel"],
        says: "units of fuel",
        upon: Some("stop"),
        ..culprit(id, Driver::Guest("spins"))
    };
    let culprits = [spins];
    let plant = Plant::start(&culprits)?;
    plant.within_bounds(id, 8, || {
        for life in 1..=2 {
            plant.let_loose(id)?;
            plant
                .recorder
                .wait("it runs", |seen| is_in_state(seen, id, "running"))?;
            plant.order(id, "stop")?;
            plant
                .recorder
                .wait("it has stopped", |seen| is_in_state(seen, id, "stopped"))?;
            let seen = plant.recorder.so_far();
            let exits = crate::plant::exits(&seen, id);
            assert_eq!(exits.len() as u64, life, "{exits:#?}");
            plant.check_exit(&culprits[0], life, exits[exits.len() - 1]);
        }
        plant.neighbours_go_on()
    })?;
    plant.end()
}

#[test]
fn a_realloc_that_never_ends() -> Result<()> {
    // It gives memory until it is configured; the next words are those of a turn.
    let core = Core {
        fields: "(global $armed (mut i32) (i32.const 0))",
        configure: "(global.set $armed (i32.const 1)) i32.const 1024",
        realloc: "(if (global.get $armed) (then (loop $ever (br $ever))))
            (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
            global.get $heap
            (global.set $heap (i32.add (global.get $heap) (local.get $size)))",
        ..Core::default()
    };
    check(&[Culprit {
        limits: "fuel_per_turn = 10_000_000",
        kinds: &["out-of-fuel"],
        says: "units of fuel",
        ..culprit("23-realloc-loops", component(core))
    }])
}

#[test]
fn a_post_return_that_never_ends() -> Result<()> {
    let core = Core {
        fields: r#"(func (export "cabi_post_bulkhead:channel/driver@0.1.0#turn") (param i32) (loop $ever (br $ever)))"#,
        ..Core::default()
    };
    check(&[Culprit {
        limits: "fuel_per_turn = 10_000_000",
        kinds: &["out-of-fuel"],
        says: "units of fuel",
        ..culprit("24-post-return-loops", component(core))
    }])
}

#[test]
fn a_destructor_that_never_ends() -> Result<()> {
    let bomb = Driver::Component(with_destructor(LOOP));
    check(&[Culprit {
        limits: "fuel_per_turn = 10_000_000",
        kinds: &["out-of-fuel"],
        says: "units of fuel",
        ..culprit("25-destructor-loops", bomb)
    }])
}

#[test]
fn recursion_without_end() -> Result<()> {
    let core = Core {
        fields: "(func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0))))",
        turn: "(call $deeper (i32.const 0))",
        ..Core::default()
    };
    check(&[Culprit {
        says: "call stack exhausted",
        ..culprit("26-recursion", component(core))
    }])
}

#[test]
fn memories_that_grow_together() -> Result<()> {
    // A component of several modules, each with a memory that is well within the limit by itself.
    let three = with_module(
        &Core::default().component(),
        "(module (memory 1) (func $begin
            (if (i32.lt_s (memory.grow (i32.const 400)) (i32.const 0)) (then unreachable))) (start $begin))",
        3,
    );
    refused_at_once(
        "27-memories-at-once",
        three,
        "out-of-memory in start: the driver asked for",
    )?;
    // A memory and a table in turn: neither is over the limit by itself.
    let core = Core {
        fields: "(table $t 0 funcref)",
        memory: r#"(memory (export "memory") 4 15)"#,
        turn: "(loop $more
                (drop (memory.grow (i32.const 1)))
                (br_if $more (i32.ge_s (table.grow $t (ref.null func) (i32.const 700)) (i32.const 0))))
            unreachable",
        ..Core::default()
    };
    check(&[Culprit {
        memory_mib: 1,
        kinds: &["out-of-memory"],
        says: "its limit is 1048576",
        ..culprit("27-memories-grow", component(core))
    }])
}

#[test]
fn a_table_that_grows() -> Result<()> {
    let core = Core {
        fields: "(table $t 0 funcref)",
        memory: r#"(memory (export "memory") 15)"#,
        turn: "(loop $more (br_if $more (i32.ge_s (table.grow $t (ref.null func) (i32.const 1000)) (i32.const 0))))
            unreachable",
        ..Core::default()
    };
    check(&[Culprit {
        memory_mib: 1,
        kinds: &["out-of-memory"],
        says: "its limit is 1048576",
        ..culprit("28-table-grows", component(core))
    }])
}

#[test]
fn giant_fills_and_copies() -> Result<()> {
    let moves = |id, operation: &str| {
        let turn = format!("(loop $again {operation} (br $again)) unreachable");
        let core = Core {
            memory: r#"(memory (export "memory") 256)"#,
            turn: &turn,
            ..Core::default()
        };
        Culprit {
            limits: r#"fuel_per_turn = 10_000_000_000, turn_deadline = "200ms""#,
            memory_mib: 17,
            kinds: &["deadline-exceeded", "out-of-fuel"],
            ..culprit(id, component(core))
        }
    };
    check(&[
        moves(
            "29-fills",
            "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 0xf00000))",
        ),
        moves(
            "29-copies",
            "(memory.copy (i32.const 65536) (i32.const 65537) (i32.const 0xf00000))",
        ),
    ])
}

#[test]
fn sleeping_in_wasi() -> Result<()> {
    check(&[Culprit {
        keys: r#"settings = { how = "sleep" }"#.into(),
        tables: r#"
[[channel.group]]
name = "all"
period = "50ms"
tags = [{ name = "none", address = "n", type = "float64" }]
"#,
        kinds: &["refused"],
        says: "tried to wait inside WASI",
        upon: Some("poll"),
        ..culprit("30-sleeps", Driver::Guest("waits"))
    }])
}

const METRIC: u8 = 16;
const PUBLISH: u8 = 8;

/// Refused in its first turn, for having broken the ABI.
fn breaks_the_abi(id: &'static str, core: Core<'_>, says: &'static str) -> Culprit {
    Culprit {
        kinds: &["refused"],
        says,
        ..culprit(id, component(core))
    }
}

fn answers<'a>(turn: &'a str, fields: &'a str) -> Core<'a> {
    Core {
        turn,
        fields,
        ..Core::default()
    }
}

#[test]
fn pointers_out_of_range_or_misaligned() -> Result<()> {
    check(&[
        breaks_the_abi(
            "31-far-answer",
            answers("i32.const 0x7ffffff0", ""),
            "broke the ABI",
        ),
        breaks_the_abi(
            "31-misaligned",
            answers("i32.const 1025", ""),
            "not aligned",
        ),
        breaks_the_abi(
            "31-far-list",
            answers(&list(0x7fff_fff0, 1), ""),
            "out of bounds",
        ),
    ])
}

#[test]
fn text_that_is_no_utf_8() -> Result<()> {
    let (action, length) = returns(&[(METRIC, &[3000, 4])]);
    let fields = format!("{action} (data (i32.const 3000) \"\\ed\\a0\\80x\")");
    check(&[breaks_the_abi(
        "32-surrogate",
        answers(&list(2048, length), &fields),
        "utf-8",
    )])
}

#[test]
fn discriminants_that_name_nothing() -> Result<()> {
    let (unknown, one) = returns(&[(21, &[])]);
    let (neither, _) = returns(&[(PUBLISH, &[2])]);
    check(&[
        breaks_the_abi(
            "33-unknown-action",
            answers(&list(2048, one), &unknown),
            "discriminant",
        ),
        breaks_the_abi(
            "33-neither-some-nor-none",
            answers(&list(2048, one), &neither),
            "discriminant",
        ),
    ])
}

#[test]
fn a_string_of_2_gib() -> Result<()> {
    let (action, length) = returns(&[(METRIC, &[2048, 0x7fff_ffff])]);
    check(&[breaks_the_abi(
        "34-long-name",
        answers(&list(2048, length), &action),
        "out of bounds",
    )])
}

#[test]
fn lists_that_multiply_on_the_host() -> Result<()> {
    // A thousand batches, each of the same ten thousand samples: half a megabyte becomes half a gigabyte.
    let fields = "(func $fill (local $at i32)
            (loop $next
                (i32.store8 (i32.add (i32.const 2048) (local.get $at)) (i32.const 8)) ;; publish
                (i32.store offset=24 (i32.add (i32.const 2048) (local.get $at)) (i32.const 524288))
                (i32.store offset=28 (i32.add (i32.const 2048) (local.get $at)) (i32.const 10000))
                (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 56))) (i32.const 56000)))))
        (start $fill)";
    let turn = list(2048, 1000);
    let core = Core {
        memory: r#"(memory (export "memory") 32)"#,
        ..answers(&turn, fields)
    };
    check(&[breaks_the_abi("35-multiplies", core, "too much data")])
}

#[test]
fn handles_forged_dropped_twice_or_leaked() -> Result<()> {
    let handles = |id, turn: &str, says| Culprit {
        kinds: &["refused"],
        says,
        ..culprit(id, Driver::Component(with_pollables(turn)))
    };
    check(&[
        handles(
            "36-forged",
            "(call $drop (i32.const 12345)) unreachable",
            "unknown handle",
        ),
        handles(
            "36-dropped-twice",
            "(local $h i32) (local.set $h (call $subscribe (i64.const 9))) (call $drop (local.get $h))
                (call $drop (local.get $h)) unreachable",
            "unknown handle",
        ),
        handles(
            "36-leaked",
            "(loop $more (drop (call $subscribe (i64.const 9))) (br $more)) unreachable",
            "resource",
        ),
    ])
}

#[test]
fn a_million_actions_in_one_turn() -> Result<()> {
    let floods = |id, count: u32, says| Culprit {
        keys: format!("settings = {{ what = \"actions\", count = {count} }}"),
        limits: r#"fuel_per_turn = 10_000_000_000, turn_deadline = "60s""#,
        memory_mib: 256,
        tables: NUMBER,
        kinds: &["refused"],
        says,
        upon: Some("poll"),
        ..culprit(id, Driver::Guest("floods"))
    };
    check(&[
        floods("37-a-million", 1_000_000, "too much data"),
        floods("37-one-too-many", 65_536, "one too many"),
    ])
}

#[test]
fn a_trap_while_others_run() -> Result<()> {
    check(&[Culprit {
        keys: r#"settings = { when = "poll", after = 3 }"#.into(),
        tables: NUMBER,
        says: "unreachable",
        upon: Some("poll"),
        ..culprit("42-traps", Driver::Guest("traps"))
    }])
}
