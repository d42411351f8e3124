//! Plays one case of a script on a stage.

use std::collections::VecDeque;

use super::model::{
    Expected, ExpectedAnswer, ExpectedError, Pieces, Script, ScriptCase, Section, Step,
};
use super::words::same;
use crate::bindings::events::{CloseReason, Happening, Outlook, StartReason};
use crate::bindings::types::{Error, Sample, Value};
use crate::conform::heard::{Answer, shown_quality, shown_value};
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::pattern::{Captures, Mismatch, Pattern};
use crate::conform::peer::{Reach, Silent};
use crate::conform::stage::{Beginning, Kept, MILLISECOND, SECOND, Stage, beginning, spec};
use crate::conform::universal::Bench;
use crate::driver::Instance;

/// How long a step waits for what should come, in virtual time: timers of less than this run out by themselves, so that a
/// script need not know how a driver yields.
const PATIENCE: u64 = MILLISECOND * 10;
/// Until when a request is to be answered.
const TIMEOUT: u64 = 60 * SECOND;

/// Plays a case with the driver of this bench.
pub(in crate::conform) async fn run(
    bench: &Bench<'_>,
    script: &Script,
    case: &ScriptCase,
) -> CaseResult {
    let section = case.own.or(&script.plant).complete();
    if let Some(missing) = section.needs.iter().find(|need| !bench.can(need)) {
        return Err(NoPass::skipped(format!(
            "the driver does not declare `{missing}`"
        )));
    }
    if let Some((line, Step::Refused(..))) = case.steps.first() {
        let at_line = |why| at(script, *line, why);
        return refused(bench, &section, case).await.map_err(at_line);
    }
    let beginning = Beginning {
        memory: Some(bench.memory),
        ..Beginning::default()
    };
    let stage = Stage::begin(bench.driver, &section.config(), beginning, silent()).await;
    let stage = stage.map_err(|why| at(script, case.line, why))?;
    let mut play = Play {
        bench,
        section,
        stage,
        captures: Captures::default(),
        asked: VecDeque::new(),
        last: None,
        life: 1,
    };
    for (line, step) in &case.steps {
        let done = play.step(step).await.and_then(|()| play.stage.check());
        done.map_err(|why| at(script, *line, why))?;
    }
    let end = case.steps.last().map_or(case.line, |(line, _)| *line);
    play.left_over("at the end")
        .map_err(|why| at(script, end, why))?;
    Ok(None)
}

fn silent() -> Box<Silent> {
    Box::new(Silent(Reach::Unanswered))
}

fn at(script: &Script, line: usize, why: NoPass) -> NoPass {
    match why {
        NoPass::Failed(text) => NoPass::Failed(format!("{}:{line}: {text}", script.path.display())),
        other => other,
    }
}

/// The configuration must have the faults that the case lists; others are none of its business.
async fn refused(bench: &Bench<'_>, section: &Section, case: &ScriptCase) -> CaseResult {
    let now = beginning();
    let broken = |exit| NoPass::from(&exit);
    let instance = Instance::start(bench.driver, spec(7, bench.memory, 1), now)
        .await
        .map_err(broken)?;
    let (_, answer) = instance
        .configure(&section.config(), now)
        .await
        .map_err(broken)?;
    let Err(faults) = answer else {
        return Err(NoPass::failed(
            "the driver takes the configuration, which it should refuse",
        ));
    };
    for (_, step) in &case.steps {
        let Step::Refused(place, text) = step else {
            return Err(NoPass::failed(
                "a case that begins with `refused` has no other steps; the driver never starts",
            ));
        };
        if !faults
            .iter()
            .any(|fault| fault.at == *place && fault.message.contains(text))
        {
            let all: Vec<String> = faults
                .iter()
                .map(|fault| format!("  {}: {}", fault.at, fault.message))
                .collect();
            return Err(NoPass::failed(format!(
                "expected a fault at {place} that says {text:?}; the driver found\n{}",
                all.join("\n")
            )));
        }
    }
    Ok(None)
}

struct Play<'a> {
    bench: &'a Bench<'a>,
    section: Section,
    stage: Stage,
    captures: Captures,
    /// Requests whose answers were not told yet.
    asked: VecDeque<u64>,
    /// The request that was asked last.
    last: Option<u64>,
    life: u64,
}

