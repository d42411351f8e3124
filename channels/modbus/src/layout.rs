//! The blocks of one table of one unit, and what was learnt about them.
//!
//! A unit that does not have a single address refuses the whole request that touches it. The tags that do exist
//! must not pay for that: a refused block is halved, and its halves halved, until it is known what is at fault. Two
//! facts can come out:
//!
//! - a single span is refused: it is *faulty*, and left out of the blocks from then on;
//! - both halves are read, but not the whole: what lies between them is at fault (or the unit has a limit of its
//!   own), and they are kept *apart* from then on.
//!
//! So every refused block yields at least one fact after at most two requests for each time it can be halved, and
//! the next plan is made with all of them. One faulty span at a time is tried again; when one is read after all, the
//! unit has changed, and everything that was learnt is forgotten.

use crate::exception::Exception;
use crate::plan::{Block, Limits, Span, plan};

/// Sorted spans, the facts about them, and the plan that follows from both.
#[derive(Debug)]
pub struct Layout {
    spans: Vec<Span>,
    limits: Limits,
    facts: Vec<Fact>,
    blocks: Vec<Block>,
    faulty: usize,
    /// Where the search for the next faulty span to try begins.
    cursor: usize,
    stale: bool,
}

/// What is known of one span.
#[derive(Debug, Clone, Copy, Default)]
struct Fact {
    /// It was refused on its own.
    refused: Option<Exception>,
    /// It cannot be read together with those before it.
    apart: bool,
}

impl Layout {
    /// A plan without facts. The spans are sorted by start, and none is longer than the limit.
    pub fn new(spans: Vec<Span>, limits: Limits) -> Self {
        let facts = vec![Fact::default(); spans.len()];
        let blocks = plan(&spans, limits, |_| false, |_| false);
        Self {
            spans,
            limits,
            facts,
            blocks,
            faulty: 0,
            cursor: 0,
            stale: false,
        }
    }

