//! Which event is it that ends its driver each time it comes? A pure function of what was met and how it went.
//!
//! An event is known by its [`Fingerprint`]: what it is, what it concerns, and the digest of what it carries. One that ends a driver is a
//! suspect. Met again and survived, it is cleared: the fault had another cause. One that ends its driver at every encounter is poison
//! at the third ([`POISON_AFTER`]), and whoever keeps this list must keep the event away from the driver.
//!
//! Attribution is not done here: who calls [`Suspects::faulted`] must know that it was this event and no other, which a host does that
//! gives a driver one event in each turn for a while after a fault.
//!
//! Bounded: [`MAX_SUSPECTS`], of which the one that has been quiet for longest goes first; a suspect that was not met for
//! [`FORGOTTEN_AFTER`] is none any more.

use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::event::MonotonicNs;

/// At the how manieth fault a suspect is poison.
pub const POISON_AFTER: u32 = 3;
/// Suspects of one channel.
pub const MAX_SUSPECTS: usize = crate::limits::SUSPECTS;
/// After how long without an encounter a suspect is forgotten.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Events that can be kept away from a driver. The others cannot: a timer is the driver's own, and that a connection is up, a
/// request taken back or a stop ordered are truths without which it would go wrong in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A life that begins with a saved state.
    Started,
    /// A group is due.
    Poll,
    /// Bytes that came over a link.
    Received,
    /// Tags to be read.
    Read,
    /// A value to be written.
    Write,
    /// A command.
    Command,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] = [
        Kind::Started,
        Kind::Poll,
        Kind::Received,
        Kind::Read,
        Kind::Write,
        Kind::Command,
    ];

    /// The name in logs, on the disk and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Started => "started",
            Kind::Poll => "poll",
            Kind::Received => "received",
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Command => "command",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is the same about an event each time it comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// What it is.
    pub kind: Kind,
    /// What it concerns, by name: a group, a link, a tag, a command. Names outlive a change of the configuration.
    pub target: String,
    /// How many bytes it carries.
    pub length: u64,
    /// SHA-256 of them.
    pub digest: [u8; 32],
}

impl Fingerprint {
    /// Of an event that carries these bytes.
    pub fn of(kind: Kind, target: &str, payload: &[u8]) -> Self {
        Self {
            kind,
            target: target.to_owned(),
            length: payload.len() as u64,
            digest: Sha256::digest(payload).into(),
        }
    }

    /// Whether it is that of such an event. Looks at the bytes only where all else fits.
    pub fn fits(&self, kind: Kind, target: &str, payload: &[u8]) -> bool {
        self.kind == kind
            && self.target == target
            && self.length == payload.len() as u64
            && <[u8; 32]>::from(Sha256::digest(payload)) == self.digest
    }
}

/// What a fault makes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may have been chance.
    Suspect {
        /// Faults so far.
        faults: u32,
    },
    /// It ends the driver each time. It is no suspect any more: it is to be kept away.
    Poison {
        /// Faults that it caused.
        faults: u32,
    },
}

/// The suspects of one channel.
#[derive(Clone, Debug, Default)]
pub struct Suspects {
    all: Vec<Suspect>,
}

#[derive(Clone, Debug)]
struct Suspect {
    fingerprint: Fingerprint,
    faults: u32,
    met: MonotonicNs,
}

impl Suspects {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// This event, and no other, has ended the driver.
    pub fn faulted(&mut self, fingerprint: Fingerprint, now: MonotonicNs) -> Verdict {
        self.forget(now);
        let at = self
            .all
            .iter()
            .position(|suspect| suspect.fingerprint == fingerprint);
        let faults = at.map_or(0, |at| self.all.remove(at).faults) + 1;
        if faults >= POISON_AFTER {
            return Verdict::Poison { faults };
        }
        if self.all.len() >= MAX_SUSPECTS {
            // In the order in which they were met last.
            self.all.remove(0);
        }
        self.all.push(Suspect {
            fingerprint,
            faults,
            met: now,
        });
        Verdict::Suspect { faults }
    }

