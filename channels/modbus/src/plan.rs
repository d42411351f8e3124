//! Which requests read a set of tags.
//!
//! The tags of one table of one unit are *spans*: a start and a number of registers or bits. Spans that lie near each
//! other are read by one request, a *block*, as far as the limits allow; a span is never split, since two requests
//! would give two halves from different moments.
//!
//! # Why one pass from the left gives the fewest blocks
//!
//! Let the spans be sorted by start. The leftmost span lies in some block, and nothing is lost if that block begins with it.
//! Going right, let J be the first span that does not fit. Any later span K that would fit begins within J and ends
//! before it, so K lies within J, and the block of J holds it for nothing. So blocks need only be runs of sorted spans, and
//! taking each as long as it can be is best. A gap that is too wide cannot be bridged by any later span either.

/// What one tag occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Counted from 0.
    pub start: u16,
    /// At least 1, and `start + count` is at most 65,536.
    pub count: u16,
}

impl Span {
    /// The first place after it: up to 65,536.
    pub fn end(self) -> u32 {
        u32::from(self.start) + u32::from(self.count)
    }
}

/// What a request may ask for, in registers or bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most in one request. No span may be longer.
    pub most: u16,
    /// The most that nobody wants between two spans of one request.
    pub gap: u16,
}

/// The most registers that one request can read (Modbus Application Protocol 1.1b3, sections 6.3 and 6.4).
pub const MOST_REGISTERS: u16 = 125;
/// The most bits that one request can read (sections 6.1 and 6.2).
pub const MOST_BITS: u16 = 2_000;
/// The most registers that one request can write (section 6.12).
pub const MOST_REGISTERS_WRITTEN: u16 = 123;
/// The most registers that one request can write and read (section 6.17).
pub const MOST_REGISTERS_EXCHANGED: u16 = 121;
/// The most bits that one request can write (section 6.11).
pub const MOST_BITS_WRITTEN: u16 = 1_968;

/// One request: a run of sorted spans, and the place that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The first place read.
    pub start: u16,
    /// How many places are read.
    pub count: u16,
    /// The index of its first span.
    pub first: usize,
    /// How many spans it holds.
    pub spans: usize,
}

impl Block {
    /// The block over the spans `first .. first + spans`, which are sorted and not empty.
    fn over(all: &[Span], first: usize, spans: usize) -> Self {
        let start = all[first].start;
        let end = all[first..first + spans]
            .iter()
            .map(|span| span.end())
            .max()
            .unwrap_or_default();
        let count =
            u16::try_from(end - u32::from(start)).expect("a block is at most as long as the limit");
        Self {
            start,
            count,
            first,
            spans,
        }
    }

    /// Its two halves, or nothing where it holds a single span.
    pub fn halves(self, all: &[Span]) -> Option<(Self, Self)> {
        let left = self.spans / 2;
        (left > 0).then(|| {
            (
                Self::over(all, self.first, left),
                Self::over(all, self.first + left, self.spans - left),
            )
        })
    }
}

/// The fewest blocks that cover `spans`, which are sorted by start. Spans for which `keep_apart` holds begin a
/// block; those for which `leave_out` holds are in none, and no block reaches over them.
pub fn plan(
    spans: &[Span],
    limits: Limits,
    keep_apart: impl Fn(usize) -> bool,
    leave_out: impl Fn(usize) -> bool,
) -> Vec<Block> {
    debug_assert!(spans.is_sorted_by_key(|span| span.start));
    let mut blocks = Vec::new();
    let mut open: Option<(usize, u32)> = None;
    let close = |open: Option<(usize, u32)>, next: usize, blocks: &mut Vec<Block>| {
        if let Some((first, _)) = open {
            blocks.push(Block::over(spans, first, next - first));
        }
    };
    for (index, span) in spans.iter().enumerate() {
        if leave_out(index) {
            close(open.take(), index, &mut blocks);
            continue;
        }
        open = match open {
            Some((first, end)) if fits(spans[first], end, *span, limits) && !keep_apart(index) => {
                Some((first, end.max(span.end())))
            }
            before => {
                close(before, index, &mut blocks);
                Some((index, span.end()))
            }
        };
    }
    close(open, spans.len(), &mut blocks);
    blocks
}

