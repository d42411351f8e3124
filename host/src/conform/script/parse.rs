//! Reads a script, line by line. Every fault is reported, with its line.

use std::collections::BTreeSet;
use std::path::Path;

use super::budget::{Budget, MAX_TIME, of_value, weight};
use super::model::{Script, ScriptCase, Section, Step};
use super::steps;
use super::words::Words;
use crate::bindings::config::{Device, Group, Link, Tag};
use crate::conform::pattern::Pattern;
use crate::conform::peer::Reply;
use crate::event::DataType;

/// The largest script, in bytes.
pub const MAX_SCRIPT: u64 = 4 << 20;

/// Everything that is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ScriptFaults(pub Vec<String>);

/// Reads the text of a script.
pub fn parse(path: &Path, text: &str) -> Result<Script, ScriptFaults> {
    let name = path
        .file_stem()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut faults = Vec::new();
    let mut fault =
        |line: usize, message: String| faults.push(format!("{}:{line}: {message}", path.display()));
    let blocks = blocks(text);
    let mut plant = Section::default();
    let mut cases = Vec::new();
    let mut names = BTreeSet::new();
    let mut budget = Budget::new();
    for block in blocks {
        if budget.is_spent() {
            break;
        }
        match block.name {
            None => {
                let steps = directives(
                    &block.lines,
                    &Section::default(),
                    &mut plant,
                    &mut budget,
                    &mut fault,
                );
                for (line, text) in steps {
                    fault(
                        line,
                        format!(
                            "{text:?} stands before the first case; is `case NAME` missing, or is it a word that scripts do not have?"
                        ),
                    );
                }
            }
            Some((line, name)) => {
                if name.is_empty()
                    || name.contains(|character: char| {
                        !(character.is_ascii_alphanumeric() || "-_.".contains(character))
                    })
                {
                    fault(
                        line,
                        format!(
                            "{name:?} is no name of a case; write letters, digits, `-`, `_` and `.`"
                        ),
                    );
                }
                if !names.insert(name.clone()) {
                    fault(
                        line,
                        format!("there is a case {name} before; its id must be its own"),
                    );
                }
                let mut own = Section::default();
                let rest = directives(&block.lines, &plant, &mut own, &mut budget, &mut fault);
                let whole = own.or(&plant).complete();
                let is_empty = rest.is_empty();
                let mut parsed = Vec::new();
                let mut time = 0_u64;
                for (line, text) in rest {
                    let step = steps::step(Words::new(text), &whole).and_then(|step| {
                        budget.take(weight(&step))?;
                        if let Step::Advance(nanos) = step {
                            time = time.saturating_add(nanos);
                        }
                        if time > MAX_TIME {
                            return Err("the case takes more than 366 days by now".to_owned());
                        }
                        Ok(step)
                    });
                    match step {
                        Ok(step) => parsed.push((line, step)),
                        Err(message) => fault(line, message),
                    }
                    if budget.is_spent() {
                        break;
                    }
                }
                if is_empty && !budget.is_spent() {
                    fault(
                        line,
                        format!("the case {name} has no steps, so it could not fail"),
                    );
                }
                cases.push(ScriptCase {
                    name,
                    line,
                    own,
                    steps: parsed,
                });
            }
        }
    }
    if faults.is_empty() {
        Ok(Script {
            path: path.to_owned(),
            name,
            plant,
            cases,
        })
    } else {
        Err(ScriptFaults(faults))
    }
}

struct Block<'a> {
    /// None for what stands before the first case.
    name: Option<(usize, String)>,
    lines: Vec<(usize, &'a str)>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = vec![Block {
        name: None,
        lines: Vec::new(),
    }];
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("case ") {
            blocks.push(Block {
                name: Some((number, name.trim().to_owned())),
                lines: Vec::new(),
            });
        } else if let Some(block) = blocks.last_mut() {
            block.lines.push((number, line));
        }
    }
    blocks
}

