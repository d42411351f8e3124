//! The last value of each tag of one channel, and which samples are handed on.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rule::{Rare, Rule, Rules};
use crate::bindings::types;
use crate::config::{Report, Tag};
use crate::event::{MonotonicNs, Quality, Sample, Value, WallNs};
use crate::ids::{DeviceId, TagId};

/// Whether samples of a device may be good at this moment.
pub trait Gate {
    /// Whether every device may be good, so that none needs to be asked for.
    fn is_open(&self) -> bool;

    /// The quality that a good sample of this device gets instead, with the reason; `None` lets it pass.
    fn blocks(&self, device: DeviceId) -> Option<(Quality, Arc<str>)>;
}

/// What is known of one tag.
#[derive(Clone, Debug, PartialEq)]
pub struct TagState {
    /// The last value that was read, in engineering units. Stays when the quality goes bad.
    pub value: Option<Value>,
    /// The quality now.
    pub quality: Quality,
    /// Why the quality is not good, where the host knows more than the quality says.
    pub reason: Option<Arc<str>>,
    /// The device's own time of the value, if it gave one.
    pub source_time: Option<WallNs>,
    /// When the host received the value or changed its quality; `None` before the first time.
    pub server_time: Option<WallNs>,
}

/// The tags of one channel.
pub struct TagTable {
    tags: Arc<[Tag]>,
    rules: Rules,
    cells: Mutex<Box<[Cell]>>,
}

/// What is known of one tag: a [`TagState`] in half of the room, since there are many.
struct Cell {
    value: Option<Value>,
    quality: Quality,
    has_source_time: bool,
    has_server_time: bool,
    /// Of no meaning where there is none.
    source_time: WallNs,
    /// Of no meaning where there is none.
    server_time: WallNs,
    /// The reason is wrapped twice so that it takes one word: most tags have none.
    reason: Option<Arc<Arc<str>>>,
    /// When a sample came last that was not bad.
    fresh: MonotonicNs,
    /// Of tags of which consumers may have been told something else than what is known now; see [`Rule::tells_what_it_knows`].
    reported: Option<Box<Reported>>,
}

/// The reason that was wrapped last: a device that is away gives many tags the same.
#[derive(Default)]
struct Why(Option<Arc<Arc<str>>>);

impl Why {
    fn of(&mut self, reason: Arc<str>) -> Arc<Arc<str>> {
        match &self.0 {
            Some(last) if Arc::ptr_eq(&**last, &reason) => last.clone(),
            _ => self.0.insert(Arc::new(reason)).clone(),
        }
    }
}

/// What consumers were told last.
struct Reported {
    value: Option<Value>,
    quality: Quality,
    /// When; of tags that care.
    at: MonotonicNs,
    /// When their interval began.
    interval_began: MonotonicNs,
}

impl Cell {
    fn new() -> Self {
        Self {
            value: None,
            quality: Quality::BadWaitingForInitialData,
            has_source_time: false,
            has_server_time: false,
            source_time: WallNs(0),
            server_time: WallNs(0),
            reason: None,
            fresh: MonotonicNs(0),
            reported: None,
        }
    }

    fn state(&self) -> TagState {
        TagState {
            value: self.value.clone(),
            quality: self.quality,
            reason: self.reason.as_ref().map(|reason| (**reason).clone()),
            source_time: self.source_time(),
            server_time: self.has_server_time.then_some(self.server_time),
        }
    }

    fn source_time(&self) -> Option<WallNs> {
        self.has_source_time.then_some(self.source_time)
    }

    #[inline]
    fn set_source_time(&mut self, time: Option<WallNs>) {
        self.has_source_time = time.is_some();
        self.source_time = time.unwrap_or_default();
    }

    #[inline]
    fn set_server_time(&mut self, time: WallNs) {
        self.has_server_time = true;
        self.server_time = time;
    }

    /// Another quality at once. Gives the change, if it is one.
    fn mark(
        &mut self,
        tag: TagId,
        rule: &Rule,
        quality: Quality,
        reason: &Arc<Arc<str>>,
        server_time: WallNs,
    ) -> Option<Sample> {
        self.reason = Some(reason.clone());
        if self.quality == quality {
            return None;
        }
        self.quality = quality;
        self.set_server_time(server_time);
        if !rule.tells_what_it_knows() {
            self.note_report(self.value.clone(), quality);
        }
        Some(Sample {
            tag,
            value: self.value.clone(),
            quality,
            source_time: self.source_time(),
        })
    }

