//! How many events a driver is given in one turn, by what events have cost it.
//!
//! A turn has one budget of fuel, however many events are in it. A driver in an interpreted language needs a hundred times the
//! fuel of a compiled one for an event, so that a burst which the latter takes in one turn would end the former for no fault of its own.

/// The most events of the next turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portion {
    most: usize,
    /// What one turn may cost.
    fuel: u64,
    /// What an event has cost lately, at most: the dearest turn counts, and fades by an eighth with each turn after it.
    dearest: u64,
    /// As of the last turn.
    events: usize,
}

impl Portion {
    /// At most so many, in turns that may cost so much.
    pub(crate) fn new(most: usize, fuel: u64) -> Self {
        let most = most.max(1);
        Self {
            most,
            fuel,
            dearest: 0,
            events: most,
        }
    }

    /// At most so many from now on; what was learned stays.
    pub(crate) fn set_most(&mut self, most: usize) {
        self.most = most.max(1);
        self.reckon();
    }

    /// So many that half of the budget is enough where they cost what the dearest did, but one always.
    pub(crate) fn events(&self) -> usize {
        self.events
    }

    /// A turn with so many events has cost so much.
    pub(crate) fn took(&mut self, events: usize, fuel: u64) {
        let each = fuel.checked_div(events as u64).unwrap_or(fuel);
        self.dearest = each.max(self.dearest - self.dearest / 8);
        self.reckon();
    }

    fn reckon(&mut self) {
        let affordable = (self.fuel / 2).checked_div(self.dearest);
        let affordable = affordable.and_then(|events| usize::try_from(events).ok());
        self.events = affordable.unwrap_or(self.most).clamp(1, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_follow_what_events_cost() {
        let mut portion = Portion::new(256, 50_000_000);
        assert_eq!(portion.events(), 256, "nothing is known yet");
        for (events, fuel, next) in [
            (1, 20_000, 256),
            (256, 256 * 20_000, 256),
            // As in an interpreter.
            (1, 500_000, 50),
            (50, 25_000_000, 50),
            // More than a turn may cost, for one event.
            (1, 90_000_000, 1),
        ] {
            portion.took(events, fuel);
            assert_eq!(portion.events(), next, "after {events} for {fuel}");
        }
        for _ in 0..64 {
            portion.took(1, 20_000);
        }
        assert_eq!(portion.events(), 256, "what is long past is forgotten");
        portion.set_most(1);
        assert_eq!(portion.events(), 1);
        // A turn without events, and one that cost nothing.
        portion.took(0, 10);
        portion.took(7, 0);
        assert_eq!(portion.events(), 1);
    }
}
