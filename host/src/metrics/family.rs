//! What a metric is: a name, a type, labels, a unit, a meaning, and how its rows are read off a snapshot.
//!
//! Name and rows stand side by side, so that no metric can be documented and not sent, or sent and not documented. Names follow the
//! field's rules: base units (seconds, bytes), `_total` on counters, nothing else of the type in the name.

use std::time::Duration;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricType, Summary,
};

use super::of_channels::{OF_CHANNELS, OF_GROUPS, OF_LINKS};
use super::of_host::OF_HOST;
use super::of_sinks::OF_SINKS;
use super::snapshot::{ChannelNow, GroupNow, HostNow, LinkNow, SinkNow, Snapshot, Timing};
use crate::history::bucket_limit;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never goes down, but for a restart of the host or a reload.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many were shorter than what, and their sum. With the bucket of the histograms in `history` that it begins with, and
    /// with every second one from there.
    Histogram(usize),
    /// How many there were, and their sum; without quantiles.
    Summary,
}

impl Kind {
    /// The name, as Prometheus writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
            Kind::Summary => "summary",
        }
    }

    pub(super) fn on_the_wire(self) -> MetricType {
        match self {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram(_) => MetricType::HISTOGRAM,
            Kind::Summary => MetricType::SUMMARY,
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels, in order: first those of what it is about.
    pub labels: &'static [&'static str],
    /// What it is counted in.
    pub unit: &'static str,
    /// What it means, in a sentence.
    pub meaning: &'static str,
    pub(super) about: About,
}

