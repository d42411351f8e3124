//! Tags in files of their own: a host that runs with them, faults by row, `tag export` and `tag import`.

use std::fs;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Ended, Folder};
use serde_json::{Value, json};

use super::{SIGNAL, json_lines};

/// A group whose tags stand in a file, and another channel.
const FROM_FILE: &str = "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
    [[channel.group]]\nname = \"fast\" # as fast as it goes\nperiod = \"50ms\"\ntags_file = \"tags.csv\"\n\
    [[channel]]\nid = \"b\"\ndriver = \"$DRIVERS/signal.wasm\"\n";
const CSV: &str = "\u{feff}name;address;type;access;report;unit\r\n\
    count;counter;uint64;;;pieces\r\nheld;hold(20);uint8;rw;change;\"\"\"°C\"\"\"\r\n";

fn text(folder: &Folder, name: &str) -> Result<String> {
    fs::read_to_string(folder.path().join(name)).with_context(|| name.to_owned())
}

fn names(folder: &Folder) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn ended_with(ended: &Ended, code: i32) {
    assert_eq!(ended.code(), Some(code), "{ended:#?}");
}

#[test]
fn a_host_runs_with_the_tags_of_a_file() -> Result<()> {
    let folder = Folder::new()?;
    let csv = folder.write("tags.csv", CSV)?;
    let host = Bulkhead::start(&FROM_FILE.replace("tags.csv", &csv.display().to_string()))?;
    host.get_until("/api/v1/status", |status| {
        (status["tags"]["good"] == 2).then_some(())
    })?;
    let shown = host.get("/api/v1/tags/a/held")?.body;
    assert_eq!(
        (&shown["unit"], &shown["group"], &shown["access"]),
        (&json!("\"°C\""), &json!("fast"), &json!("rw")),
        "{shown:#}"
    );
    Ok(())
}

#[test]
fn faults_name_the_file_of_tags_and_the_row() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_config(&FROM_FILE.replace("50ms", "50"))?;
    folder.write(
        "tags.csv",
        "name,address,type,scale\ncount,counter,uint46,\nx,counter,uint64,\"0,1\"\n",
    )?;
    let mut told = Vec::new();
    for command in ["check", "run"] {
        let ended = folder.run(&[command, Folder::CONFIG])?;
        ended_with(&ended, 1);
        for (line, beginning) in [
            "bulkhead.toml:6:10: channel a, group fast: `period`",
            "tags.csv:2:15: channel a, tag count, column type: `uint46`",
            "tags.csv:3:18: channel a, tag x, column scale: `scale` is `0,1`",
        ]
        .iter()
        .enumerate()
        {
            assert!(ended.err[line].starts_with(beginning), "{ended:#?}");
        }
        told.push(ended.err[..3].to_vec());
    }
    assert_eq!(told[0], told[1]);
    let report = json_lines(&folder.run(&["check", "--json", Folder::CONFIG])?).remove(0);
    let places: Vec<Value> = report["faults"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|fault| json!([fault["file"], fault["line"], fault["column"]]))
        .collect();
    assert_eq!(
        Value::from(places),
        json!([[null, 6, 10], ["tags.csv", 2, 15], ["tags.csv", 3, 18]])
    );

    // What only the driver knows stands by its row too.
    folder.write_config(FROM_FILE)?;
    folder.write("tags.csv", CSV.replace("hold(20)", "hold[20]"))?;
    let ended = folder.run(&["check", Folder::CONFIG])?;
    ended_with(&ended, 1);
    let fault = ended.err.iter().find(|line| line.contains("tag held"));
    assert!(
        fault.is_some_and(|fault| fault.starts_with("tags.csv:3:6: channel a, tag held.address")),
        "{ended:#?}"
    );

    // The file itself.
    for (name, said) in [
        (
            "nowhere.csv",
            "check the path, which begins in the folder of this file",
        ),
        ("data", "name a CSV file"),
    ] {
        folder.write_config(&FROM_FILE.replace("tags.csv", name))?;
        let ended = folder.run(&["check", Folder::CONFIG])?;
        ended_with(&ended, 1);
        let beginning =
            format!("bulkhead.toml:7:13: channel a, group fast: `{name}` cannot be read");
        assert!(
            ended.err[0].starts_with(&beginning) && ended.err[0].ends_with(said),
            "{ended:#?}"
        );
    }
    Ok(())
}