    /// Whether this is something else than what is known, for a tag of which that was told. To be asked before it is taken over.
    fn is_news(&self, value: &Option<Value>, quality: Quality) -> bool {
        !self.has_server_time
            || self.quality != quality
            // A bad sample says nothing of the value.
            || (!quality.is_bad() && differs(&self.value, value, 0.0))
    }

    fn note_report(&mut self, value: Option<Value>, quality: Quality) {
        match &mut self.reported {
            Some(before) => {
                before.value = value;
                before.quality = quality;
            }
            none @ None => {
                *none = Some(Box::new(Reported {
                    value,
                    quality,
                    at: MonotonicNs(0),
                    interval_began: MonotonicNs(0),
                }));
            }
        }
    }
}

impl TagTable {
    /// A table in which nothing was read yet.
    pub fn new(tags: Arc<[Tag]>) -> Self {
        let cells = tags.iter().map(|_| Cell::new()).collect();
        Self {
            rules: Rules::new(&tags),
            tags,
            cells: Mutex::new(cells),
        }
    }

    /// The tags' configuration.
    pub fn tags(&self) -> &Arc<[Tag]> {
        &self.tags
    }

    /// What a sample of each tag may be, in their order.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes in samples in the device's terms, all of whose tags exist and whose values have their tags' types. Gives
    /// those to hand on, in engineering units, in their order.
    pub fn take(
        &self,
        mut samples: Vec<types::Sample>,
        gate: &impl Gate,
        (server_time, now): (WallNs, MonotonicNs),
    ) -> Vec<Sample> {
        let gate = (!gate.is_open()).then_some(gate);
        let mut handed_on = Vec::with_capacity(samples.len());
        let mut why = Why::default();
        let mut cells = self.lock();
        // Not by value: most are looked at where they lie.
        for sample in &mut samples {
            let index = sample.tag as usize;
            let (Some(rule), Some(cell)) = (self.rules.get(index), cells.get_mut(index)) else {
                continue;
            };
            if gate.is_some()
                || !take_number(rule, cell, sample, (server_time, now), &mut handed_on)
            {
                let sample = Sample {
                    tag: TagId(sample.tag),
                    value: sample.value.take().map(Value::from),
                    quality: sample.quality.into(),
                    source_time: sample.source_time_ns.map(WallNs),
                };
                let at = (server_time, now);
                take_any(rule, cell, sample, gate, &mut why, at, &mut handed_on);
            }
        }
        handed_on
    }

    /// Gives the tags for which `which` holds another quality at once. Their last values stay. Gives back the
    /// changes.
    pub fn mark(
        &self,
        which: impl Fn(&Tag) -> bool,
        quality: Quality,
        reason: &Arc<str>,
        server_time: WallNs,
    ) -> Vec<Sample> {
        let reason = Arc::new(reason.clone());
        let mut cells = self.lock();
        let mut changes = Vec::new();
        for ((id, rule, cell), tag) in self.each(&mut cells).zip(self.tags.iter()) {
            if which(tag) {
                changes.extend(cell.mark(id, rule, quality, &reason, server_time));
            }
        }
        changes
    }

    /// As [`TagTable::mark`], for the tags at these places.
    pub fn mark_places(
        &self,
        places: &HashSet<usize>,
        quality: Quality,
        reason: &Arc<str>,
        server_time: WallNs,
    ) -> Vec<Sample> {
        let reason = Arc::new(reason.clone());
        let mut cells = self.lock();
        let mut changes = Vec::new();
        for (id, rule, cell) in self.each(&mut cells) {
            if places.contains(&id.index()) {
                changes.extend(cell.mark(id, rule, quality, &reason, server_time));
            }
        }
        changes
    }

    /// Goes on with what another table knows: for each tag here its place there, if it is there, and treated as it is here.
    pub fn take_over(&self, before: &TagTable, places: &[Option<usize>]) {
        let mut old = before.lock();
        let mut cells = self.lock();
        for (cell, place) in cells.iter_mut().zip(places) {
            if let Some(known) = place.and_then(|place| old.get_mut(place)) {
                *cell = Cell {
                    value: known.value.clone(),
                    reason: known.reason.clone(),
                    reported: known.reported.take(),
                    ..*known
                };
            }
        }
    }

