//! The operator's file: TOML in, checked structs out.
//!
//! Three steps, three files: `file` (private structs as the file is written, unknown keys refused), `resolve`
//! (every rule, every fault at once with its line and remedy), `checked` (what the rest of the host sees, in which
//! nothing is left to doubt). Pure: the text comes in as a string, paths are not opened here.

mod checked;

pub use checked::{
    Access, Channel, Connect, Device, Group, Host, Http, Limits, Link, OnRestart, Report, Restart,
    RestartMode, Sink, SinkKind, Tag,
};