/// What a metric is about, and how its rows are read off that.
#[derive(Clone, Copy, Debug)]
pub(super) enum About {
    Host(fn(&HostNow, &mut Rows<'_>)),
    Channel(fn(&ChannelNow, &mut Rows<'_>)),
    Group(fn(&GroupNow, &mut Rows<'_>)),
    Link(fn(&LinkNow, &mut Rows<'_>)),
    Sink(fn(&SinkNow, &mut Rows<'_>)),
}

impl About {
    /// The labels that say which one.
    pub(super) const fn labels(self) -> &'static [&'static str] {
        match self {
            About::Host(_) => &[],
            About::Channel(_) => &["channel"],
            About::Group(_) => &["channel", "group"],
            About::Link(_) => &["channel", "link"],
            About::Sink(_) => &["sink"],
        }
    }
}

/// All metrics, in the order in which they are sent.
pub fn families() -> impl Iterator<Item = &'static Family> {
    [OF_HOST, OF_CHANNELS, OF_GROUPS, OF_LINKS, OF_SINKS]
        .into_iter()
        .flatten()
}

/// The table as `docs/METRICS.md` has it.
pub fn markdown() -> String {
    let mut text = "| name | type | labels | unit | meaning |\n|---|---|---|---|---|\n".to_owned();
    for family in families() {
        let labels: Vec<String> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        text += &format!(
            "| `{}` | {} | {} | {} | {} |\n",
            family.name,
            family.kind.as_str(),
            labels.join(", "),
            family.unit,
            family.meaning
        );
    }
    text
}

impl Family {
    /// How many channels or sinks there are to read it off; the host is one.
    pub(super) fn sources(&self, snapshot: &Snapshot) -> usize {
        match self.about {
            About::Host(_) => 1,
            About::Channel(_) | About::Group(_) | About::Link(_) => snapshot.channels.len(),
            About::Sink(_) => snapshot.sinks.len(),
        }
    }

    /// Its rows, read off some of them.
    pub(super) fn rows(&self, snapshot: &Snapshot, sources: std::ops::Range<usize>) -> Vec<Metric> {
        let mut rows = Rows {
            family: self,
            which: Vec::new(),
            metrics: Vec::new(),
        };
        let channels = snapshot.channels.get(sources.clone()).unwrap_or_default();
        match self.about {
            About::Host(read) => read(&snapshot.host, &mut rows),
            About::Channel(read) => {
                for channel in channels {
                    rows.of(&[&channel.id]);
                    read(channel, &mut rows);
                }
            }
            About::Group(read) => {
                for channel in channels {
                    for group in &channel.groups {
                        rows.of(&[&channel.id, &group.name]);
                        read(group, &mut rows);
                    }
                }
            }
            About::Link(read) => {
                for channel in channels {
                    for link in &channel.links {
                        rows.of(&[&channel.id, &link.name]);
                        read(link, &mut rows);
                    }
                }
            }
            About::Sink(read) => {
                for sink in snapshot.sinks.get(sources).unwrap_or_default() {
                    rows.of(&[&sink.name]);
                    read(sink, &mut rows);
                }
            }
        }
        rows.metrics
    }
}

/// The rows of one metric, as they are read off.
pub(super) struct Rows<'a> {
    family: &'a Family,
    /// Which channel, group, link or sink.
    which: Vec<LabelPair>,
    metrics: Vec<Metric>,
}

impl Rows<'_> {
    fn of(&mut self, values: &[&str]) {
        let names = self.family.about.labels();
        self.which = pairs(names, values).collect();
    }

    /// A row without further labels.
    pub(super) fn value(&mut self, value: impl Number) {
        self.labelled(&[], value);
    }

    /// A row without further labels, if there is a value.
    pub(super) fn value_of(&mut self, value: Option<impl Number>) {
        if let Some(value) = value {
            self.value(value);
        }
    }

    /// A row with values for the further labels.
    pub(super) fn labelled(&mut self, further: &[&str], value: impl Number) {
        let value = value.as_number();
        let mut metric = self.metric(further);
        match self.family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram(_) | Kind::Summary => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.metrics.push(metric);
    }

    /// One row for each of the names, 1 for that which is so and 0 for the others.
    pub(super) fn one_of(&mut self, names: impl IntoIterator<Item = &'static str>, so: &str) {
        for name in names {
            self.labelled(&[name], u64::from(name == so));
        }
    }

    /// How many there were, and how long they took together.
    pub(super) fn summary(&mut self, further: &[&str], count: u64, total: Duration) {
        let mut summary = Summary::default();
        summary.set_sample_count(count);
        summary.set_sample_sum(total.as_secs_f64());
        let mut metric = self.metric(further);
        metric.set_summary(summary);
        self.metrics.push(metric);
    }

    /// A histogram without further labels.
    pub(super) fn timing(&mut self, timing: &Timing) {
        let first = match self.family.kind {
            Kind::Histogram(first) => first,
            Kind::Counter | Kind::Gauge | Kind::Summary => 0,
        };
        let mut below = 0u64;
        let mut buckets = Vec::new();
        for (at, count) in timing.latencies.0.iter().enumerate() {
            below = below.saturating_add(*count);
            // The last has no limit; it is the difference to the count of all.
            let shown = at >= first && (at - first).is_multiple_of(2);
            if let Some(limit) = bucket_limit(at).filter(|_| shown) {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(limit.as_secs_f64());
                bucket.set_cumulative_count(below);
                buckets.push(bucket);
            }
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(below);
        histogram.set_sample_sum(timing.total.as_secs_f64());
        let mut metric = self.metric(&[]);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    fn metric(&self, further: &[&str]) -> Metric {
        let names = self.family.labels.get(self.which.len()..);
        let mut labels = self.which.clone();
        labels.extend(pairs(names.unwrap_or_default(), further));
        let mut metric = Metric::default();
        metric.set_label(labels);
        metric
    }
}

fn pairs(names: &[&str], values: &[&str]) -> impl Iterator<Item = LabelPair> {
    names.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    })
}

/// What a row may hold. Prometheus knows binary64 only: beyond 2^53 the last digits do not matter.
pub(super) trait Number {
    fn as_number(&self) -> f64;
}

impl Number for u64 {
    fn as_number(&self) -> f64 {
        *self as f64
    }
}

impl Number for usize {
    fn as_number(&self) -> f64 {
        *self as f64
    }
}

impl Number for u32 {
    fn as_number(&self) -> f64 {
        f64::from(*self)
    }
}

impl Number for bool {
    fn as_number(&self) -> f64 {
        f64::from(u8::from(*self))
    }
}

/// In seconds.
impl Number for Duration {
    fn as_number(&self) -> f64 {
        self.as_secs_f64()
    }
}
