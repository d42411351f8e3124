//! `bulkhead build`: the language's own tool, from a project to one `.wasm`.
//!
//! - **Rust**: `cargo build --release --target wasm32-wasip2`. The target is added through rustup where it is missing.
//! - **Python**: componentize-py, that of the project's `.venv`, else one of the right version on the path. Where there is neither,
//!   it is installed into `.venv` with what `requirements.txt` names.
//!
//! Each command is said before it runs, so that whoever wants another way knows what to type. What the tool prints goes to
//! standard error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Error;

/// What drivers in Rust are compiled for.
const TARGET: &str = "wasm32-wasip2";

/// Under which name a driver's module offers its component.
const EXPORT: &str = "bulkhead:channel/driver@0.1.0=component";

/// What componentize-py writes, within the project, before it has its name.
const SCRATCH: &str = ".component.wasm";

/// The programs that may be a Python, the likeliest first.
const PYTHONS: [&str; 4] = ["python3", "python3.13", "python3.12", "python3.11"];

/// What was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The component.
    pub path: PathBuf,
    /// Its size, in bytes.
    pub size: u64,
}

/// Builds the project in `folder` to `out`, or to `NAME.wasm` in that folder. `say` gets each command before it runs; with `install`
/// what is missing is installed, else named.
///
/// # Errors
///
/// See [`Error`].
pub fn build(
    folder: &Path,
    out: Option<&Path>,
    install: bool,
    say: &mut dyn FnMut(&str),
) -> Result<Built, Error> {
    let mut builder = Builder {
        folder,
        install,
        say,
    };
    let (name, made) = if folder.join("Cargo.toml").is_file() {
        builder.rust()?
    } else if let Some(project) = python_project(folder)? {
        let made = builder.python(&project)?;
        (project.name, made)
    } else {
        return Err(Error::NoProject {
            path: folder.to_owned(),
        });
    };
    let path = out.map_or_else(
        || folder.join(&name).with_extension("wasm"),
        Path::to_path_buf,
    );
    let built = place(&made, &path);
    if made.ends_with(SCRATCH) {
        fs::remove_file(&made).ok();
    }
    built
}

/// Puts a component where it belongs: whole, or not at all.
fn place(made: &Path, path: &Path) -> Result<Built, Error> {
    let unwritten = |source| Error::File {
        path: path.to_owned(),
        doing: "written",
        source,
    };
    let new = path.with_extension("wasm.new");
    let size = fs::copy(made, &new).map_err(unwritten)?;
    fs::rename(&new, path).map_err(unwritten)?;
    Ok(Built {
        path: path.to_owned(),
        size,
    })
}

/// What a `pyproject.toml` says to us.
struct PythonProject {
    name: String,
    module: String,
}

fn python_project(folder: &Path) -> Result<Option<PythonProject>, Error> {
    let path = folder.join("pyproject.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let doing = "read";
            return Err(Error::File {
                path,
                doing,
                source,
            });
        }
    };
    let Ok(table) = text.parse::<toml::Table>() else {
        return Ok(None);
    };
    let Some(ours) = table.get("tool").and_then(|tool| tool.get("bulkhead")) else {
        return Ok(None);
    };
    let key = |key, example| match ours.get(key).and_then(toml::Value::as_str) {
        // It becomes the name of a file, or an argument: neither may lead out of the project, or be an option.
        Some(text) if text.contains(['/', '\\']) || text.starts_with(['.', '-']) => {
            Err(Error::BadKey {
                path: path.clone(),
                key,
                value: text.to_owned(),
                example,
            })
        }
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        Some(_) | None => Err(Error::MissingKey {
            path: path.clone(),
            key,
            example,
        }),
    };
    Ok(Some(PythonProject {
        name: key("name", "furnace-9")?,
        module: key("module", "furnace_9")?,
    }))
}

struct Builder<'a> {
    folder: &'a Path,
    install: bool,
    say: &'a mut dyn FnMut(&str),
}