impl Play<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), NoPass> {
        match step {
            Step::Opens(link, fate) => self.opens(*link, *fate).await?,
            Step::Up(link) => {
                for connection in self.stage.connections(*link) {
                    self.stage.bring_up(connection);
                }
            }
            Step::Drop(link, reason, outlook) => self.stage.lose_for_now(*link, *reason, *outlook),
            Step::Resets(link) => {
                self.wait(|stage| !stage.heard.resets.is_empty()).await;
                match self.stage.heard.resets.pop_front() {
                    Some((connection, found)) if found == *link => self.stage.bring_up(connection),
                    Some((_, found)) => {
                        return Err(NoPass::failed(format!(
                            "the driver reset a connection over link {found}, not {link}"
                        )));
                    }
                    None => return Err(self.missing("a reset")),
                }
            }
            Step::Closes => {
                self.wait(|stage| !stage.heard.closes.is_empty()).await;
                if self.stage.heard.closes.pop_front().is_none() {
                    return Err(self.missing("a close"));
                }
            }
            Step::Expect(link, pattern) => self.expect(*link, pattern).await?,
            Step::Quiet => {
                self.stage.settle().await;
                self.left_over("so far")?;
            }
            Step::Send(link, pattern, pieces) => self.send(*link, pattern, *pieces).await?,
            Step::Poll(group, skip) => {
                if !self.stage.poll(*group, skip.clone()) {
                    return Err(NoPass::failed(
                        "the group is still being polled; the driver owes its `done`",
                    ));
                }
            }
            Step::Done(group, requests, failed) => self.done(*group, *requests, *failed).await?,
            Step::Sample(tag, expected) => self.sample(*tag, expected).await?,
            Step::Read(tags) => {
                let request = self.stage.read(tags.clone(), TIMEOUT);
                self.ask(request);
            }
            Step::Write(tag, value, read_back) => {
                let request = self.stage.write(*tag, value.clone(), *read_back, TIMEOUT);
                self.ask(request);
            }
            Step::Command(name, payload) => {
                let request = self.stage.command(name, payload, TIMEOUT);
                self.ask(request);
            }
            Step::Health => {
                let request = self.stage.health();
                self.ask(request);
            }
            Step::Cancel => match self.last {
                Some(request) => self.stage.happen(Happening::Cancel(request)),
                None => {
                    return Err(NoPass::failed(
                        "nothing was asked before, so there is nothing to cancel",
                    ));
                }
            },
            Step::Answer(expected) => self.answer(expected).await?,
            Step::Advance(nanos) => self.stage.advance(*nanos).await,
            Step::Device(device, condition) => {
                self.wait(|stage| !stage.heard.device_states.is_empty())
                    .await;
                let states = &mut self.stage.heard.device_states;
                let found = states.iter().position(|state| state.device == *device);
                let state = found.and_then(|index| states.remove(index));
                match state {
                    Some(state) if state.condition == *condition => {}
                    Some(state) => {
                        return Err(NoPass::failed(format!(
                            "expected device {device} {condition:?}; it is {:?}: {}",
                            state.condition, state.why
                        )));
                    }
                    None => return Err(self.missing("a word on the device")),
                }
            }
            Step::Stop(reason) => self.stage.stop(2 * SECOND, *reason),
            Step::Stopped => {
                let until = self.stage.now() + 2 * SECOND;
                if !self
                    .stage
                    .until(until, |stage| stage.heard.stopped_at.is_some())
                    .await
                {
                    return Err(self.missing("`stopped`"));
                }
            }
            Step::Restart(kept) => self.restart(kept).await?,
            Step::Refused(..) => {
                return Err(NoPass::failed(
                    "`refused` is about a configuration: it stands first in its case, or after another",
                ));
            }
        }
        self.stage.settle().await;
        Ok(())
    }

    async fn wait(&mut self, is_so: impl Fn(&Stage) -> bool) {
        let until = self.stage.now() + PATIENCE;
        self.stage.until(until, is_so).await;
    }

    fn ask(&mut self, request: u64) {
        self.asked.push_back(request);
        self.last = Some(request);
    }

    async fn opens(
        &mut self,
        link: u32,
        fate: Option<(CloseReason, Outlook)>,
    ) -> Result<(), NoPass> {
        self.wait(|stage| !stage.heard.opens.is_empty()).await;
        match self.stage.heard.opens.pop_front() {
            Some((connection, found)) if found == link => match fate {
                None => self.stage.bring_up(connection),
                Some((reason, outlook)) => self.stage.lose_for_now(link, reason, outlook),
            },
            Some((_, found)) => {
                return Err(NoPass::failed(format!(
                    "the driver opened a connection over link {found}, not {link}"
                )));
            }
            None => return Err(self.missing("a connection to be opened")),
        }
        Ok(())
    }

    async fn expect(&mut self, link: u32, pattern: &Pattern) -> Result<(), NoPass> {
        let mut captures = self.captures.clone();
        let until = self.stage.now() + PATIENCE;
        let (wanted, known) = (pattern.clone(), captures.clone());
        // More bytes may be on the way for as long as those that are there could begin what is expected.
        self.stage
            .until(until, |stage| match stage.heard.sent.get(&link) {
                None => false,
                Some(bytes) => !matches!(
                    wanted.take(bytes, &mut known.clone()),
                    Err(Mismatch { is_short: true, .. })
                ),
            })
            .await;
        let bytes = self.stage.heard.sent.entry(link).or_default();
        match pattern.take(bytes, &mut captures) {
            Ok(taken) => {
                bytes.drain(..taken);
                self.captures = captures;
                Ok(())
            }
            Err(mismatch) => {
                let text = compared(pattern, &captures, bytes, &mismatch);
                self.stage.check()?;
                Err(NoPass::failed(text))
            }
        }
    }

    async fn send(&mut self, link: u32, pattern: &Pattern, pieces: Pieces) -> Result<(), NoPass> {
        let bytes = pattern
            .render(&self.captures)
            .map_err(|error| NoPass::failed(error.to_string()))?;
        let size = match pieces {
            Pieces::Whole => bytes.len(),
            Pieces::Bytes => 1,
        };
        for piece in bytes.chunks(size) {
            if !self.stage.receive(link, piece) {
                return Err(NoPass::failed(
                    "no connection over the link is up, so nothing can be sent; has the driver opened one, and was it brought up?",
                ));
            }
            self.stage.settle().await;
        }
        Ok(())
    }

    async fn done(
        &mut self,
        group: u32,
        requests: Option<u32>,
        failed: Option<u32>,
    ) -> Result<(), NoPass> {
        self.wait(|stage| !stage.heard.dones.is_empty()).await;
        let Some((_, done)) = self.stage.heard.dones.pop_front() else {
            return Err(self.missing("the answer to the poll"));
        };
        let is_it = done.group == group
            && requests.is_none_or(|requests| requests == done.requests)
            && failed.is_none_or(|failed| failed == done.failed);
        if is_it {
            return Ok(());
        }
        let word = |number: Option<u32>| {
            number.map_or_else(|| "any".to_owned(), |number| number.to_string())
        };
        Err(NoPass::failed(format!(
            "expected the answer to a poll of group {group} with requests={} failed={}\n   found one of group {} with requests={} failed={}",
            word(requests),
            word(failed),
            done.group,
            done.requests,
            done.failed
        )))
    }

    async fn sample(&mut self, tag: u32, expected: &Expected) -> Result<(), NoPass> {
        let of_tag = move |sample: &Sample| sample.tag == tag;
        self.wait(|stage| stage.heard.samples.iter().any(of_tag))
            .await;
        let samples = &mut self.stage.heard.samples;
        let Some(sample) = samples
            .iter()
            .position(of_tag)
            .and_then(|index| samples.remove(index))
        else {
            return Err(self.missing("a sample"));
        };
        if fits(expected, &sample) {
            return Ok(());
        }
        Err(NoPass::failed(differs(&self.name(tag), expected, &sample)))
    }

    fn name(&self, tag: u32) -> String {
        let found = self.section.tags.iter().find(|known| known.id == tag);
        found.map_or_else(|| tag.to_string(), |tag| tag.name.clone())
    }

    async fn answer(&mut self, expected: &ExpectedAnswer) -> Result<(), NoPass> {
        let Some(request) = self.asked.pop_front() else {
            return Err(NoPass::failed(
                "nothing was asked, or all was answered before",
            ));
        };
        self.wait(|stage| stage.heard.answer(request).is_some())
            .await;
        let Some(answer) = self.stage.heard.answer(request).cloned() else {
            return Err(self.missing("the answer"));
        };
        match (expected, &answer) {
            (ExpectedAnswer::Error(expected), answer) => match answer.error() {
                Some(error) if is_expected(expected, error) => Ok(()),
                Some(error) => Err(NoPass::failed(format!(
                    "expected an error {}\n   found error {}",
                    shown_expected(expected),
                    shown_error(error)
                ))),
                None => Err(NoPass::failed(format!(
                    "expected an error {}; the answer is in order: {}",
                    shown_expected(expected),
                    shown_answer(answer)
                ))),
            },
            (_, answer) if answer.error().is_some() => Err(NoPass::failed(format!(
                "expected an answer in order, found {}",
                shown_answer(answer)
            ))),
            (ExpectedAnswer::Ok, _) => Ok(()),
            (ExpectedAnswer::Values(values), Answer::Read(Ok(samples)))
                if values.len() == samples.len() =>
            {
                match values
                    .iter()
                    .zip(samples)
                    .find(|(expected, sample)| !fits(expected, sample))
                {
                    None => Ok(()),
                    Some((expected, sample)) => Err(NoPass::failed(differs(
                        &self.name(sample.tag),
                        expected,
                        sample,
                    ))),
                }
            }
            (ExpectedAnswer::Values(values), Answer::Write(Ok(Some(value))))
                if values.len() == 1 =>
            {
                let expected = values[0].value.as_ref();
                if expected.is_some_and(|expected| same(expected, value)) {
                    Ok(())
                } else {
                    Err(NoPass::failed(format!(
                        "expected {} to be read back, found {}",
                        shown_value(expected),
                        shown_value(Some(value))
                    )))
                }
            }
            (ExpectedAnswer::Bytes(pattern), Answer::Command(Ok(bytes))) => {
                let mut captures = self.captures.clone();
                match pattern.take(bytes, &mut captures) {
                    Ok(taken) if taken == bytes.len() => Ok(()),
                    Ok(taken) => Err(NoPass::failed(format!(
                        "the answer goes on after byte {taken}: {}",
                        hex(&bytes[taken..])
                    ))),
                    Err(mismatch) => Err(NoPass::failed(compared(
                        pattern, &captures, bytes, &mismatch,
                    ))),
                }
            }
            (ExpectedAnswer::Json(json), Answer::Command(Ok(bytes))) => {
                match serde_json::from_slice::<serde_json::Value>(bytes) {
                    Ok(found) if found == *json => Ok(()),
                    Ok(found) => Err(NoPass::failed(format!("expected {json}\n   found {found}"))),
                    Err(_) => Err(NoPass::failed(format!(
                        "expected {json}; the answer is no JSON: {}",
                        hex(bytes)
                    ))),
                }
            }
            (_, answer) => Err(NoPass::failed(format!(
                "the answer is of another kind, or has another number of values: {}",
                shown_answer(answer)
            ))),
        }
    }

    async fn restart(&mut self, kept: &[u32]) -> Result<(), NoPass> {
        self.stage.settle().await;
        self.left_over("before the restart")?;
        self.life += 1;
        let beginning = Beginning {
            incarnation: self.life,
            reason: StartReason::RestartAfterFault,
            state: self.stage.heard.state.clone(),
            kept: kept
                .iter()
                .map(|link| Kept {
                    connection: *link,
                    link: *link,
                    target: self.stage.target(*link),
                })
                .collect(),
            memory: Some(self.bench.memory),
            ..Beginning::default()
        };
        self.stage = Stage::begin(
            self.bench.driver,
            &self.section.config(),
            beginning,
            silent(),
        )
        .await?;
        self.asked.clear();
        self.last = None;
        Ok(())
    }

    /// What did not come, with what came instead.
    fn missing(&self, what: &str) -> NoPass {
        if let Err(why) = self.stage.check() {
            return why;
        }
        let mut text = format!("expected {what}, and nothing came");
        if let Err(NoPass::Failed(rest)) = self.left_over("meanwhile") {
            text += &format!("\n{rest}");
        }
        NoPass::Failed(text)
    }

    /// Fails if the driver has done what no step has told of.
    fn left_over(&self, when: &str) -> Result<(), NoPass> {
        let heard = &self.stage.heard;
        let mut lines = Vec::new();
        for (link, bytes) in heard.sent.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            lines.push(format!("sent over link {link}: {}", hex(bytes)));
        }
        for sample in heard.samples.iter().take(8) {
            lines.push(format!(
                "published {} = {} {}",
                self.name(sample.tag),
                shown_value(sample.value.as_ref()),
                shown_quality(sample.quality)
            ));
        }
        lines.extend(heard.dones.iter().map(|(_, done)| {
            format!(
                "answered the poll of group {}: requests={} failed={}",
                done.group, done.requests, done.failed
            )
        }));
        lines.extend(
            heard.opens.iter().map(|(connection, link)| {
                format!("opened connection {connection} over link {link}")
            }),
        );
        lines.extend(
            heard
                .resets
                .iter()
                .map(|(connection, _)| format!("reset connection {connection}")),
        );
        for request in &self.asked {
            if let Some(answer) = heard.answer(*request) {
                lines.push(format!(
                    "answered request {request}: {}",
                    shown_answer(answer)
                ));
            }
        }
        if heard.stopped_at.is_some() || when != "at the end" {
            // What was closed on the way out needs no step.
        } else {
            lines.extend(
                heard
                    .closes
                    .iter()
                    .map(|connection| format!("closed connection {connection}")),
            );
            lines.extend(
                heard
                    .owed()
                    .iter()
                    .map(|owed| format!("did not answer {owed}")),
            );
        }
        if lines.is_empty() {
            return Ok(());
        }
        Err(NoPass::failed(format!(
            "{when}, no step tells that the driver\n  {}",
            lines.join("\n  ")
        )))
    }
}

