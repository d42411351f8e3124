//! `bulkhead tag export` and `bulkhead tag import`: tags of a configuration out to CSV and in again. No host is asked.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::{TagExport, TagImport};
use super::check;
use super::failure::Failure;
use super::output::{Output, plain};
use super::progress::Progress;
use crate::config::{
    self, Checked, Host, Import, ImportError, Origin, Spot, TagTable, TagsFile, parse_with_files,
};
use crate::engine::Compiler;
use crate::ids::ChannelId;
use crate::supervisor;

#[derive(Serialize)]
struct Exported<'a> {
    file: String,
    channel: &'a str,
    group: Option<&'a str>,
    columns: &'a [&'static str],
    tags: usize,
}

pub(super) fn export(arguments: &TagExport) -> Result<(), Failure> {
    let config = check::read(&arguments.config)?;
    let channel = channel(&config.value, arguments)?;
    let group = arguments.group.as_deref();
    let Some(table) = config.locations.tags(channel, group) else {
        let name = plain(group.unwrap_or_default());
        return Err(Failure::fault(format!(
            "the channel {channel} has no group `{name}`; see `[[channel.group]]` in {}",
            config.locations.file()
        )));
    };
    let mut out = Output::new();
    let Some(file) = &arguments.output else {
        if arguments.json {
            for row in &table.rows {
                out.json(&object(&table, row))?;
            }
            return Ok(());
        }
        io::stdout().write_all(table.to_csv().as_bytes())?;
        return Ok(io::stdout().flush()?);
    };
    if is_same(file, &arguments.config) {
        return Err(Failure::usage(
            "the tags would take the place of the configuration; give --output another name",
        ));
    }
    let is_used = |used: &PathBuf| is_same(file, used);
    if check::files(&arguments.config).iter().any(is_used) {
        return Err(Failure::usage(
            "the tags would take the place of a file that the configuration is made of; give --output another name",
        ));
    }
    replace(file, table.to_csv().as_bytes())?;
    let exported = Exported {
        file: file.display().to_string(),
        channel: channel.as_str(),
        group,
        columns: &table.columns,
        tags: table.rows.len(),
    };
    if arguments.json {
        out.json(&exported)?;
    } else {
        out.line(&format!("{}: {} tags", exported.file, exported.tags))?;
    }
    Ok(())
}

/// A row as an object: the texts of its cells under the names of their columns.
fn object(table: &TagTable, row: &[String]) -> serde_json::Map<String, serde_json::Value> {
    let cells = table.columns.iter().zip(row);
    cells
        .filter(|(_, cell)| !cell.is_empty())
        .map(|(column, cell)| ((*column).to_owned(), cell.as_str().into()))
        .collect()
}

/// The channel that is meant.
fn channel<'a>(config: &'a Host, arguments: &TagExport) -> Result<&'a ChannelId, Failure> {
    const SHOWN: usize = 8;
    let mut ids = config.channels.iter().map(|channel| &channel.id);
    let some: Vec<&str> = ids.clone().take(SHOWN).map(ChannelId::as_str).collect();
    let some = some.join(", ");
    match &arguments.channel {
        Some(wanted) => ids.find(|id| id.as_str() == wanted).ok_or_else(|| {
            let wanted = plain(wanted);
            Failure::fault(format!(
                "there is no channel `{wanted}`; name one of those there, such as {some}"
            ))
        }),
        None => match (ids.next(), ids.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(Failure::usage(format!(
                "there are several channels; name one with --channel, such as {some}"
            ))),
        },
    }
}

#[derive(Serialize)]
struct Imported<'a> {
    ok: bool,
    file: String,
    config: &'a str,
    channel: &'a str,
    group: Option<&'a str>,
    /// All that stand there now, those of the configuration itself included.
    tags: usize,
    dry_run: bool,
    /// The files that were written, or would be.
    changes: Vec<String>,
    /// Who else has the tags of the same file.
    also_used_by: &'a [User],
}