#[test]
fn tags_go_out_and_in_again() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_config(SIGNAL)?;
    let csv = "name,address,type,access,report,unit\ncount,counter,uint64,,,pieces\nheld,hold(20),uint8,rw,change,\n";
    let ended = folder.run(&["tag", "export", Folder::CONFIG])?;
    ended_with(&ended, 0);
    assert_eq!(ended.out.join("\n") + "\n", csv);
    let ended = folder.run(&["tag", "export", Folder::CONFIG, "--group", "fast", "--json"])?;
    assert_eq!(
        json_lines(&ended)[0],
        json!({ "name": "count", "address": "counter", "type": "uint64", "unit": "pieces" })
    );
    let out = [
        "tag",
        "export",
        Folder::CONFIG,
        "--channel",
        "a",
        "-o",
        "out.csv",
        "--json",
    ];
    assert_eq!(
        json_lines(&folder.run(&out)?),
        [
            json!({ "file": "out.csv", "channel": "a", "group": null, "tags": 2,
            "columns": ["name", "address", "type", "access", "report", "unit"] })
        ]
    );
    assert_eq!(text(&folder, "out.csv")?, csv);

    // Into a group that waits for its tags, in a folder of its own.
    let plant = folder.path().join("plant");
    fs::create_dir(&plant)?;
    let before = folder.write_config(&FROM_FILE.replace("tags_file = \"tags.csv\"\n", ""))?;
    let config = plant.join("plant.toml");
    fs::rename(before, &config)?;
    let before = fs::read_to_string(&config)?;
    let import = |file: &str, more: &[&str]| {
        let command = ["tag", "import", file, "--config", "plant/plant.toml"];
        let spot = ["--channel", "a", "--group", "fast"];
        folder.run(&[&command[..], &spot, more].concat())
    };
    let dry = import("out.csv", &["--dry-run", "--json"])?;
    ended_with(&dry, 0);
    let mut expected = json!({ "ok": true, "file": "out.csv", "config": "plant/plant.toml", "channel": "a", "group": "fast",
        "tags": 2, "dry_run": true, "changes": ["plant/out.csv", "plant/plant.toml"], "also_used_by": [] });
    assert_eq!(json_lines(&dry), [expected.clone()]);
    assert_eq!(fs::read_to_string(&config)?, before);
    assert!(!plant.join("out.csv").exists());
    let done = import("out.csv", &["--json"])?;
    expected["dry_run"] = json!(false);
    assert_eq!(json_lines(&done), [expected]);
    let line = "# as fast as it goes\n";
    assert_eq!(
        fs::read_to_string(&config)?,
        before.replace(line, &format!("{line}tags_file = 'out.csv'\n"))
    );
    assert_eq!(fs::read_to_string(plant.join("out.csv"))?, csv);
    ended_with(&folder.run(&["check", "plant/plant.toml"])?, 0);
    let again = folder.run(&["tag", "export", "plant/plant.toml", "--channel", "a"])?;
    assert_eq!(again.out.join("\n") + "\n", csv);

    // Another time nothing is to be done; another file takes the place of the first, and the configuration stays.
    let idle = import("out.csv", &[])?;
    assert!(
        idle.out[0].ends_with("nothing to write, it is there already"),
        "{idle:#?}"
    );
    let after = fs::read_to_string(&config)?;
    folder.write("new.csv", CSV)?;
    let done = import("new.csv", &[])?;
    assert_eq!(
        done.out,
        ["new.csv: fine; 2 tags in a, group fast; wrote plant/out.csv"]
    );
    assert_eq!(fs::read_to_string(plant.join("out.csv"))?, CSV);
    assert_eq!(fs::read_to_string(&config)?, after);
    // Nothing stays behind.
    let mut left: Vec<_> = fs::read_dir(&plant)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    left.sort();
    assert_eq!(left, ["out.csv", "plant.toml"]);
    Ok(())
}

#[test]
fn an_import_says_who_else_has_the_same_file() -> Result<()> {
    let folder = Folder::new()?;
    let others = "[[channel.group]]\nname = \"slow\"\nperiod = \"1s\"\ntags_file = \"./tags.csv\"\n\
        [[channel]]\nid = \"c\"\ndriver = \"$DRIVERS/signal.wasm\"\ntags_file = \"tags.csv\"\n\
        [[channel]]\nid = \"d\"\ndriver = \"$DRIVERS/signal.wasm\"\ntags_file = \"else.csv\"\n";
    folder.write_config(&format!("{FROM_FILE}{others}"))?;
    folder.write("tags.csv", CSV)?;
    folder.write("else.csv", CSV)?;
    folder.write("new.csv", "name,address,type\nonly,counter,uint64\n")?;
    let import = |more: &[&str]| {
        let command = ["tag", "import", "new.csv", "--config", Folder::CONFIG];
        let spot = ["--channel", "a", "--group", "fast"];
        folder.run(&[&command[..], &spot, more].concat())
    };
    let dry = import(&["--dry-run", "--json"])?;
    ended_with(&dry, 0);
    assert_eq!(
        json_lines(&dry)[0]["also_used_by"],
        json!([{ "channel": "b", "group": "slow" }, { "channel": "c", "group": null }])
    );
    let done = import(&[])?;
    ended_with(&done, 0);
    let said = |who: &str| format!("{who} has its tags from the same file, so they are these too");
    assert_eq!(done.out[1..], [said("b, group slow"), said("c")]);
    let tags = folder.run(&["tag", "export", Folder::CONFIG, "--channel", "b"])?;
    assert_eq!(tags.out[1..], ["only,counter,uint64"]);
    Ok(())
}

