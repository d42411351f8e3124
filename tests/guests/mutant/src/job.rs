//! What somebody asked for, and how far it has come.

use bulkhead_sdk::abi::{
    Action, Error, PollDone, Quality, ReadDone, Sample, TagId, Value, WriteDone,
};

/// Who asks.
pub(crate) enum Asks {
    Poll {
        group: u32,
        cycle: u64,
    },
    Read(u64),
    Write {
        request: u64,
        value: f64,
        read_back: bool,
        is_written: bool,
    },
}

/// Tags to be asked for one after the other.
pub(crate) struct Job {
    pub(crate) asks: Asks,
    /// Those that are left are behind those that have samples.
    pub(crate) tags: Vec<TagId>,
    pub(crate) samples: Vec<Sample>,
    failed: u32,
}

impl Job {
    pub(crate) fn new(asks: Asks, tags: Vec<TagId>) -> Self {
        Self {
            asks,
            tags,
            samples: Vec::new(),
            failed: 0,
        }
    }

    /// The tag that is asked for next.
    pub(crate) fn next(&self) -> Option<TagId> {
        self.tags.get(self.samples.len()).copied()
    }

    pub(crate) fn got(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    pub(crate) fn lost(&mut self, sample: Sample) {
        self.failed += 1;
        self.samples.push(sample);
    }

    /// The request that it answers, if it is one.
    pub(crate) fn request(&self) -> Option<u64> {
        match self.asks {
            Asks::Poll { .. } => None,
            Asks::Read(request) | Asks::Write { request, .. } => Some(request),
        }
    }

    /// The answer, as far as it has come.
    pub(crate) fn answer(mut self, sorted: bool, nothing_back: bool) -> Action {
        match self.asks {
            Asks::Poll { group, cycle } => Action::PollDone(PollDone {
                group,
                cycle,
                requests: u32::try_from(self.tags.len()).unwrap_or(u32::MAX),
                failed: self.failed,
                round_trip_ns: None,
            }),
            Asks::Read(request) => {
                if sorted {
                    self.samples.sort_by_key(|sample| sample.tag);
                }
                Action::ReadDone(ReadDone {
                    request,
                    answer: Ok(self.samples),
                })
            }
            Asks::Write { request, .. } if self.failed > 0 => self.refuse_request(request),
            Asks::Write {
                request, read_back, ..
            } => {
                let value = self.samples.pop().and_then(|sample| sample.value);
                Action::WriteDone(WriteDone {
                    request,
                    answer: Ok(value.filter(|_| read_back && !nothing_back)),
                })
            }
        }
    }

    fn refuse_request(&self, request: u64) -> Action {
        Action::WriteDone(WriteDone {
            request,
            answer: Err(error("the device did not confirm it")),
        })
    }

    /// The answer to one that is given up.
    pub(crate) fn refuse(self, why: &str) -> Action {
        match self.asks {
            Asks::Poll { group, cycle } => Action::PollDone(PollDone {
                group,
                cycle,
                requests: 1,
                failed: 1,
                round_trip_ns: None,
            }),
            Asks::Read(request) => Action::ReadDone(ReadDone {
                request,
                answer: Err(error(why)),
            }),
            Asks::Write { request, .. } => Action::WriteDone(WriteDone {
                request,
                answer: Err(error(why)),
            }),
        }
    }
}

pub(crate) fn sample(tag: TagId, value: Option<f64>, quality: Quality) -> Sample {
    Sample {
        tag,
        value: value.map(Value::Float),
        quality,
        source_time_ns: None,
    }
}

pub(crate) fn error(message: &str) -> Error {
    Error {
        quality: Quality::Bad,
        code: None,
        message: message.to_owned(),
        trace: None,
    }
}
