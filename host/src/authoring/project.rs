//! A project: its name, its files, and how they come to lie on the disk.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::embedded::SCRIPT;
use super::{Error, Language, python, rust};

/// The longest name, in bytes.
const MAX_NAME: usize = 48;

/// Names that a language keeps for itself, or that a project's own folders, libraries and tools have.
const TAKEN: &str = "as async await break const continue crate dyn else enum extern false fn for gen if impl in let loop match mod \
     move mut pub ref return self static struct super trait true type unsafe use where while abstract become box do final macro \
     override priv try typeof unsized virtual yield core std alloc test proc-macro bulkhead-sdk and assert class def del elif except \
     finally from global import is lambda none nonlocal not or pass raise with tests vendor wit-world bulkhead sdk \
     serde schemars thiserror serde-json serde-path-to-error wit-bindgen data pytest componentize-py-types";

/// The modules of Python's standard library: one of that name would be found in its place.
const STANDARD: &str = "\
     abc aifc antigravity argparse array ast asynchat asyncio asyncore atexit audioop base64 bdb binascii \
     bisect builtins bz2 cProfile calendar cgi cgitb chunk cmath cmd code codecs codeop collections \
     colorsys compileall concurrent configparser contextlib contextvars copy copyreg crypt csv ctypes \
     curses dataclasses datetime dbm decimal difflib dis distutils doctest email encodings ensurepip enum \
     errno faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc genericpath getopt \
     getpass gettext glob graphlib grp gzip hashlib heapq hmac html http idlelib imaplib imghdr imp \
     importlib inspect io ipaddress itertools json keyword lib2to3 linecache locale logging lzma mailbox \
     mailcap marshal math mimetypes mmap modulefinder msilib msvcrt multiprocessing netrc nis nntplib nt \
     ntpath nturl2path numbers opcode operator optparse os ossaudiodev pathlib pdb pickle pickletools \
     pipes pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty pwd py_compile \
     pyclbr pydoc pydoc_data pyexpat queue quopri random re readline reprlib resource rlcompleter runpy \
     sched secrets select selectors shelve shlex shutil signal site smtpd smtplib sndhdr socket \
     socketserver spwd sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string stringprep \
     struct subprocess sunau symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios \
     textwrap this threading time timeit tkinter token tokenize tomllib trace traceback tracemalloc tty \
     turtle turtledemo types typing unicodedata unittest urllib uu uuid venv warnings wave weakref \
     webbrowser winreg winsound wsgiref xdrlib xml xmlrpc zipapp zipfile zipimport zlib zoneinfo";

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The project's folder.
    pub folder: PathBuf,
    /// How many files it has.
    pub files: usize,
}

/// A name, as each place needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// `furnace-9`
    pub(super) kebab: String,
    /// `furnace_9`
    pub(super) snake: String,
    /// `Furnace9`
    pub(super) camel: String,
}

impl Name {
    pub(super) fn parse(name: &str) -> Result<Self, Error> {
        let fault = |reason| Error::Name {
            name: name.to_owned(),
            reason,
        };
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(fault("it has 1 to 48 characters"));
        }
        if !name.chars().all(allowed) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(fault("it has a-z, 0-9 and - only, and a letter first"));
        }
        if name.ends_with('-') || name.contains("--") {
            return Err(fault("a - stands between two others"));
        }
        if TAKEN.split_whitespace().any(|taken| taken == name) {
            return Err(fault("the word is taken"));
        }
        let snake = name.replace('-', "_");
        if STANDARD.split_whitespace().any(|module| module == snake) {
            return Err(fault("Python has a module of this name"));
        }
        let camel = name.split('-').map(|part| {
            let (first, rest) = part.split_at(1);
            first.to_ascii_uppercase() + rest
        });
        Ok(Self {
            kebab: name.to_owned(),
            camel: camel.collect(),
            snake,
        })
    }
}

/// A file of a project.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) path: String,
    pub(super) text: String,
}

impl Item {
    pub(super) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }
}