fn fits(expected: &Expected, sample: &Sample) -> bool {
    let value = match (&expected.value, &sample.value) {
        (None, _) => true,
        (Some(expected), Some(found)) => same(expected, found),
        (Some(_), None) => false,
    };
    value && sample.quality == expected.quality
}

fn differs(name: &str, expected: &Expected, sample: &Sample) -> String {
    let value = |value: Option<&Value>| shown_value(value);
    format!(
        "{name}: expected {} {}\n   found {} {}",
        value(expected.value.as_ref()),
        shown_quality(expected.quality),
        value(sample.value.as_ref()),
        shown_quality(sample.quality)
    )
}

fn is_expected(expected: &ExpectedError, error: &Error) -> bool {
    expected.code.is_none_or(|code| code == error.code)
        && expected
            .quality
            .is_none_or(|quality| quality == error.quality)
        && error.message.contains(&expected.text)
}

fn shown_expected(expected: &ExpectedError) -> String {
    let mut shown = expected.code.map(shown_code).unwrap_or_default();
    if let Some(quality) = expected.quality {
        shown += " ";
        shown += shown_quality(quality);
    }
    format!("{shown} that says {:?}", expected.text)
}

fn shown_error(error: &Error) -> String {
    let quality = shown_quality(error.quality);
    format!("{} {quality}: {}", shown_code(error.code), error.message)
}