impl Builder<'_> {
    /// The name of the component, and where cargo has put it.
    fn rust(&mut self) -> Result<(String, PathBuf), Error> {
        if answer(self.command("cargo").arg("--version")).is_none() {
            return Err(Error::Tool {
                tool: "cargo",
                language: "Rust",
                remedy: "install Rust from https://rustup.rs".to_owned(),
            });
        }
        self.add_target()?;
        let mut cargo = self.command("cargo");
        cargo.args(["build", "--release", "--target", TARGET]);
        self.announce(&cargo);
        // Where it has put the component stands in what it says to programs.
        cargo.arg("--message-format=json-render-diagnostics");
        let output = cargo.stderr(Stdio::inherit()).output();
        let output = output.map_err(|_| self.failed(&cargo))?;
        if !output.status.success() {
            return Err(self.failed(&cargo));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        component(&said, &self.folder.join("Cargo.toml")).ok_or(Error::NoComponent)
    }

    /// Adds the target to the toolchain of the project, where that is rustup's business.
    fn add_target(&mut self) -> Result<(), Error> {
        let listed = answer(
            self.command("rustup")
                .args(["target", "list", "--installed"]),
        );
        // A toolchain from elsewhere may have the target; cargo says so if not.
        let Some(listed) = listed else {
            return Ok(());
        };
        if listed.lines().any(|line| line == TARGET) {
            return Ok(());
        }
        let mut add = self.command("rustup");
        add.args(["target", "add", TARGET]);
        self.provide(&mut add, "the target wasm32-wasip2", "Rust")
    }

    /// Where componentize-py has put the component.
    fn python(&mut self, project: &PythonProject) -> Result<PathBuf, Error> {
        let tool = self.componentize()?;
        let version = self.version_of(&tool)?;
        if !bulkhead_componentize::is_known(&version) {
            (self.say)(&format!(
                "whether a driver's memory grows with componentize-py {version} is not known; `bulkhead conform` (universal/memory) tells"
            ));
        }
        let made = self.folder.join(SCRATCH);
        let mut make = self.command(tool);
        make.args(["--quiet", "--wit-path", "vendor/wit", "--world", "channel"])
            .args(["--export-interface-name", EXPORT])
            .args(["componentize", &project.module])
            .args(["--python-path", ".", "--python-path", "vendor"])
            .args(["--output", SCRATCH]);
        self.run(&mut make)?;
        let component = fs::read(&made).map_err(|_| Error::NoComponent)?;
        let component = bulkhead_componentize::finish(&component, &version)?;
        fs::write(&made, component).map_err(|source| Error::File {
            path: made.clone(),
            doing: "written",
            source,
        })?;
        Ok(made)
    }

    /// Which version a componentize-py is, as it says itself.
    fn version_of(&self, tool: &Path) -> Result<String, Error> {
        let mut ask = self.command(tool);
        let said = answer(ask.arg("--version")).ok_or_else(|| self.failed(&ask))?;
        let version = said.split_whitespace().next_back().unwrap_or_default();
        Ok(version.chars().take(32).collect())
    }

    /// A componentize-py of the version that the project names.
    fn componentize(&mut self) -> Result<PathBuf, Error> {
        const TOOL: &str = "componentize-py";
        let requirements = fs::read_to_string(self.folder.join("requirements.txt"));
        let wanted = requirements.unwrap_or_default();
        let wanted = wanted
            .lines()
            .find_map(|line| line.strip_prefix("componentize-py=="))
            .unwrap_or("")
            .trim()
            .chars()
            .take(32)
            .collect::<String>();
        let fits = |tool: &Path, me: &Self| {
            let version = answer(me.command(tool).arg("--version"));
            version.is_some_and(|said| wanted.is_empty() || said.trim().ends_with(&wanted))
        };
        let own = PathBuf::from(".venv/bin").join(TOOL);
        if self.folder.join(&own).is_file() && fits(&self.absolute(&own), self) {
            return Ok(self.absolute(&own));
        }
        if fits(Path::new(TOOL), self) {
            return Ok(PathBuf::from(TOOL));
        }
        let python = PYTHONS.iter().find(|python| self.is_python(python));
        let Some(python) = python else {
            return Err(Error::Tool {
                tool: "python3",
                language: "Python",
                remedy: "install Python 3.11 or newer, on Debian with `apt-get install python3 python3-venv`"
                    .to_owned(),
            });
        };
        let mut venv = self.command(python);
        venv.args(["-m", "venv", ".venv"]);
        self.provide(&mut venv, TOOL, "Python")?;
        let mut pip = self.command(self.absolute(Path::new(".venv/bin/python")));
        pip.args(["-m", "pip", "install", "--quiet"]).args([
            "--disable-pip-version-check",
            "--requirement",
            "requirements.txt",
        ]);
        self.provide(&mut pip, TOOL, "Python")?;
        Ok(self.absolute(&own))
    }

    /// Whether this is a Python that is new enough.
    fn is_python(&self, program: &str) -> bool {
        let script = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11)";
        answer(self.command(program).args(["-c", script])).is_some()
    }

    /// A path of the project that holds wherever a command runs.
    fn absolute(&self, path: &Path) -> PathBuf {
        let path = self.folder.join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Runs what installs something; or names it, where nothing is to be installed.
    fn provide(
        &mut self,
        command: &mut Command,
        tool: &'static str,
        language: &'static str,
    ) -> Result<(), Error> {
        if !self.install {
            return Err(Error::Tool {
                tool,
                language,
                remedy: format!(
                    "run `{}` in {}, or leave --no-install away",
                    typed(command),
                    self.folder.display()
                ),
            });
        }
        self.run(command)
    }

    fn run(&mut self, command: &mut Command) -> Result<(), Error> {
        self.announce(command);
        // Standard output is for what was asked for: the path of the component.
        let status = command.stdout(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(self.failed(command)),
        }
    }

    fn announce(&mut self, command: &Command) {
        (self.say)(&format!("running `{}`", typed(command)));
    }

    fn failed(&self, command: &Command) -> Error {
        Error::Failed {
            command: typed(command),
        }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder).stdin(Stdio::null());
        command
    }
}