    /// As [`TagTable::mark`], but a tag that is bad already keeps its more specific quality and reason. One that has no reason gets this
    /// one, which is no change.
    pub fn mark_unless_bad(
        &self,
        which: impl Fn(&Tag) -> bool,
        quality: Quality,
        reason: &Arc<str>,
        server_time: WallNs,
    ) -> Vec<Sample> {
        let reason = Arc::new(reason.clone());
        let mut cells = self.lock();
        let mut changes = Vec::new();
        for ((id, rule, cell), tag) in self.each(&mut cells).zip(self.tags.iter()) {
            if !which(tag) {
                continue;
            }
            if cell.quality.is_bad() {
                cell.reason.get_or_insert_with(|| reason.clone());
            } else {
                changes.extend(cell.mark(id, rule, quality, &reason, server_time));
            }
        }
        changes
    }

    /// Those of these tags that no sample came for since `since` are stale, unless they are bad already.
    pub fn mark_stale(
        &self,
        tags: &[TagId],
        since: MonotonicNs,
        reason: &Arc<str>,
        server_time: WallNs,
    ) -> Vec<Sample> {
        let reason = Arc::new(reason.clone());
        let mut cells = self.lock();
        let mut changes = Vec::new();
        for tag in tags {
            if let (Some(rule), Some(cell)) =
                (self.rules.get(tag.index()), cells.get_mut(tag.index()))
                && !cell.quality.is_bad()
                && cell.fresh < since
            {
                changes.extend(cell.mark(*tag, rule, Quality::BadStale, &reason, server_time));
            }
        }
        changes
    }

    /// A value in the device's terms, in engineering units. `None` if there is no such tag.
    pub fn to_engineering(&self, tag: TagId, value: Value) -> Option<Value> {
        self.rules.get(tag.index()).map(|rule| rule.in_units(value))
    }

    /// What is known of one tag.
    pub fn state(&self, tag: TagId) -> Option<TagState> {
        self.lock().get(tag.index()).map(Cell::state)
    }

    /// What is known of all tags, in order.
    pub fn states(&self) -> Vec<TagState> {
        self.lock().iter().map(Cell::state).collect()
    }

    /// How many tags are good, and how many there are.
    pub fn count_good(&self) -> (usize, usize) {
        let cells = self.lock();
        (
            cells.iter().filter(|cell| cell.quality.is_good()).count(),
            cells.len(),
        )
    }