/// Takes the lines that say what the driver is given; what is left are steps. In a case, these come after.
fn directives<'a>(
    lines: &[(usize, &'a str)],
    file: &Section,
    section: &mut Section,
    budget: &mut Budget,
    fault: &mut impl FnMut(usize, String),
) -> Vec<(usize, &'a str)> {
    let mut steps = Vec::new();
    for (line, text) in lines {
        // A device's line and the step of that name are told apart by where they stand.
        match directive(Words::new(text), file, section, budget, steps.is_empty()) {
            Ok(true) => {}
            Ok(false) => steps.push((*line, *text)),
            Err(message) => fault(*line, message),
        }
        if budget.is_spent() {
            break;
        }
    }
    steps
}

fn directive(
    mut words: Words<'_>,
    file: &Section,
    section: &mut Section,
    budget: &mut Budget,
    first: bool,
) -> Result<bool, String> {
    let word = words.need("a word")?;
    if !first {
        return Ok(false);
    }
    match word.as_str() {
        "settings" => {
            let table = words
                .table()?
                .ok_or("settings are a table; write `settings { unit_id = 1 }`")?;
            section.settings = Some(table);
        }
        "link" => {
            let name = words.need("the link's name")?;
            let kind = words.need("the link's kind, such as tcp,")?;
            if !["tcp", "tls", "udp", "unix", "serial"].contains(&kind.as_str()) {
                return Err(format!(
                    "{kind} is no kind of link; write tcp, tls, udp, unix or serial"
                ));
            }
            section.links.push(Link {
                id: id(section.links.len()),
                name,
                kind,
                listens: false,
            });
        }
        "device" => section
            .devices
            .push(device(&mut words, id(section.devices.len()))?),
        "tag" => {
            let whole = section.or(file).complete();
            let tag = tag(&mut words, id(section.tags.len()), &whole)?;
            if section.tags.iter().any(|known| known.name == tag.name) {
                return Err(format!("there is a tag {} before", tag.name));
            }
            section.tags.push(tag);
        }
        "group" => {
            let whole = section.or(file);
            let name = words.need("the group's name")?;
            let period_ns = time(&words.need("the group's period, such as 1s,")?)?;
            let mut tags = Vec::new();
            while let Some(tag) = words.next()? {
                tags.push(whole.tag(&tag)?);
            }
            let id = id(section.groups.len());
            section.groups.push(Group {
                id,
                name,
                period_ns,
                tags,
            });
        }
        "needs" => section.needs.push(words.need("a capability")?),
        "reply" => {
            let (question, answer) = words
                .rest()
                .split_once("=>")
                .ok_or("a reply has two sides; write `reply QUESTION => ANSWER`")?;
            let read = |text| Pattern::parse(text).map_err(|error| error.to_string());
            let (question, answer) = (read(question)?, read(answer)?);
            budget.take(question.len() + answer.len())?;
            section.replies.push(Reply { question, answer });
            return Ok(true);
        }
        "value" => {
            let name = words.need("the tag's name")?;
            let whole = section.or(file);
            let data_type = whole
                .data_type(whole.tag(&name)?)
                .ok_or("the tag has no type")?;
            let value = words.value(data_type)?;
            budget.take(of_value(&value))?;
            section.values.push((name, value));
        }
        "payload" => {
            let name = words.need("the command's name")?;
            section.payloads.push((name, words.rest().to_owned()));
            return Ok(true);
        }
        "allow-import" => section.imports.push(words.need("an interface")?),
        _ => return Ok(false),
    }
    words.end()?;
    Ok(true)
}

fn device(words: &mut Words<'_>, id: u32) -> Result<Device, String> {
    let name = words.need("the device's name")?;
    let address = if words.rest().starts_with('{') {
        None
    } else {
        words.next()?
    };
    Ok(Device {
        id,
        name,
        address: address.unwrap_or_default(),
        settings: words.table()?.unwrap_or(serde_json::json!({})).to_string(),
        link: None,
    })
}

fn tag(words: &mut Words<'_>, id: u32, section: &Section) -> Result<Tag, String> {
    let name = words.need("the tag's name")?;
    let address = words.need("the tag's address")?;
    let data_type = words.need("the tag's type")?;
    if DataType::parse(&data_type).is_none() {
        return Err(format!(
            "there is no type {data_type}; write one such as float32 or int16[4]"
        ));
    }
    let write_only = words.skip("w");
    let writable = write_only || words.skip("rw");
    let device = if words.skip("of") {
        section.device(&words.need("the device's name")?)?
    } else {
        0
    };
    Ok(Tag {
        id,
        device,
        name,
        address,
        data_type,
        readable: !write_only,
        writable,
        settings: words.table()?.unwrap_or(serde_json::json!({})).to_string(),
    })
}

fn id(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `500ms`, `10s`, in nanoseconds; at most 366 days.
pub(super) fn time(text: &str) -> Result<u64, String> {
    let time = humantime::parse_duration(text)
        .map_err(|_| format!("{text} is no time; write 500ms or 10s"))?;
    u64::try_from(time.as_nanos())
        .ok()
        .filter(|nanos| *nanos <= MAX_TIME)
        .ok_or_else(|| format!("{text} is too long; write at most 366days"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"
# A plant, and two cases.
settings { unit_id = 1, timeout_ms = 500 }
link plc tcp
device press 7 { order = "ABCD" }
tag temp 40001 int16
tag setpoint 40002 uint16 rw of press
group fast 100ms temp setpoint
needs write
reply {tid:2} 01 => {tid} 02
value setpoint 30

case one
settings { timeout_ms = 9 }
opens plc
poll fast
expect 0102
send 0304
sample temp -5 good
done fast requests=1

case two
tag other 40009 float32[2]
opens plc, refused
poll all
sample other - bad-timeout
"#;

    #[test]
    fn a_script_is_read() {
        let script =
            parse(Path::new("a/plant.script"), SCRIPT).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!((script.name.as_str(), script.cases.len()), ("plant", 2));
        let one = script.cases[0].own.or(&script.plant).complete();
        assert_eq!(
            one.settings,
            Some(serde_json::json!({"unit_id": 1, "timeout_ms": 9}))
        );
        assert_eq!((one.tags.len(), one.groups[0].period_ns), (2, 100_000_000));
        assert_eq!(script.cases[0].steps.len(), 6);
        assert_eq!(script.cases[0].steps[0].0, 15);
        let two = script.cases[1].own.or(&script.plant).complete();
        assert_eq!((two.tags.len(), two.groups[0].name.as_str()), (1, "all"));
    }

    #[test]
    fn every_fault_has_its_line() {
        let check = |text: &str, expected: &[&str]| {
            let faults = parse(Path::new("x.script"), text)
                .err()
                .map(|faults| faults.0)
                .unwrap_or_default();
            assert_eq!(faults.len(), expected.len(), "{faults:?}");
            for (fault, expected) in faults.iter().zip(expected) {
                assert!(fault.contains(expected), "{fault} does not say {expected}");
            }
        };
        check(
            "link plc pigeon\ntag a b c\npoll x",
            &[
                "x.script:1: pigeon",
                "x.script:2: there is no type c",
                "x.script:3: \"poll x\" stands before",
            ],
        );
        check("case a b\npoll x", &["no name", ":2: there is no group x"]);
        check("case a\n", &["no steps"]);
        check(
            "tag t x int8\ncase a\nquiet\ncase a\nquiet\nsample t 300000 goodish\nsend 0\n",
            &[
                "a case a before",
                ":6: 300000 is no int8",
                ":7: there is no link",
            ],
        );
        check(
            "tag t x int8\ngroup g 400days t\ncase a\nadvance 366days\nadvance 1ms\n",
            &[":2: 400days is too long", ":5: the case takes more"],
        );
    }

    #[test]
    fn repetition_does_not_make_much_of_little() {
        let count = |text: &str| match parse(Path::new("x.script"), text) {
            Ok(script) => Ok(script.plant.replies.len()),
            Err(faults) => Err(faults.0),
        };
        let reply = "reply 01 => 00*1000000\n";
        assert_eq!(count(&reply.repeat(4)), Ok(4));
        let much = "x.script:5: with this the script stands for more than 4194304 bytes";
        let faults = count(&reply.repeat(1_000)).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].starts_with(much),
            "{faults:?}"
        );
        // Steps count too.
        let steps = format!(
            "link plc tcp\ncase a\n{}",
            "send 00*1000000\n".repeat(1_000)
        );
        let faults = count(&steps).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].starts_with("x.script:7: with this"),
            "{faults:?}"
        );
    }
}
