//! What is missing, and why.

use std::sync::Arc;

use super::{Batch, WallNs};

/// What travels towards a sink, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Samples of one channel.
    Batch(Arc<Batch>),
    /// Here something is missing for good.
    Gap(Gap),
}

/// What is missing for good, where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Batches, and where they were not told apart events too.
    pub messages: u64,
    /// The samples in them.
    pub samples: u64,
    /// Why.
    pub reason: GapReason,
    /// When it was noticed.
    pub at: WallNs,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why something is missing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum GapReason { $($(#[$doc])* $name,)* }

        impl GapReason {
            /// Every reason. On the disk a reason is its place in here.
            pub const ALL: &'static [GapReason] = &[$(GapReason::$name),*];

            /// In one word, as every interface of the host writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(GapReason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The queue before the sink, or before its outbox, was full.
    Slow = "slow";
    /// It was older than the outbox keeps.
    Age = "age";
    /// The outbox was full.
    Bytes = "bytes";
    /// An operator emptied the outbox.
    Purged = "purged";
    /// What was on the disk was damaged.
    Damaged = "damaged";
    /// The peer will never take it.
    Refused = "refused";
}

impl Item {
    /// The samples that it holds.
    pub fn samples(&self) -> u64 {
        match self {
            Item::Batch(batch) => batch.samples.len() as u64,
            Item::Gap(_) => 0,
        }
    }

    /// About how much memory it keeps, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Item::Batch(batch) => batch.bytes(),
            Item::Gap(_) => size_of::<Self>(),
        }
    }
}
