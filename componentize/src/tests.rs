use wasmparser::{Operator, Parser, Payload, Validator};

use super::*;

/// A component as componentize-py 0.25 makes them, cut down to the function that hands out a list of lists of bytes.
const HANDS_OUT: &str = r#"(component
  (core module $other (func (export "f") (result i32) i32.const 7))
  (core module $wit
    (import "env" "memory" (memory 1))
    (import "env" "wit_dylib_dealloc_bytes" (func $dealloc (param i32 i32 i32 i32 i32)))
    (import "env" "wit_dylib_pop_list" (func $pop_list (param i32 i32 i32) (result i32)))
    (import "env" "wit_dylib_pop_iter" (func $pop_iter (param i32 i32)))
    (func (export "arguments") (param $call i32) (param $at i32)
      local.get $call local.get $at i32.const 16 i32.const 8 i32.const 0 call $dealloc)
    (func (export "turn") (param $frame i32) (param $call i32)
      (local $outer-length i32) (local $outer i32) (local $length i32) (local $list i32)
      local.get $call i32.const 3 local.get $frame i32.const 8 i32.add call $pop_list
      local.set $outer-length
      local.get $frame i32.const 8 i32.add i32.load
      local.set $outer
      local.get $outer
      i32.eqz
      if
        loop
          local.get $call i32.const 4 local.get $frame i32.const 8 i32.add call $pop_list
          local.set $length
          local.get $frame i32.const 8 i32.add i32.load
          local.set $list
          local.get $list
          i32.eqz
          if
            local.get $call i32.const 4 call $pop_iter
            local.get $length
            if
              local.get $call local.get $list local.get $length i32.const 4 i32.const 1 call $dealloc
            end
          end
        end
      end)))"#;

/// The operators of every function of every module.
fn operators(component: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        let Payload::CodeSectionEntry(body) = payload.unwrap() else {
            continue;
        };
        for operator in body.get_operators_reader().unwrap() {
            found.push(match operator.unwrap() {
                Operator::LocalGet { local_index } => format!("get {local_index}"),
                Operator::I32Const { value } => format!("{value}"),
                Operator::Call { function_index } => format!("call {function_index}"),
                Operator::Else => "else".to_owned(),
                Operator::Drop => "drop".to_owned(),
                Operator::End => "end".to_owned(),
                _ => "...".to_owned(),
            });
        }
    }
    found
}

#[test]
fn whatever_is_handed_out_is_freed_after_the_call() {
    let made = wat::parse_str(HANDS_OUT).unwrap();
    let finished = finish(&made, "0.25.0").unwrap();
    Validator::new().validate_all(&finished).unwrap();
    let before = operators(&made);
    let after = operators(&finished);
    let places: Vec<usize> = (0..after.len())
        .filter(|place| after[*place] == "else")
        .collect();
    let [inner, outer] = places[..] else {
        panic!("{after:?}");
    };
    // The function's locals: the frame, the call, the outer length and list, the inner ones. `dealloc` is import 0.
    let freed = |list, length| {
        [
            "else",
            &format!("get {list}"),
            &format!("get {length}"),
            "1",
            "1",
            "call 0",
            "end",
        ]
        .map(str::to_owned)
    };
    for (place, list, length) in [(inner, 5, 4), (outer, 3, 2)] {
        let mut said = after[place..place + 8].to_vec();
        assert_eq!(said.remove(1), "get 1");
        assert_eq!(said, freed(list, length));
    }
    // An empty list of others is freed too; and nothing else changed.
    let mut rest = after;
    for place in [outer, inner] {
        rest.drain(place..place + 7);
    }
    let dropped = rest.iter().position(|one| one == "drop").unwrap();
    let added: Vec<String> = rest.drain(dropped..dropped + 2).collect();
    assert_eq!(added, ["drop", "1"]);
    assert_eq!(rest[dropped - 1], "get 4", "the size");
    assert_eq!(rest, before);
}

#[test]
fn an_unknown_form_is_refused_and_an_unknown_version_left_alone() {
    for (known, other) in [
        ("i32.eqz\n", "i32.eqz i32.eqz i32.eqz\n"),
        (
            "local.get $length\n            if",
            "local.get $list\n            if",
        ),
        (
            "i32.const 16 i32.const 8 i32.const 0",
            "i32.const 16 i32.const 8 i32.const 1",
        ),
    ] {
        assert!(HANDS_OUT.contains(known), "{known}");
        let made = wat::parse_str(HANDS_OUT.replacen(known, other, 1)).unwrap();
        let error = finish(&made, "0.25.1").unwrap_err().to_string();
        assert!(
            error.contains("unknown form") && error.contains("0.25.1"),
            "{error}"
        );
    }
    let deep = (0..20).fold(wat::parse_str("(component)").unwrap(), |inner, _| {
        let mut outer = inner[..HEADER].to_vec();
        put_section(&mut outer, COMPONENT, &inner);
        outer
    });
    finish(&deep, "0.25.0").unwrap_err();
    let nothing = wat::parse_str("(component)").unwrap();
    let error = finish(&nothing, "0.25.1").unwrap_err().to_string();
    assert!(error.contains("unknown form"), "{error}");

    let made = wat::parse_str(HANDS_OUT).unwrap();
    let finished = finish(&made, "0.26.0").unwrap();
    assert_eq!(finished[..made.len()], made);
    assert_eq!(
        &finished[made.len()..],
        b"\0\x42\x09producers\x02\x08language\x01\x06Python\0\x0cprocessed-by\x01\x0fcomponentize-py\x060.26.0"
    );
}

#[test]
fn what_is_no_component_is_refused() {
    let made = wat::parse_str(HANDS_OUT).unwrap();
    // Cut between two sections, behind the module, it is one still.
    let ends: Vec<usize> = sections(&made)
        .unwrap()
        .into_iter()
        .skip(1)
        .map(|(_, range)| range.end)
        .collect();
    for length in 0..made.len() {
        let finished = finish(&made[..length], "0.25.0");
        assert_eq!(finished.is_ok(), ends.contains(&length), "{length}");
    }
    let error = finish(b"no component at all", "0.25.0").unwrap_err();
    assert!(matches!(error, Error::Unreadable(_)), "{error}");
}