fn shown_code(code: Option<u32>) -> String {
    code.map_or_else(|| "-".to_owned(), |code| code.to_string())
}

fn shown_answer(answer: &Answer) -> String {
    if let Some(error) = answer.error() {
        return format!("error {}", shown_error(error));
    }
    match answer {
        Answer::Read(Ok(samples)) => {
            let all: Vec<String> = samples
                .iter()
                .take(8)
                .map(|sample| {
                    format!(
                        "{} {}",
                        shown_value(sample.value.as_ref()),
                        shown_quality(sample.quality)
                    )
                })
                .collect();
            all.join(", ")
        }
        Answer::Write(Ok(value)) => shown_value(value.as_ref()),
        Answer::Command(Ok(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => crate::text::shown(text, 512),
            Err(_) => hex(bytes),
        },
        _ => "ok".to_owned(),
    }
}

/// Expected above found, byte by byte, with a mark below the first that differs.
fn compared(pattern: &Pattern, captures: &Captures, found: &[u8], mismatch: &Mismatch) -> String {
    const SHOWN: usize = 64;
    // Around the place, where there is much of it.
    let from = mismatch.at.saturating_sub(SHOWN / 2) / 16 * 16;
    let piece = found.get(from..).unwrap_or_default();
    let mark = format!("{}^^", "   ".repeat(mismatch.at - from));
    let what = if mismatch.is_short && mismatch.at >= found.len() {
        format!(
            "the bytes end after {}, where {} is expected",
            found.len(),
            mismatch.expected
        )
    } else {
        format!(
            "byte {} is {:02x}, where {} is expected",
            mismatch.at,
            found.get(mismatch.at).copied().unwrap_or_default(),
            mismatch.expected
        )
    };
    let lead = if from > 0 {
        format!("(from byte {from})\n")
    } else {
        String::new()
    };
    format!(
        "{what}\n{lead}  expected {}\n     found {}\n           {mark}",
        crate::text::shown(&pattern.shown(captures), 3 * 1024),
        hex(&piece[..piece.len().min(SHOWN)])
    )
}

fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 256;
    let mut cells: Vec<String> = bytes
        .iter()
        .take(SHOWN)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if bytes.len() > SHOWN {
        cells.push(format!("… {} bytes in all", bytes.len()));
    }
    cells.join(" ")
}
