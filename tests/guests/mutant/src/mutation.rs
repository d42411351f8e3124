//! The rules that can be broken, each by its name in the settings. `docs/CONFORMANCE.md` says which case finds which.

use serde::Deserialize;

macro_rules! mutations {
    ($($name:ident = $text:literal,)*) => {
        /// What is wrong with the driver.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        pub(crate) enum Mutation {
            $(#[serde(rename = $text)] $name,)*
        }

        /// The name of each.
        pub(crate) const NAMES: &[&str] = &[$($text),*];
    };
}

mutations! {
    // Descriptions and configurations.
    DescribeChanges = "describe-changes",
    SchemaBroken = "schema-broken",
    TagSchemaBroken = "tag-schema-broken",
    CommandSchemaBroken = "command-schema-broken",
    VersionIsAWord = "version-is-a-word",
    PanicsOnSettings = "panics-on-settings",
    TakesAnything = "takes-anything",
    FirstFaultOnly = "first-fault-only",
    SaysNoPlace = "says-no-place",
    ForgetsOnRefusal = "forgets-on-refusal",
    // Lives.
    IgnoresStop = "ignores-stop",
    StopsLate = "stops-late",
    NeedsToOpenFirst = "needs-to-open-first",
    TrapsOnSecondStop = "traps-on-second-stop",
    LeavesUnanswered = "leaves-unanswered",
    OneLifeOnly = "one-life-only",
    // Requests.
    AnswersTwice = "answers-twice",
    NeverAnswersPoll = "never-answers-poll",
    NeverAnswersRead = "never-answers-read",
    NeverAnswersWrite = "never-answers-write",
    NeverAnswersCommand = "never-answers-command",
    NeverAnswersHealth = "never-answers-health",
    IgnoresCancel = "ignores-cancel",
    IgnoresSkip = "ignores-skip",
    ReadsInItsOwnOrder = "reads-in-its-own-order",
    ReadsNothingBack = "reads-nothing-back",
    TakesAnyCommand = "takes-any-command",
    WriteAlwaysFails = "write-always-fails",
    FailsWithGoodQuality = "fails-with-good-quality",
    ReadsAreBad = "reads-are-bad",
    // Peers.
    PublishesBeforeReading = "publishes-before-reading",
    WaitsForEver = "waits-for-ever",
    WaitsTooLong = "waits-too-long",
    TrapsWhenRefused = "traps-when-refused",
    GoodWhenDown = "good-when-down",
    NeverComesBack = "never-comes-back",
    // Bytes.
    WantsWholeLines = "wants-whole-lines",
    TrapsOnLargeChunks = "traps-on-large-chunks",
    BelievesHalfALine = "believes-half-a-line",
    ShiftsAfterACut = "shifts-after-a-cut",
    TrapsOnNoise = "traps-on-noise",
    DeafAfterNoise = "deaf-after-noise",
    TrustsKeptConnections = "trusts-kept-connections",
    // Endurance.
    DropsInAStorm = "drops-in-a-storm",
    NeverRests = "never-rests",
    Leaks = "leaks",
    SlowsDown = "slows-down",
    // The same again.
    RandomValues = "random-values",
    AnswersForTheDead = "answers-for-the-dead",
    TrapsOnDamagedState = "traps-on-damaged-state",
    LostByItsState = "lost-by-its-state",
    CostsMore = "costs-more",
}