    /// The requests that read everything but the faulty spans.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The faulty spans, with what the unit said of each.
    pub fn faulty(&self) -> impl Iterator<Item = (usize, Exception)> {
        let some = (self.faulty > 0).then_some(&self.facts);
        some.into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, fact)| Some((index, fact.refused?)))
    }

    /// The next faulty span to try again, in turn.
    pub fn try_again(&mut self) -> Option<Block> {
        if self.faulty == 0 {
            return None;
        }
        let count = self.facts.len();
        let index = (self.cursor..self.cursor + count)
            .map(|index| index % count)
            .find(|index| self.facts[*index].refused.is_some())?;
        self.cursor = index + 1;
        let Span { start, count } = self.spans[index];
        Some(Block {
            start,
            count,
            first: index,
            spans: 1,
        })
    }

    /// The halves of a block, or nothing where it holds a single span.
    pub fn halves(&self, block: Block) -> Option<(Block, Block)> {
        block.halves(&self.spans)
    }

    /// The unit refused this span on its own. Says whether that is news.
    pub fn refused(&mut self, index: usize, exception: Exception) -> bool {
        let news = self.facts[index].refused.replace(exception).is_none();
        self.faulty += usize::from(news);
        self.stale |= news;
        news
    }

    /// The unit refuses what reaches over the beginning of this span.
    pub fn apart(&mut self, index: usize) {
        self.facts[index].apart = true;
        self.stale = true;
    }

    /// A span that was faulty was read after all.
    pub fn forget(&mut self) {
        self.facts.fill(Fact::default());
        self.faulty = 0;
        self.stale = true;
    }

    /// Make the plan anew if there are new facts.
    pub fn replan(&mut self) {
        if std::mem::take(&mut self.stale) {
            let facts = &self.facts;
            self.blocks = plan(
                &self.spans,
                self.limits,
                |at| facts[at].apart,
                |at| facts[at].refused.is_some(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_ADDRESS: Exception = Exception(2);

    /// A unit that has only some addresses, and reads at most so many at once.
    struct Unit {
        missing: Vec<u16>,
        most: u16,
    }

    impl Unit {
        fn reads(&self, block: Block) -> bool {
            let end = u32::from(block.start) + u32::from(block.count);
            block.count <= self.most
                && !self
                    .missing
                    .iter()
                    .any(|&at| at >= block.start && u32::from(at) < end)
        }
    }

    /// What a cycle does with the answers, in the simplest way. Gives what was read and how many requests it took.
    fn cycle(layout: &mut Layout, unit: &Unit) -> (Vec<bool>, usize) {
        fn search(
            layout: &mut Layout,
            unit: &Unit,
            block: Block,
            read: &mut [bool],
            requests: &mut usize,
        ) -> bool {
            *requests += 1;
            if unit.reads(block) {
                read[block.first..block.first + block.spans].fill(true);
                return true;
            }
            match layout.halves(block) {
                None => {
                    layout.refused(block.first, NO_ADDRESS);
                }
                Some((left, right)) => {
                    let left = search(layout, unit, left, read, requests);
                    if search(layout, unit, right, read, requests) & left {
                        layout.apart(right.first);
                    }
                }
            }
            false
        }
        let mut read = vec![false; layout.spans.len()];
        let mut requests = 0;
        for block in layout.blocks().to_vec() {
            search(layout, unit, block, &mut read, &mut requests);
        }
        layout.replan();
        (read, requests)
    }

    fn ones(starts: impl IntoIterator<Item = u16>) -> Vec<Span> {
        starts
            .into_iter()
            .map(|start| Span { start, count: 1 })
            .collect()
    }

    #[test]
    fn one_missing_address_is_found_and_left_out() {
        let mut layout = Layout::new(ones(0..100), Limits { most: 125, gap: 16 });
        let unit = Unit {
            missing: vec![37],
            most: 125,
        };
        let (read, requests) = cycle(&mut layout, &unit);
        assert_eq!(read.iter().filter(|read| !**read).count(), 1);
        assert!(requests <= 1 + 2 * 7, "{requests} requests");
        let (again, requests) = cycle(&mut layout, &unit);
        assert_eq!((again, requests), (read, 2), "before it and after it");
        assert_eq!(layout.faulty().collect::<Vec<_>>(), [(37, NO_ADDRESS)]);
    }

    #[test]
    fn a_gap_that_cannot_be_read_is_not_bridged_again() {
        let mut layout = Layout::new(ones([0, 1, 2, 8, 9]), Limits { most: 125, gap: 16 });
        let unit = Unit {
            missing: vec![5],
            most: 125,
        };
        cycle(&mut layout, &unit);
        while layout.blocks().len() < 2 {
            cycle(&mut layout, &unit);
        }
        let (read, requests) = cycle(&mut layout, &unit);
        assert!(read.iter().all(|read| *read));
        assert_eq!(layout.faulty().count(), 0);
        assert!(requests <= 3, "{requests} requests");
    }

    #[test]
    fn faulty_spans_are_tried_in_turn_and_forgotten_when_read() {
        let mut layout = Layout::new(ones(0..10), Limits { most: 125, gap: 0 });
        assert_eq!(layout.try_again(), None);
        cycle(
            &mut layout,
            &Unit {
                missing: vec![2, 7],
                most: 125,
            },
        );
        let tried: Vec<u16> = (0..3)
            .filter_map(|_| layout.try_again())
            .map(|block| block.start)
            .collect();
        assert_eq!(tried, [2, 7, 2]);
        layout.forget();
        layout.replan();
        assert_eq!(layout.blocks().len(), 1);
        assert_eq!(layout.faulty().count(), 0);
    }

    proptest! {
        /// Whatever a unit lacks: every tag that exists is read in every cycle, and the plan settles.
        #[test]
        fn what_exists_is_read(
            starts in prop::collection::btree_set(0u16..120, 1..60),
            missing in prop::collection::vec(0u16..120, 0..10),
            most in 1u16..125,
        ) {
            let mut layout = Layout::new(ones(starts.clone()), Limits { most: 125, gap: 16 });
            let unit = Unit { missing: missing.clone(), most };
            let mut settled = 0;
            for _ in 0..130 {
                let before = layout.blocks().len();
                let (read, requests) = cycle(&mut layout, &unit);
                for (start, read) in starts.iter().zip(read) {
                    prop_assert_eq!(read, !missing.contains(start));
                }
                settled = if requests == before { settled + 1 } else { 0 };
            }
            prop_assert!(settled >= 2, "no request is refused in the end");
        }
    }
}