/// Whether `next` may join the block that begins with `first` and reaches to `end`.
fn fits(first: Span, end: u32, next: Span, limits: Limits) -> bool {
    let length = end.max(next.end()) - u32::from(first.start);
    let gap = u32::from(next.start).saturating_sub(end);
    length <= u32::from(limits.most) && gap <= u32::from(limits.gap)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans(list: &[(u16, u16)]) -> Vec<Span> {
        list.iter()
            .map(|&(start, count)| Span { start, count })
            .collect()
    }

    fn blocks(list: &[(u16, u16)], most: u16, gap: u16) -> Vec<(u16, u16, usize)> {
        plan(&spans(list), Limits { most, gap }, |_| false, |_| false)
            .into_iter()
            .map(|block| (block.start, block.count, block.spans))
            .collect()
    }

    #[test]
    fn near_spans_share_a_block() {
        assert_eq!(blocks(&[], 125, 0), []);
        assert_eq!(blocks(&[(7, 2)], 125, 0), [(7, 2, 1)]);
        assert_eq!(blocks(&[(0, 1), (1, 2), (3, 4)], 125, 0), [(0, 7, 3)]);
        assert_eq!(
            blocks(&[(0, 1), (2, 1)], 125, 0),
            [(0, 1, 1), (2, 1, 1)],
            "a gap of one is too wide"
        );
        assert_eq!(
            blocks(&[(0, 1), (2, 1)], 125, 1),
            [(0, 3, 2)],
            "a gap of one is allowed"
        );
        assert_eq!(
            blocks(&[(0, 4), (1, 1), (4, 1)], 125, 0),
            [(0, 5, 3)],
            "a gap counts from the furthest end"
        );
        assert_eq!(
            blocks(&[(0, 124), (124, 2)], 125, 9),
            [(0, 124, 1), (124, 2, 1)],
            "a span is not split"
        );
        assert_eq!(
            blocks(&[(5, 1), (5, 1), (5, 2)], 125, 0),
            [(5, 2, 3)],
            "several tags on one register"
        );
        assert_eq!(
            blocks(&[(65_534, 2), (65_535, 1)], 125, 0),
            [(65_534, 2, 2)],
            "the end of the table"
        );
    }

    #[test]
    fn what_was_learnt_is_kept() {
        let spans = spans(&[(0, 1), (1, 1), (2, 1), (3, 1)]);
        let limits = Limits { most: 125, gap: 10 };
        let apart = plan(&spans, limits, |index| index == 2, |_| false);
        assert_eq!(
            apart
                .iter()
                .map(|block| (block.start, block.count))
                .collect::<Vec<_>>(),
            [(0, 2), (2, 2)]
        );
        let without = plan(&spans, limits, |_| false, |index| index == 1);
        assert_eq!(
            without
                .iter()
                .map(|block| (block.start, block.count))
                .collect::<Vec<_>>(),
            [(0, 1), (2, 2)]
        );
        assert_eq!(plan(&spans, limits, |_| false, |_| true), []);
    }

    #[test]
    fn halves_cover_the_whole() {
        let spans = spans(&[(0, 1), (4, 2), (9, 1)]);
        let whole = Block::over(&spans, 0, 3);
        let (left, right) = whole.halves(&spans).unwrap();
        assert_eq!((left.start, left.count, left.spans), (0, 1, 1));
        assert_eq!((right.start, right.count, right.spans), (4, 6, 2));
        assert_eq!(left.halves(&spans), None);
    }

    /// The fewest legal blocks, found by trying every assignment of spans to blocks.
    fn fewest(spans: &[Span], limits: Limits) -> usize {
        fn legal(block: &[Span], limits: Limits) -> bool {
            let mut end = block[0].end();
            for span in block {
                if u32::from(span.start).saturating_sub(end) > u32::from(limits.gap) {
                    return false;
                }
                end = end.max(span.end());
            }
            end - u32::from(block[0].start) <= u32::from(limits.most)
        }
        fn go(spans: &[Span], blocks: &mut Vec<Vec<Span>>, limits: Limits, best: &mut usize) {
            let Some((span, rest)) = spans.split_first() else {
                if blocks.iter().all(|block| legal(block, limits)) {
                    *best = blocks.len().min(*best);
                }
                return;
            };
            for index in 0..blocks.len() {
                blocks[index].push(*span);
                go(rest, blocks, limits, best);
                blocks[index].pop();
            }
            if blocks.len() + 1 < *best {
                blocks.push(vec![*span]);
                go(rest, blocks, limits, best);
                blocks.pop();
            }
        }
        let mut best = spans.len() + 1;
        go(spans, &mut Vec::new(), limits, &mut best);
        if spans.is_empty() { 0 } else { best }
    }

    fn sorted(mut list: Vec<Span>) -> Vec<Span> {
        list.sort_by_key(|span| (span.start, span.count));
        list
    }

    proptest! {
        #[test]
        fn no_plan_has_fewer_blocks(
            list in prop::collection::vec((0u16..24, 1u16..=6), 0..8),
            most in 6u16..14,
            gap in 0u16..5,
        ) {
            let spans = sorted(spans(&list));
            let limits = Limits { most, gap };
            let found = plan(&spans, limits, |_| false, |_| false).len();
            prop_assert_eq!(found, fewest(&spans, limits));
        }

        #[test]
        fn every_span_is_read_once_and_whole(
            list in prop::collection::vec((any::<u16>(), 1u16..=125), 0..200),
            most in 125u16..=2000,
            gap in 0u16..200,
        ) {
            let spans = sorted(list.into_iter()
                .map(|(start, count)| Span { start, count: count.min(u16::MAX - start).max(1) })
                .collect());
            let blocks = plan(&spans, Limits { most, gap }, |_| false, |_| false);
            let mut next = 0;
            for block in &blocks {
                prop_assert_eq!(block.first, next);
                next += block.spans;
                prop_assert!(block.count >= 1 && block.count <= most);
                let end = u32::from(block.start) + u32::from(block.count);
                prop_assert!(end <= 65_536);
                for span in &spans[block.first..next] {
                    prop_assert!(span.start >= block.start && span.end() <= end);
                }
            }
            prop_assert_eq!(next, spans.len());
        }
    }
}
