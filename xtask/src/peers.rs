//! What was written by others, against which the tests run: devices (mbpoll and libmodbus from Debian, pymodbus from PyPI), and the
//! servers to which samples go (mosquitto, PostgreSQL, nats-server, Prometheus, from Debian).
//!
//! A missing peer is a failure that names the command which installs it, never a test left out.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// What each Debian package provides that we can look for.
const DEBIAN: [(&str, Provides); 14] = [
    ("gcc", Provides::Program("gcc")),
    ("iproute2", Provides::Program("ip")),
    ("libc6-dev", Provides::Header("stdio.h")),
    (
        "libfaketime",
        Provides::Library("faketime/libfaketime.so.1"),
    ),
    ("libmodbus-dev", Provides::Header("modbus/modbus.h")),
    ("mbpoll", Provides::Program("mbpoll")),
    ("mosquitto", Provides::Program("mosquitto")),
    ("mosquitto-clients", Provides::Program("mosquitto_pub")),
    ("nats-server", Provides::Program("nats-server")),
    ("nftables", Provides::Program("nft")),
    ("openssl", Provides::Program("openssl")),
    ("postgresql", Provides::Postgres),
    ("prometheus", Provides::Program("promtool")),
    ("socat", Provides::Program("socat")),
];

enum Provides {
    Program(&'static str),
    Header(&'static str),
    /// In a folder of `/usr/lib`.
    Library(&'static str),
    /// The server, which is on no path.
    Postgres,
}

impl Provides {
    fn is_there(&self) -> bool {
        match self {
            Self::Program(name) => on_path(name).is_some(),
            Self::Header(name) => Path::new("/usr/include").join(name).exists(),
            Self::Library(name) => is_below("/usr/lib", name),
            Self::Postgres => is_below("/usr/lib/postgresql", "bin/postgres"),
        }
    }
}

/// Whether a folder of this folder has such a file.
fn is_below(folder: &str, name: &str) -> bool {
    let folders = fs::read_dir(folder).into_iter().flatten();
    folders
        .filter_map(Result::ok)
        .any(|entry| entry.path().join(name).exists())
}

/// Installs what is missing and builds the peers in C. Returns the Python that has pymodbus.
pub(crate) fn prepare() -> Result<PathBuf> {
    let missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(_, provides)| !provides.is_there())
        .map(|(package, _)| *package)
        .collect();
    install(&missing)?;
    build_c("libmodbus_server")?;
    virtual_environment()
}

/// Installs Debian packages.
fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let remedy = format!("apt-get install --yes {list}");
    if on_path("apt-get").is_none() {
        bail!(
            "the tests need {list} (names of Debian packages), and there is no apt-get here; install them by other means"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("the tests need {list}; install them as root with `sudo {remedy}`");
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        process::run(apt.env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
    };
    apt(&["update", "--quiet"])?;
    apt(&[
        &["install", "--yes", "--quiet", "--no-install-recommends"],
        packages,
    ]
    .concat())
    .with_context(|| format!("cannot install what the tests need; try `{remedy}` by hand"))
}

/// Compiles `tests/peers/<name>.c` to `target/peers/<name>` where the source is newer.
fn build_c(name: &str) -> Result<()> {
    let source = workspace::root()
        .join("tests/peers")
        .join(name)
        .with_extension("c");
    let built = workspace::target().join("peers").join(name);
    let modified = |path: &Path| {
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    if modified(&built).is_some_and(|built| Some(built) > modified(&source)) {
        return Ok(());
    }
    fs::create_dir_all(built.parent().expect("a file has a folder"))?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
    process::run(gcc.arg(built).arg(source).arg("-lmodbus"))
}

/// What stands in the virtual environment: the peers of the tests, and the tools that drivers in Python are made with.
const REQUIREMENTS: [&str; 2] = [
    "tests/peers/requirements.txt",
    "guest-sdk/python/requirements.txt",
];

/// A virtual environment in `target/venv` with what [`REQUIREMENTS`] name. Returns its Python.
pub(crate) fn virtual_environment() -> Result<PathBuf> {
    let requirements = REQUIREMENTS.map(|name| workspace::root().join(name));
    let mut wanted = Vec::new();
    for requirements in &requirements {
        let text = fs::read(requirements)
            .with_context(|| format!("cannot read {}", requirements.display()))?;
        wanted.extend(text);
    }
    let folder = workspace::target().join("venv");
    let (python, stamp) = (folder.join("bin/python"), folder.join("installed.txt"));
    let is_whole = process::ask(
        Command::new(&python).args(["-c", "import pymodbus, componentize_py, pytest"]),
    )
    .is_some();
    if is_whole && fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }

    let system = system_python()?;
    process::run(
        Command::new(system)
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    for requirements in &requirements {
        pip.arg("--requirement").arg(requirements);
    }
    process::run(&mut pip)
        .context("cannot install the Python packages; is PyPI, or your mirror of it, reachable?")?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// A Python of at least 3.11 that can make virtual environments.
fn system_python() -> Result<PathBuf> {
    let names = [
        "python3",
        "python3.14",
        "python3.13",
        "python3.12",
        "python3.11",
    ];
    let version = |python: &Path| {
        let script =
            "import sys; assert sys.version_info >= (3, 11); print('%d.%d' % sys.version_info[:2])";
        process::ask(Command::new(python).args(["-c", script]))
    };
    let mut found = names
        .iter()
        .filter_map(|name| on_path(name))
        .filter_map(|path| Some((version(&path)?, path)));
    let Some((version, python)) = found.next() else {
        if rustix::process::geteuid().is_root() && on_path("apt-get").is_some() {
            install(&["python3", "python3-venv"])?;
            return on_path("python3").context("there is no python3 even after its installation");
        }
        bail!(
            "the tests need Python 3.11 or newer with venv; install it, on Debian with `apt-get install python3 python3-venv`"
        );
    };
    let can_make =
        || process::ask(Command::new(&python).args(["-c", "import ensurepip, venv"])).is_some();
    if !can_make() {
        // Debian splits the standard library; the package carries the version of its Python.
        install(&[&format!("python{version}-venv")])?;
        if !can_make() {
            bail!(
                "{} has no ensurepip; install the Debian package python{version}-venv",
                python.display()
            );
        }
    }
    Ok(python)
}

fn on_path(program: &str) -> Option<PathBuf> {
    find(program, &std::env::var_os("PATH")?)
}

fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    // Where Debian keeps what is root's, be it on the path or not.
    let roots = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(path)
        .chain(roots)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_only() {
        assert_eq!(
            find("sh", OsStr::new("/nowhere:/bin")),
            Some(PathBuf::from("/bin/sh"))
        );
        assert_eq!(find("sh", OsStr::new("/nowhere")), None);
        assert!(Provides::Program("sh").is_there());
        assert!(!Provides::Program("no-such-program").is_there());
        assert!(!Provides::Header("no/such.h").is_there());
    }
}
