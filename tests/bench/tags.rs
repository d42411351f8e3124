//! `bench tags`: a host of a hundred thousand tags, as its operators meet it: how long it takes to start, what a tag holds in memory, how long a
//! page of the list takes, and a reload that changes one channel among a thousand.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::Instant;

use crate::host::{driver, root};
use crate::idle::rollup_kib_of;
use crate::report::{line, quantile};

const CHANNELS: usize = 1_000;
const TAGS: usize = 100;
const PAGE: usize = 1_000;
const RELOADS: usize = 5;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// A running host.
struct Host {
    process: Process,
    url: String,
    /// From its start until its API answers.
    start_s: f64,
}

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    let folder = root()?.join("target/bench/tags");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("tags.toml");
    // The first start compiles; that is no matter of tags.
    drop(start(&file, 1, 1)?);
    eprintln!("bench: {CHANNELS} channels of one tag");
    let few = start(&file, CHANNELS, 1)?;
    let few_kib = memory(&few)?;
    drop(few);
    eprintln!("bench: {CHANNELS} channels of {TAGS} tags");
    let host = start(&file, CHANNELS, TAGS)?;
    let held_bytes = (memory(&host)? - few_kib) * 1024.0 / (CHANNELS * (TAGS - 1)) as f64;
    let (mut pages, mut shown) = (Vec::new(), 0);
    let agent = agent();
    let mut cursor = String::new();
    loop {
        let began = Instant::now();
        let page: Value = get(
            &agent,
            &format!("{}/api/v1/tags?limit={PAGE}{cursor}", host.url),
        )?;
        pages.push(began.elapsed().as_secs_f64() * 1e3);
        shown += page["tags"].as_array().context("tags")?.len();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace('/', "%2F")),
            None => break,
        }
    }
    ensure!(shown == CHANNELS * TAGS, "{shown} tags are listed");
    let mut reloads = Vec::new();
    let mut parses = Vec::new();
    for round in 0..RELOADS {
        let text = text(CHANNELS, TAGS, &format!("{}s", 2 + round))?;
        std::fs::write(&file, &text)?;
        let began = Instant::now();
        let mut answer = agent
            .post(format!("{}/api/v1/reload", host.url))
            .send_json(serde_json::json!({}))?;
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
        reloads.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(
            answer["applied"] == true && answer["unchanged"] == CHANNELS - 1,
            "{answer:#}"
        );
        let origin = bulkhead::config::Origin {
            name: "tags.toml".into(),
            folder: PathBuf::new(),
        };
        let began = Instant::now();
        let parsed = bulkhead::config::parse(&text, &origin);
        parses.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(parsed.is_ok(), "it was taken up");
    }
    let start_s = host.start_s;
    drop(host);
    let (page_p50, page_p99) = (quantile(&mut pages, 0.5), quantile(&mut pages, 0.99));
    let (reload, parse) = (quantile(&mut reloads, 0.5), quantile(&mut parses, 0.5));
    if json {
        let rounded = |figure: f64| (figure * 100.0).round() / 100.0;
        println!(
            "{}",
            serde_json::json!({
                "bench": "tags",
                "tags": CHANNELS * TAGS,
                "start_s": rounded(start_s),
                "tag_bytes": held_bytes.round(),
                "page_p50_ms": rounded(page_p50),
                "page_p99_ms": rounded(page_p99),
                "reload_p50_ms": rounded(reload),
                "parse_p50_ms": rounded(parse),
            })
        );
        return Ok(());
    }
    line("start with 100,000 tags", start_s, "s", None, "none");
    line("each tag holds", held_bytes, "B", None, "none");
    line("a page of 1,000 tags, p50", page_p50, "ms", None, "none");
    line("a page of 1,000 tags, p99", page_p99, "ms", None, "none");
    let floor = Some((parse, "parsing the file"));
    line("reload of 1 channel of 1,000", reload, "ms", floor, "none");
    Ok(())
}

/// The configuration; the first channel's period is given.
fn text(channels: usize, tags: usize, first: &str) -> Result<String> {
    let driver = driver("signal")?;
    let mut text = String::from("[http]\nlisten = \"127.0.0.1:0\"\n");
    for number in 0..channels {
        let period = if number == 0 { first } else { "1s" };
        write!(
            text,
            "[[channel]]\nid = \"c{number}\"\ndriver = \"{}\"\n[[channel.group]]\nname = \"all\"\nperiod = \"{period}\"\ntags = [\n",
            driver.display()
        )?;
        for tag in 0..tags {
            writeln!(
                text,
                "{{ name = \"tag-{tag}\", address = \"hold({tag})\", type = \"float64\", unit = \"bar\" }},"
            )?;
        }
        text.push_str("]\n");
    }
    Ok(text)
}

fn start(file: &Path, channels: usize, tags: usize) -> Result<Host> {
    std::fs::write(file, text(channels, tags, "1s")?)?;
    let program = std::env::var_os("BULKHEAD_BIN").context("xtask says where the host is")?;
    let began = Instant::now();
    let mut child = Command::new(program)
        .arg("run")
        .arg(file)
        .args(["--log-level", "off"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let err = child.stderr.take().context("piped")?;
    let process = Process(child);
    let mut lines = BufReader::new(err).lines();
    let url = loop {
        let line = lines.next().context("the host ended")??;
        if let Some(url) = line.strip_prefix("ready: ") {
            break url.to_owned();
        }
    };
    let start_s = began.elapsed().as_secs_f64();
    std::thread::spawn(move || lines.for_each(drop));
    // Every tag has a value.
    let (agent, wanted) = (agent(), channels * tags);
    for _ in 0..600 {
        let status = get(&agent, &format!("{url}/api/v1/status"))?;
        if status["tags"]["good"] == wanted {
            return Ok(Host {
                process,
                url,
                start_s,
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("not all tags are good")
}

fn memory(host: &Host) -> Result<f64> {
    Ok(rollup_kib_of(host.process.0.id(), "Pss:")? as f64)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(120)))
        .build()
        .new_agent()
}

fn get(agent: &ureq::Agent, url: &str) -> Result<Value> {
    let text = agent.get(url).call()?.body_mut().read_to_string()?;
    Ok(serde_json::from_str(&text)?)
}