/// What a command says, if it can be run and ends well.
fn answer(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(said)
}

/// A command as one would type it.
fn typed(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let words = std::iter::once(program.as_os_str()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// The package that this manifest makes, and its component, from what cargo says to programs.
fn component(said: &str, manifest: &Path) -> Option<(String, PathBuf)> {
    let manifest = fs::canonicalize(manifest).ok()?;
    let mut artifacts = said.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let of = message.get("manifest_path")?.as_str()?;
        if message.get("reason")? != "compiler-artifact" || fs::canonicalize(of).ok()? != manifest {
            return None;
        }
        let files = message.get("filenames")?.as_array()?;
        let file = files
            .iter()
            .filter_map(serde_json::Value::as_str)
            .find(|file| file.ends_with(".wasm"))?;
        let name = package_name(message.get("package_id")?.as_str()?)?;
        Some((name.to_owned(), PathBuf::from(file)))
    });
    artifacts.next_back()
}

/// The name in the id of a package, such as `path+file:///home/me/furnace-9#0.1.0` or `...#furnace-9@0.1.0`.
fn package_name(id: &str) -> Option<&str> {
    let (place, version) = id.rsplit_once('#')?;
    match version.split_once('@') {
        Some((name, _)) => Some(name),
        None => place.rsplit('/').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_found_in_what_cargo_says() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let line = |manifest: &Path, file: &str| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": manifest,
                "package_id": "path+file:///home/me/furnace-9#0.1.0",
                "filenames": ["/t/libfurnace_9.rlib", file],
            })
            .to_string()
        };
        let other = Path::new("/nowhere/Cargo.toml");
        let said = [
            line(other, "/t/other.wasm"),
            "no JSON".to_owned(),
            line(&manifest, "/t/furnace_9.wasm"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        assert_eq!(
            component(&said.join("\n"), &manifest),
            Some(("furnace-9".to_owned(), PathBuf::from("/t/furnace_9.wasm")))
        );
        assert_eq!(component(&line(&manifest, "/t/lib.so"), &manifest), None);
        assert_eq!(component("", &manifest), None);
        assert_eq!(package_name("path+file:///x/y#a_b@0.1.0"), Some("a_b"));
    }

    #[test]
    fn a_component_in_python_says_so() {
        let finished = bulkhead_componentize::finish(b"\0asm\x0d\0\x01\0", "0.26.0").unwrap();
        let found = crate::driver::Producers::of(&finished);
        assert_eq!(found.languages, ["Python"]);
        assert_eq!(found.tools, ["componentize-py 0.26.0"]);
    }

    #[test]
    fn a_folder_without_a_project_is_named() {
        let folder = std::env::temp_dir().join(format!("bulkhead-build-{}", fastrand::u64(..)));
        fs::create_dir(&folder).unwrap();
        let build = |text: Option<&str>| {
            if let Some(text) = text {
                fs::write(folder.join("pyproject.toml"), text).unwrap();
            }
            super::build(&folder, None, false, &mut |_| {})
                .unwrap_err()
                .to_string()
        };
        assert!(build(None).contains("holds no driver"));
        assert!(build(Some("[project]\n")).contains("holds no driver"));
        let missing = build(Some("[tool.bulkhead]\nname = \"x\"\n"));
        assert!(missing.contains("has no `module`"), "{missing}");
        for (name, module, key) in [
            ("../x", "x", "name"),
            ("a\\b", "x", "name"),
            (".x", "x", "name"),
            ("x", "-x", "module"),
            ("x", "a/b", "module"),
        ] {
            // As a literal of TOML, so that nothing is escaped.
            let text = format!("[tool.bulkhead]\nname = '{name}'\nmodule = '{module}'\n");
            let bad = build(Some(&text));
            assert!(bad.contains(&format!("has `{key} = ")), "{bad}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
