//! For whoever writes a driver: a project to begin with, and one command that builds it.
//!
//! - `project`: names, files, and how a project comes to lie on the disk.
//! - `rust`, `python`: what stands in a project of each language. The driver in it is that of `channels/line` and
//!   `channels/line-python`, under another name: nothing is written twice.
//! - `embedded`: the SDKs, the WIT and those drivers, within this program.
//! - `build`: wraps the language's own tool, says which command it runs, and installs or names what is missing.
//!
//! A project carries a copy of the SDK and of the WIT (`vendor/`) and needs nothing of this repository. So the SDK is always that of
//! the host that made the project, whose ABI it speaks; a project builds wherever its language's packages can be had, in CI as well;
//! and nobody depends on a registry that does not have the SDK. The price is a copy to replace when the SDK moves on:
//! `bulkhead new` in another folder has the newer one.

mod build;
mod embedded;
mod project;
mod python;
mod rust;

use std::path::PathBuf;

pub use build::{Built, build};
pub use project::{Created, create};

/// The language of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// Small and fast
    Rust,
    /// Quick to write; 18 MB, and a hundred times the cost of a turn
    Python,
}

/// Why there is no project, or nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that no project can have.
    #[error("{name:?} cannot be the name of a driver: {reason}; take another, such as furnace-9")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is something already.
    #[error("{path} is there already; take another name, or remove it")]
    Exists {
        /// Where the project would be.
        path: PathBuf,
    },
    /// A file cannot be written or read.
    #[error("{path} cannot be {doing}: {source}; see to the folder")]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder holds no project.
    #[error(
        "{path} holds no driver: there is no Cargo.toml, and no pyproject.toml with a [tool.bulkhead]; name its folder, or make one \
         with `bulkhead new NAME --lang rust`"
    )]
    NoProject {
        /// The folder.
        path: PathBuf,
    },
    /// A key of the project's file is missing.
    #[error("{path} has no `{key}` under [tool.bulkhead]; write such as {key} = {example:?}")]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// What is missing.
        key: &'static str,
        /// What it could be.
        example: &'static str,
    },
    /// A key of the project's file names what would lead elsewhere.
    #[error(
        "{path} has `{key} = {value:?}` under [tool.bulkhead], which has a / or \\ in it, or begins with . or -; write such as {key} = {example:?}"
    )]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Which.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it could be.
        example: &'static str,
    },
    /// A tool is missing, and cannot be installed by us.
    #[error("{tool} cannot be run, which builds a driver in {language}; {remedy}")]
    Tool {
        /// The program.
        tool: &'static str,
        /// `Rust` or `Python`.
        language: &'static str,
        /// How to get it.
        remedy: String,
    },
    /// A command failed; it has said why.
    #[error("`{command}` failed; see what it printed")]
    Failed {
        /// The command.
        command: String,
    },
    /// The build made no component.
    #[error(
        "the build made no component; Cargo.toml needs crate-type = [\"cdylib\", \"rlib\"] under [lib], and the crate an `export!`"
    )]
    NoComponent,
    /// What componentize-py has made is no driver yet, and cannot become one.
    #[error(transparent)]
    Unfinished(#[from] bulkhead_componentize::Error),
}

impl Error {
    /// Whether the caller asked for what cannot be (exit code 2).
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Name { .. } | Self::Exists { .. } | Self::NoProject { .. }
        )
    }

    /// Whether the project is at fault (exit code 1), rather than the machine (3).
    #[must_use]
    pub const fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Failed { .. }
                | Self::NoComponent
                | Self::Unfinished(_)
                | Self::MissingKey { .. }
                | Self::BadKey { .. }
        )
    }
}