/// A channel or a group that names a file of tags.
#[derive(Serialize)]
struct User {
    channel: String,
    group: Option<String>,
}

pub(super) async fn import(arguments: TagImport) -> Result<(), Failure> {
    let (text, origin) = check::text(&arguments.config)?;
    let file = source(&arguments.file)?;
    let spot = Spot {
        channel: &arguments.channel,
        group: arguments.group.as_deref(),
    };
    let import = Import {
        text: &text,
        origin: &origin,
        spot,
    };
    let plan = match plan(&import, &arguments.file, &file) {
        Ok(plan) => plan,
        Err(ImportFailure::Import(ImportError::Faults(faults))) => {
            return check::tell(arguments.json, &faults);
        }
        Err(ImportFailure::Import(ImportError::NoSpot(wrong))) => {
            return Err(Failure::fault(format!("{}: {wrong}", origin.name)));
        }
        Err(ImportFailure::Told(failure)) => return Err(failure),
    };
    let progress = Progress::new();
    let found = supervisor::preflight(&plan.config, Compiler::this_program(), &|now| {
        progress.report(now);
    })
    .await;
    drop(progress);
    if let Some(faults) = found.map_err(|error| Failure::host(error.to_string()))? {
        return check::tell(arguments.json, &faults);
    }
    let changes = plan.changes(&arguments.config, &file);
    if !arguments.dry_run {
        // The drivers may have taken a while.
        if check::text(&arguments.config)?.0 != text {
            return Err(Failure::fault(format!(
                "{} was changed while it was checked, and nothing was imported; import again",
                origin.name
            )));
        }
        for (path, bytes) in &changes {
            replace(path, bytes)?;
        }
    }
    let imported = Imported {
        ok: true,
        file: file.name.clone(),
        config: &origin.name,
        channel: spot.channel,
        group: spot.group,
        tags: count(&plan.config.value, spot),
        dry_run: arguments.dry_run,
        changes: changes.iter().map(|(path, _)| shown(path)).collect(),
        also_used_by: &plan.also_used_by,
    };
    tell(&imported, arguments.json)
}

fn tell(imported: &Imported<'_>, json: bool) -> Result<(), Failure> {
    let mut out = Output::new();
    if json {
        out.json(imported)?;
        return Ok(());
    }
    let place = place(imported.channel, imported.group);
    let done = match (imported.changes.is_empty(), imported.dry_run) {
        (true, _) => "nothing to write, it is there already".to_owned(),
        (false, true) => format!("would write {}", imported.changes.join(" and ")),
        (false, false) => format!("wrote {}", imported.changes.join(" and ")),
    };
    let Imported { file, tags, .. } = imported;
    out.line(&format!("{file}: fine; {tags} tags in {place}; {done}"))?;
    for user in imported.also_used_by {
        let other = self::place(&user.channel, user.group.as_deref());
        out.line(&format!(
            "{other} has its tags from the same file, so they are these too"
        ))?;
    }
    Ok(())
}

fn place(channel: &str, group: Option<&str>) -> String {
    let channel = plain(channel);
    match group {
        Some(group) => format!("{channel}, group {}", plain(group)),
        None => channel,
    }
}

/// What an import will write.
struct Plan {
    /// The configuration as it will be.
    config: Checked<Host>,
    /// Where the file of tags goes.
    target: PathBuf,
    /// Whether it lies there already, as it is.
    is_there: bool,
    /// The new text of the configuration, where it did not name the file yet.
    text: Option<String>,
    /// Who else has the tags of that file.
    also_used_by: Vec<User>,
}

impl Plan {
    /// What is written where. The tags come first: a configuration never names a file that is not there.
    fn changes<'a>(&'a self, config: &Path, file: &'a TagsFile) -> Vec<(PathBuf, &'a [u8])> {
        let tags = (!self.is_there).then(|| (self.target.clone(), &*file.bytes));
        let text = self.text.as_ref();
        let text = text.map(|text| (config.to_owned(), text.as_bytes()));
        tags.into_iter().chain(text).collect()
    }
}

