//! `bulkhead completions` and `bulkhead man`: the command line, as shells and `man` want it told.
//!
//! Both are made of what `--help` says, so they cannot lag behind it.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::arguments::Arguments;
use super::failure::Failure;
use super::output::say;

#[derive(Debug, Args)]
#[command(after_help = "\
bash:  bulkhead completions bash > /etc/bash_completion.d/bulkhead
zsh:   bulkhead completions zsh > \"${fpath[1]}/_bulkhead\"
fish:  bulkhead completions fish > ~/.config/fish/completions/bulkhead.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// The folder for the pages, such as /usr/local/share/man/man1; it is made where it is missing
    folder: PathBuf,
}

pub(super) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "bulkhead",
        &mut script,
    );
    std::io::stdout().lock().write_all(&script)?;
    Ok(())
}

pub(super) fn man(arguments: &Man) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let unwritten = |error: std::io::Error| {
        Failure::host(format!(
            "{} cannot be written: {error}; name a folder that this user may write to",
            folder.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(unwritten)?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(unwritten)?;
    say(&format!("see `man {}/bulkhead.1`", folder.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that people may type, with those above it.
    fn commands(command: &clap::Command, above: &str, found: &mut Vec<String>) {
        let path = format!("{above}{}", command.get_name());
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            commands(sub, &format!("{path}-"), found);
        }
        found.push(path);
    }

    #[test]
    fn every_command_has_a_page_and_is_completed() {
        let mut all = Vec::new();
        commands(&Arguments::command(), "", &mut all);
        assert!(all.len() > 30, "{all:?}");

        let folder = std::env::temp_dir().join(format!("bulkhead-man-{}", fastrand::u64(..)));
        man(&Man {
            folder: folder.clone(),
        })
        .unwrap();
        for command in &all {
            let page = folder.join(format!("{command}.1"));
            let text = std::fs::read_to_string(&page);
            let text = text.unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            assert!(text.contains(".SH NAME"), "{command}");
        }
        std::fs::remove_dir_all(folder).unwrap();

        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "bulkhead", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in &all {
                let last = command.rsplit('-').next().unwrap();
                assert!(script.contains(last), "{shell}: {command}");
            }
        }
    }
}