/// The script that the driver is held to, with more lines in its head.
pub(super) fn script(name: &Name, more: &str) -> Item {
    let text = SCRIPT.replace(
        "# The protocol of src/lib.rs: one question, one answer, lines that end in CR LF. The driver in Python is held to this script too.\n",
        "# The protocol: one question, one answer, lines that end in CR LF. Put your own in its place.\n",
    );
    let (head, cases) = text.split_once("\n\n").unwrap_or((&text, ""));
    let text = format!("{head}\n{more}\n{cases}");
    Item::new(format!("conformance/{}.script", name.kebab), text)
}

/// Fills a template: `{{name}}` and its like.
pub(super) fn fill(template: &str, name: &Name) -> String {
    template
        .replace("{{name}}", &name.kebab)
        .replace("{{module}}", &name.snake)
        .replace("{{driver}}", &name.camel)
}

/// Makes a project called `name` in a folder of this name in `parent`.
///
/// # Errors
///
/// Where the name cannot be, there is something already, or the files cannot be written; what was written then stays.
pub fn create(parent: &Path, name: &str, language: Language) -> Result<Created, Error> {
    let name = Name::parse(name)?;
    let items = match language {
        Language::Rust => rust::items(&name),
        Language::Python => python::items(&name),
    };
    // As people would type it.
    let folder = if parent == Path::new(".") {
        PathBuf::from(&name.kebab)
    } else {
        parent.join(&name.kebab)
    };
    fs::create_dir(&folder).map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists {
            path: folder.clone(),
        },
        _ => unwritten(&folder)(source),
    })?;
    for item in &items {
        let path = folder.join(&item.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(unwritten(parent))?;
        }
        let mut file = fs::File::create_new(&path).map_err(unwritten(&path))?;
        file.write_all(item.text.as_bytes())
            .map_err(unwritten(&path))?;
    }
    Ok(Created {
        folder,
        files: items.len(),
    })
}

fn unwritten(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File {
        path,
        doing: "written",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_suit_both_languages_or_are_refused() {
        let name = Name::parse("furnace-9b").unwrap();
        assert_eq!(
            (name.snake.as_str(), name.camel.as_str()),
            ("furnace_9b", "Furnace9b")
        );
        for (wrong, reason) in [
            ("", "1 to 48"),
            (&"x".repeat(49), "1 to 48"),
            ("Furnace", "a-z"),
            ("9x", "a letter first"),
            ("../up", "a-z"),
            ("a b", "a-z"),
            ("a-", "between"),
            ("a--b", "between"),
            ("async", "taken"),
            ("vendor", "taken"),
            ("serde-json", "taken"),
            ("pytest", "taken"),
            ("json", "Python has a module"),
            ("signal", "Python has a module"),
        ] {
            let error = Name::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(reason), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn a_project_is_whole_and_its_own() {
        for language in [Language::Rust, Language::Python] {
            let name = Name::parse("furnace-9").unwrap();
            let items = match language {
                Language::Rust => rust::items(&name),
                Language::Python => python::items(&name),
            };
            let find = |path: &str| {
                let item = items.iter().find(|item| item.path == path);
                &item.unwrap_or_else(|| panic!("no {path}")).text
            };
            assert!(find("bulkhead.toml").contains("driver = \"furnace-9.wasm\""));
            assert!(find("README.md").starts_with("# furnace-9\n"));
            assert!(find(".github/workflows/ci.yml").contains("bulkhead build"));
            assert!(find("conformance/furnace-9.script").starts_with("# The protocol: one"));
            for item in &items {
                for left in ["{{name}}", "{{module}}", "{{driver}}", "# LIBRARIES"] {
                    assert!(!item.text.contains(left), "{}: {left}", item.path);
                }
                if !item.path.starts_with("vendor/") && item.path != "Cargo.lock" {
                    for left in [
                        "channels/",
                        "line-python",
                        "LineDriver",
                        "use line::",
                        "from line",
                    ] {
                        assert!(!item.text.contains(left), "{}: {left}", item.path);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_there_is_never_written_over() {
        let parent = std::env::temp_dir().join(format!("bulkhead-new-{}", fastrand::u64(..)));
        fs::create_dir(&parent).unwrap();
        let created = create(&parent, "furnace", Language::Python).unwrap();
        assert!(created.folder.join("furnace/driver.py").is_file());
        let again = create(&parent, "furnace", Language::Rust).unwrap_err();
        assert!(matches!(again, Error::Exists { .. }), "{again}");
        fs::remove_dir_all(parent).unwrap();
    }
}