enum ImportFailure {
    Import(ImportError),
    Told(Failure),
}

impl From<ImportError> for ImportFailure {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

/// Checks everything but the drivers.
fn plan(import: &Import<'_>, source: &Path, file: &TagsFile) -> Result<Plan, ImportFailure> {
    let Origin { folder, .. } = import.origin;
    let there = import.tags_file()?;
    let name = source.file_name().and_then(|name| name.to_str());
    let written = match (&there, name) {
        (Some(written), _) => written.as_str(),
        (None, Some(name)) => name,
        (None, None) => {
            let name = source.display();
            return Err(ImportFailure::Told(Failure::usage(format!(
                "{name} has no name that a configuration can hold; rename the file"
            ))));
        }
    };
    let target = folder.join(written);
    let is_there = is_same(&target, source) || fs::read(&target).is_ok_and(|old| old == file.bytes);
    if there.is_none() && !is_there && target.exists() {
        return Err(ImportFailure::Told(Failure::fault(format!(
            "{} is there already, and is another file; give the new one another name, or move that one away",
            shown(&target)
        ))));
    }
    let is_target = |path: &Path| path == target || is_same(path, &target);
    let read = |path: &Path| match is_target(path) {
        true => Ok(file.clone()),
        false => check::tags_file(path),
    };
    let mut also_used_by = import.other_users()?;
    also_used_by.retain(|user| is_target(&folder.join(&user.written)));
    let also_used_by = also_used_by.into_iter().map(|user| User {
        channel: user.channel,
        group: user.group,
    });
    let also_used_by = also_used_by.collect();
    let (config, text) = match there {
        Some(_) => {
            let checked = parse_with_files(import.text, import.origin, &read);
            (checked.map_err(ImportError::Faults)?, None)
        }
        None => {
            let (text, checked) = import.with_tags_file(written, &read)?;
            (checked, Some(text))
        }
    };
    Ok(Plan {
        config,
        target,
        is_there,
        text,
        also_used_by,
    })
}

/// The file that is to be imported.
fn source(path: &Path) -> Result<TagsFile, Failure> {
    check::tags_file(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => "let this user read it",
            _ => "give a CSV file",
        };
        Failure::fault(format!(
            "{} cannot be read: {error}; {remedy}",
            path.display()
        ))
    })
}

/// How many tags stand at a spot.
fn count(config: &Host, spot: Spot<'_>) -> usize {
    let mut channels = config.channels.iter();
    let Some(channel) = channels.find(|channel| channel.id.as_str() == spot.channel) else {
        return 0;
    };
    let group = |group: &&config::Group| spot.group.is_none_or(|name| group.name == name);
    let grouped = channel.groups.iter().filter(group);
    let grouped: usize = grouped.map(|group| group.tags.len()).sum();
    match spot.group {
        Some(_) => grouped,
        None => channel.tags.len().saturating_sub(grouped),
    }
}

/// Whether two paths lead to one file that is there.
fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn shown(path: &Path) -> String {
    plain(&path.strip_prefix(".").unwrap_or(path).display().to_string())
}

/// Writes a file at once: whoever reads it meanwhile gets the old one or the new one, whole. Who may read it stays as it is.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // Where the path is a link, what it leads to is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut beside = path.clone().into_os_string();
    beside.push(format!(".{:08x}", fastrand::u32(..)));
    let beside = PathBuf::from(beside);
    let written = || -> io::Result<()> {
        let mut file = fs::File::create_new(&beside)?;
        if let Ok(old) = path.metadata() {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    written().map_err(|error| {
        // It is in nobody's way if it stays.
        drop(fs::remove_file(&beside));
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "make its folder first",
            _ => "let this user write to its folder",
        };
        Failure::host(format!(
            "{} cannot be written: {error}; {remedy}",
            shown(&path)
        ))
    })
}