#[test]
fn an_import_that_is_at_fault_changes_nothing() -> Result<()> {
    let folder = Folder::new()?;
    let config = folder.write_config(SIGNAL)?;
    let before = fs::read_to_string(&config)?;
    let import = |file: &str, csv: &str, more: &[&str]| -> Result<Ended> {
        folder.write(file, csv)?;
        let command = [
            "tag",
            "import",
            file,
            "--config",
            Folder::CONFIG,
            "--channel",
            "a",
        ];
        folder.run(&[&command[..], more].concat())
    };
    fs::create_dir(folder.path().join("in"))?;
    folder.write("there.csv", "somebody else's")?;
    let fast: &[&str] = &["--group", "fast"];
    let header = "name,address,type\n";
    for (csv, group, code, said) in [
        // A name that stands in the configuration, and one that the file has twice.
        (
            format!("{header}held,counter,uint64\nnew,sine,float64\nnew,sine,float64\n"),
            fast,
            1,
            vec![
                "in/new.csv:2:1: channel a, tag held, column name: tag `held` stands on line 9 of bulkhead.toml already",
                "in/new.csv:4:1: channel a, tag new, column name: tag `new` stands on line 3 already",
            ],
        ),
        // What the driver does not take.
        (
            format!("{header}new,nonsense,float64\n"),
            fast,
            1,
            vec!["in/new.csv:2:5: channel a, tag new.address"],
        ),
        (
            format!("{header}new,sine,float64\n"),
            &["--group", "slow"],
            1,
            vec!["error: bulkhead.toml: there is no group `slow`, but `fast`"],
        ),
        (
            String::new(),
            fast,
            1,
            vec!["in/new.csv:1:1: the file is empty"],
        ),
    ] {
        let ended = import("in/new.csv", &csv, group)?;
        ended_with(&ended, code);
        for said in said {
            assert!(
                ended.err.iter().any(|line| line.starts_with(said)),
                "{said}\n{ended:#?}"
            );
        }
    }
    let ended = import(
        "in/new.csv",
        &format!("{header}held,counter,uint64\n"),
        &["--group", "fast", "--json"],
    )?;
    let report = json_lines(&ended).remove(0);
    assert_eq!(
        (
            &report["ok"],
            &report["faults"][0]["file"],
            &report["faults"][0]["line"]
        ),
        (&json!(false), &json!("in/new.csv"), &json!(2))
    );
    let ended = import("in/there.csv", &format!("{header}new,sine,float64\n"), fast)?;
    ended_with(&ended, 1);
    assert!(
        ended.err[0].contains("there.csv is there already, and is another file"),
        "{ended:#?}"
    );
    let ended = folder.run(&[
        "tag",
        "import",
        "nowhere.csv",
        "--config",
        Folder::CONFIG,
        "--channel",
        "a",
    ])?;
    ended_with(&ended, 1);
    assert!(
        ended.err[0].contains("nowhere.csv cannot be read"),
        "{ended:#?}"
    );
    assert_eq!(fs::read_to_string(&config)?, before);
    assert_eq!(text(&folder, "there.csv")?, "somebody else's");
    assert_eq!(
        names(&folder)?,
        ["bulkhead.toml", "data", "in", "there.csv"]
    );

    // Exports say what is missing as well, and spare the configuration.
    folder.write_config(&format!(
        "{SIGNAL}[[channel]]\nid = \"b\"\ndriver = \"$DRIVERS/signal.wasm\"\n"
    ))?;
    for (more, code, said) in [
        (vec![], 2, "name one with --channel, such as a, b"),
        (vec!["--channel", "c"], 1, "there is no channel `c`"),
        (
            vec!["--channel", "a", "--group", "x"],
            1,
            "has no group `x`",
        ),
        (
            vec!["--channel", "a", "-o", Folder::CONFIG],
            2,
            "the place of the configuration",
        ),
        (
            vec!["--channel", "a", "-o", "nowhere/x.csv"],
            3,
            "nowhere/x.csv cannot be written",
        ),
    ] {
        let ended = folder.run(&[&["tag", "export", Folder::CONFIG], &more[..]].concat())?;
        ended_with(&ended, code);
        assert!(ended.err[0].contains(said), "{ended:#?}");
    }
    Ok(())
}