    /// Whether such an event is one.
    pub fn contains(&self, kind: Kind, target: &str, payload: &[u8]) -> bool {
        self.all
            .iter()
            .any(|suspect| suspect.fingerprint.fits(kind, target, payload))
    }

    /// The driver has lived through such an event. Gives whether it was a suspect.
    pub fn passed(&mut self, kind: Kind, target: &str, payload: &[u8]) -> bool {
        let before = self.all.len();
        self.all
            .retain(|suspect| !suspect.fingerprint.fits(kind, target, payload));
        self.all.len() < before
    }

    /// Forgets those that were not met for long.
    pub fn forget(&mut self, now: MonotonicNs) {
        self.all
            .retain(|suspect| now.since(suspect.met) < FORGOTTEN_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonotonicNs {
        MonotonicNs(seconds * 1_000_000_000)
    }

    /// `+` is lived through, `!` ends the driver: what follows is the verdict.
    fn check(encounters: &str, expected: &[&str]) {
        let mut suspects = Suspects::default();
        let mut seen = Vec::new();
        for (second, encounter) in (0u64..).zip(encounters.split_whitespace()) {
            let (target, how) = encounter.split_at(1);
            match how {
                "+" => drop(suspects.passed(Kind::Poll, target, b"")),
                _ => {
                    let fingerprint = Fingerprint::of(Kind::Poll, target, b"");
                    seen.push(match suspects.faulted(fingerprint, at(second)) {
                        Verdict::Suspect { faults } => format!("{target}{faults}"),
                        Verdict::Poison { faults } => format!("{target}{faults} poison"),
                    });
                }
            }
        }
        assert_eq!(seen, expected, "{encounters}");
    }

    #[test]
    fn what_faults_at_every_encounter_is_poison_at_the_third() {
        check("a! a! a!", &["a1", "a2", "a3 poison"]);
        check("a! a! a+ a!", &["a1", "a2", "a1"]);
        check("a! b+ a! b+ a!", &["a1", "a2", "a3 poison"]);
        check(
            "a! b! a! b! a! b!",
            &["a1", "b1", "a2", "b2", "a3 poison", "b3 poison"],
        );
        // After the quarantine was lifted it has three chances again.
        check("a! a! a! a! a+ a!", &["a1", "a2", "a3 poison", "a1", "a1"]);
    }

    #[test]
    fn a_fingerprint_is_kind_target_and_payload() {
        let print = Fingerprint::of(Kind::Write, "setpoint", b"7");
        assert!(print.fits(Kind::Write, "setpoint", b"7"));
        assert!(!print.fits(Kind::Command, "setpoint", b"7"));
        assert!(!print.fits(Kind::Write, "setpoint-2", b"7"));
        assert!(!print.fits(Kind::Write, "setpoint", b"8"));
        assert!(!print.fits(Kind::Write, "setpoint", b"77"));
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::from_name("timer"), None);
    }

    #[test]
    fn suspects_are_bounded_and_forgotten() {
        let mut suspects = Suspects::default();
        let print = |number: usize| Fingerprint::of(Kind::Received, "plc", &number.to_be_bytes());
        let once = Verdict::Suspect { faults: 1 };
        for number in 0..MAX_SUSPECTS {
            assert_eq!(suspects.faulted(print(number), at(0)), once);
        }
        // The first is met again, so the second has been quiet for longest.
        assert_eq!(
            suspects.faulted(print(0), at(1)),
            Verdict::Suspect { faults: 2 }
        );
        assert_eq!(suspects.faulted(print(99), at(2)), once);
        assert_eq!(suspects.len(), MAX_SUSPECTS);
        assert_eq!(suspects.faulted(print(1), at(3)), once, "it was forgotten");
        assert_eq!(
            suspects.faulted(print(0), at(4)),
            Verdict::Poison { faults: 3 }
        );

        let day = FORGOTTEN_AFTER.as_secs();
        suspects.forget(at(day + 2));
        assert_eq!(
            suspects.len(),
            1,
            "only that of second 3 is younger than a day"
        );
        suspects.forget(at(day + 3));
        assert!(suspects.is_empty());
    }
}