    /// How many tags have each quality, in the order of [`Quality::ALL`]. The lock is held for a few microseconds at a time, so a turn
    /// may come between, and a tag that changes meanwhile is counted as it was or as it is.
    pub fn count_by_quality(&self) -> [u64; Quality::ALL.len()] {
        const AT_ONCE: usize = 1_024;
        let mut counts = [0; Quality::ALL.len()];
        for from in (0..self.tags.len()).step_by(AT_ONCE) {
            let cells = self.lock();
            for cell in cells.iter().skip(from).take(AT_ONCE) {
                let place = Quality::ALL
                    .iter()
                    .position(|quality| *quality == cell.quality);
                if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
                    *count += 1;
                }
            }
        }
        counts
    }

    /// Each tag's cell, with its rule.
    fn each<'a>(
        &'a self,
        cells: &'a mut [Cell],
    ) -> impl Iterator<Item = (TagId, &'a Rule, &'a mut Cell)> {
        let cells = (0u32..).zip(cells);
        cells.filter_map(|(place, cell)| {
            let id = TagId(place);
            Some((id, self.rules.get(id.index())?, cell))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Box<[Cell]>> {
        // Every change of a cell is whole before anything could panic, so a poisoned table is still true.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in what nearly every sample is: one number or truth value that fits, of whatever quality but a bad one. Says
/// whether it did. The same as [`take_any`], without moving the value from place to place.
#[inline]
fn take_number(
    rule: &Rule,
    cell: &mut Cell,
    sample: &types::Sample,
    at: (WallNs, MonotonicNs),
    handed_on: &mut Vec<Sample>,
) -> bool {
    if rule.rare.is_some() || Quality::from(sample.quality).is_bad() {
        return false;
    }
    match sample.value {
        Some(types::Value::Boolean(v)) => settle(rule, cell, sample, v, at, handed_on),
        Some(types::Value::Float(v)) if !rule.is_whole() => {
            let v = rule.scaled(v).unwrap_or(v);
            settle(rule, cell, sample, v, at, handed_on);
        }
        Some(types::Value::Int(v)) if rule.fits_int(v) => match rule.scaled(v as f64) {
            Some(v) => settle(rule, cell, sample, v, at, handed_on),
            None => settle(rule, cell, sample, v, at, handed_on),
        },
        Some(types::Value::Uint(v)) if rule.fits_uint(v) => match rule.scaled(v as f64) {
            Some(v) => settle(rule, cell, sample, v, at, handed_on),
            None => settle(rule, cell, sample, v, at, handed_on),
        },
        _ => return false,
    }
    true
}

/// What fits a register.
trait Plain: Copy {
    fn value(self) -> Value;
}

impl Plain for bool {
    fn value(self) -> Value {
        Value::Boolean(self)
    }
}

impl Plain for i64 {
    fn value(self) -> Value {
        Value::Int(self)
    }
}

impl Plain for u64 {
    fn value(self) -> Value {
        Value::Uint(self)
    }
}

impl Plain for f64 {
    fn value(self) -> Value {
        Value::Float(self)
    }
}

/// Takes a value over into its cell and hands it on. A function of its own for each kind of value: where the kind is known,
/// it is written at once; where it is not, the compiler puts the value together piece by piece and reads it back as a
/// whole, and the processor waits for that longer than for all the rest.
#[inline(never)]
fn settle<V: Plain>(
    rule: &Rule,
    cell: &mut Cell,
    sample: &types::Sample,
    value: V,
    (server_time, now): (WallNs, MonotonicNs),
    handed_on: &mut Vec<Sample>,
) {
    let quality = Quality::from(sample.quality);
    let source_time = sample.source_time_ns.map(WallNs);
    // Before it is taken over: of most tags this is what consumers know.
    let is_wanted = rule.report == Report::Always || is_change(rule, cell, value.value(), quality);
    cell.value = Some(value.value());
    cell.quality = quality;
    cell.reason = None;
    cell.set_source_time(source_time);
    cell.set_server_time(server_time);
    cell.fresh = now;
    if is_wanted {
        // Not `push`: it would put the sample together elsewhere, for the case that it must find room first.
        handed_on.extend(std::iter::once_with(|| Sample {
            tag: TagId(sample.tag),
            value: Some(value.value()),
            quality,
            source_time,
        }));
    }
}

/// Whether a sample says anything new to consumers who want changes only. To be asked before it is taken over.
#[inline(never)]
fn is_change(rule: &Rule, cell: &mut Cell, value: Value, quality: Quality) -> bool {
    match rule.tells_what_it_knows() {
        true => cell.is_news(&Some(value), quality),
        false => take_change(cell, &Some(value), quality, rule.deadband),
    }
}

/// Takes in any sample.
#[inline(never)]
fn take_any(
    rule: &Rule,
    cell: &mut Cell,
    mut sample: Sample,
    gate: Option<&impl Gate>,
    wrapped: &mut Why,
    (server_time, now): (WallNs, MonotonicNs),
    handed_on: &mut Vec<Sample>,
) {
    let mut reason = None;
    if let Some(value) = sample.value.take()
        && !sample.quality.is_bad()
    {
        if rule.fits(&value) {
            let value = rule.in_units(value);
            if let Some(limits) = rule.beyond(&value)
                && sample.quality.is_good()
            {
                sample.quality = Quality::UncertainOutOfRange;
                reason = Some(format!("it is outside of the tag's limits, {limits}").into());
            }
            sample.value = Some(value);
        } else {
            sample.quality = Quality::BadOutOfRange;
            reason = Some(unfit(&value, rule));
        }
    }
    if let Some((quality, why)) = gate.and_then(|gate| gate.blocks(rule.device)) {
        // What a driver says of itself when nothing gets through may be more exact; why that is so the host knows better.
        if !sample.quality.is_bad() {
            sample.quality = quality;
        }
        reason = Some(why);
    }
    let is_news = rule
        .tells_what_it_knows()
        .then(|| rule.report == Report::Always || cell.is_news(&sample.value, sample.quality));
    if sample.quality.is_bad() {
        // A bad sample says nothing new about the value: the last known one stays, under the bad quality.
        sample.value.clone_from(&cell.value);
        sample.source_time = cell.source_time();
    } else {
        cell.value.clone_from(&sample.value);
        cell.set_source_time(sample.source_time);
        cell.fresh = now;
    }
    cell.quality = sample.quality;
    cell.reason = reason.map(|reason| wrapped.of(reason));
    cell.set_server_time(server_time);
    if is_news.unwrap_or_else(|| is_reported(rule, cell, &sample, now)) {
        handed_on.push(sample);
    }
}

/// Whether consumers want to hear of a sample, as their tag says.
fn is_reported(rule: &Rule, cell: &mut Cell, sample: &Sample, now: MonotonicNs) -> bool {
    let due = rule
        .rare
        .as_ref()
        .is_some_and(|rare| is_due(rare, cell, now));
    let news = match rule.report {
        Report::Interval => cell
            .reported
            .as_ref()
            .is_none_or(|reported| reported.quality != sample.quality),
        _ => cell.reported.as_ref().is_none_or(|reported| {
            reported.quality != sample.quality
                || differs(&reported.value, &sample.value, rule.deadband)
        }),
    };
    if !news && !due {
        return false;
    }
    cell.note_report(sample.value.clone(), sample.quality);
    if let Some(reported) = &mut cell.reported {
        reported.at = now;
    }
    true
}

/// Whether a sample is wanted whatever it says: the first one of an interval, or after too long a silence. Intervals follow one
/// another without gaps from the first sample on, so that a late sample does not shift those after it.
fn is_due(rare: &Rare, cell: &mut Cell, now: MonotonicNs) -> bool {
    let Some(reported) = &mut cell.reported else {
        cell.note_report(None, Quality::BadWaitingForInitialData);
        if let Some(first) = &mut cell.reported {
            first.interval_began = now;
        }
        return true;
    };
    let silent = rare
        .max_silence
        .is_some_and(|most| now.since(reported.at) >= most);
    let begun = now.since(reported.interval_began);
    let next = !rare.interval.is_zero() && begun >= rare.interval;
    if next {
        let (begun, interval) = (begun.as_nanos(), rare.interval.as_nanos());
        let over = u64::try_from(begun % interval).unwrap_or(0);
        reported.interval_began = MonotonicNs(now.0.saturating_sub(over));
    }
    silent || next
}

/// Why a value that its type cannot hold is not good.
#[cold]
fn unfit(value: &Value, rule: &Rule) -> Arc<str> {
    let kind = rule.data_type();
    format!("the driver gave {value:?}, which no {kind} holds").into()
}

/// Whether a sample differs from what consumers were told last, which it is from now on if it does.
fn take_change(cell: &mut Cell, value: &Option<Value>, quality: Quality, deadband: f64) -> bool {
    let new = cell.reported.as_ref().is_none_or(|reported| {
        reported.quality != quality || differs(&reported.value, value, deadband)
    });
    if new {
        cell.note_report(value.clone(), quality);
    }
    new
}

/// Whether a value differs from the one reported last, by more than the deadband.
fn differs(old: &Option<Value>, new: &Option<Value>, deadband: f64) -> bool {
    match (
        old.as_ref().and_then(as_number),
        new.as_ref().and_then(as_number),
    ) {
        (Some(old), Some(new)) if old.is_nan() && new.is_nan() => false,
        // NaN on one side only is within no deadband.
        (Some(old), Some(new)) if deadband > 0.0 => {
            old.is_nan() || new.is_nan() || (new - old).abs() > deadband
        }
        _ => old != new,
    }
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(v) => Some(*v as f64),
        Value::Uint(v) => Some(*v as f64),
        Value::Float(v) => Some(*v),
        Value::Boolean(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Booleans(_)
        | Value::Ints(_)
        | Value::Uints(_)
        | Value::Floats(_)
        | Value::Texts(_) => None,
    }
}

#[cfg(test)]
mod tests;
