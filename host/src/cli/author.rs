//! `bulkhead new` and `bulkhead build`: for whoever writes a driver.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::output::{Output, say};
use crate::authoring::{self, Error, Language};

#[derive(Debug, Args)]
#[command(after_help = "\
The project holds a small real protocol (a sensor that is asked one line at a time), its unit tests, a configuration to run it with, a
CI workflow, and a copy of the SDK, so that it needs nothing of Bulkhead's repository. It builds at once: `bulkhead build`. The sensor
is `bulkhead simulate line`.")]
pub(super) struct New {
    /// The name of the driver and of the folder that is made for it, such as `furnace-9`
    name: String,
    /// The language to write it in
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    lang: Language,
    /// Make the folder in this one
    #[arg(long = "in", value_name = "FOLDER", default_value = ".")]
    parent: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Rust is compiled by cargo, Python made a component by componentize-py. What is missing is installed (the compilation target by rustup,
componentize-py into the project's .venv); each command is shown before it runs. The path of the component goes to standard output.")]
pub(super) struct Build {
    /// The project's folder
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Write the component here, instead of NAME.wasm in the project's folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Install nothing; say what is missing
    #[arg(long)]
    no_install: bool,
}

pub(super) fn new(arguments: &New) -> Result<(), Failure> {
    let created = authoring::create(&arguments.parent, &arguments.name, arguments.lang)?;
    let folder = created.folder.display();
    say(&format!(
        "{folder} is made, of {} files; go on with",
        created.files
    ));
    let mut out = Output::new();
    for line in [
        format!("cd {folder}"),
        "bulkhead build".to_owned(),
        "bulkhead simulate line &".to_owned(),
        "bulkhead run bulkhead.toml".to_owned(),
    ] {
        out.line(&line)?;
    }
    Ok(())
}

pub(super) fn build(arguments: &Build) -> Result<(), Failure> {
    let built = authoring::build(
        &arguments.project,
        arguments.out.as_deref(),
        !arguments.no_install,
        &mut say,
    )?;
    let path = built.path.display();
    say(&format!(
        "{:.1} KiB; `bulkhead inspect {path}` says what it is",
        built.size as f64 / 1024.0
    ));
    Output::new().line(&path.to_string())?;
    Ok(())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            error if error.is_usage() => Failure::usage(message),
            error if error.is_fault() => Failure::fault(message),
            _ => Failure::host(message),
        }
    }
}
