//! Compiles a component, links it, and checks that it is a driver for this host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::component::Linker;
use wasmtime::component::types::ComponentItem;

use super::state::State;
use super::symbols::Symbols;
use super::verify::{self, MAX_REASON, Verified, VerifyError};
use super::wasi;
use crate::bindings::{DriverWorld, DriverWorldPre, actions, config, events, types};
use crate::engine::{CompileError, CompileLimit, Compiled, Engine};
use crate::exit::Frame;
use crate::text::{shown, shown_lines};

/// The interface that a driver exports.
const DRIVER_EXPORT: &str = "bulkhead:channel/driver@0.1.0";

/// The longest name of an interface that is handed on, in bytes.
const MAX_NAME: usize = 256;

/// A compiled driver, ready to be instantiated as often as wanted. Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    digest: [u8; 32],
    size: u64,
    imports: Vec<String>,
    engine: Engine,
    symbols: Symbols,
    from_cache: bool,
    pre: DriverWorldPre<State>,
}

/// What a driver says of itself, bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverInfo {
    /// Such as `modbus`.
    pub name: String,
    /// The driver's own version.
    pub version: String,
    /// Such as `Modbus Application Protocol 1.1b3`.
    pub protocol: String,
    /// JSON Schema of the channel's settings.
    pub settings_schema: String,
    /// JSON Schema of a device's settings.
    pub device_schema: String,
    /// JSON Schema of a tag's settings.
    pub tag_schema: String,
    /// How a tag's address is written.
    pub address_help: String,
    /// The links that it asks for.
    pub links: Vec<LinkWish>,
    /// The commands that it takes; where none are listed and it `can` take any, all.
    pub commands: Vec<CommandInfo>,
    /// What it can do: `read`, `write`, ...
    pub can: Vec<&'static str>,
}

/// A command that a driver offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandInfo {
    /// Its name.
    pub name: String,
    /// What it does, for people.
    pub help: String,
    /// JSON Schema of what it takes; empty where that is bytes of no stated form.
    pub payload_schema: String,
    /// JSON Schema of what it answers; empty where that is bytes of no stated form.
    pub answer_schema: String,
    /// Whether it may change anything.
    pub changes: bool,
}

/// A link that a driver asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkWish {
    /// The name under which the operator's file grants it.
    pub name: String,
    /// The transports that the driver can use.
    pub kinds: Vec<String>,
    /// Whether the driver is useless without it.
    pub required: bool,
}

/// Why a file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not what it should be.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// It does not compile.
    #[error(
        "{path} does not compile: {reason}; build the driver again, with less where it asks for more than this host gives"
    )]
    Compile {
        /// The file.
        path: PathBuf,
        /// What the compiler says.
        reason: String,
    },
    /// It takes more to compile than it may.
    #[error(
        "{path} takes more than {limit} to compile; build it smaller (strip it, leave out what it does not need), or raise \
         {} if the driver is worth it", .limit.key()
    )]
    CompileLimit {
        /// The file.
        path: PathBuf,
        /// Which limit.
        limit: CompileLimit,
    },
    /// The compiler broke down over it.
    #[error(
        "{path} cannot be compiled: the compiler {how}; report it to Bulkhead's developers with the file, and use another build \
         of the driver until then"
    )]
    CompilerBroke {
        /// The file.
        path: PathBuf,
        /// How the compiler ended.
        how: String,
    },
    /// The host cannot have anything compiled, or does not find what it had compiled. No fault of the file.
    #[error("{path} cannot be loaded, by a fault of the host: {reason}")]
    Host {
        /// The file.
        path: PathBuf,
        /// What failed, and what to do.
        reason: String,
    },
    /// It is a driver for another version of this host.
    #[error(
        "{path} exports {found}, but this host runs {DRIVER_EXPORT}; build the driver with a matching SDK"
    )]
    WrongVersion {
        /// The file.
        path: PathBuf,
        /// What it exports.
        found: String,
    },
    /// It is a component, but no driver.
    #[error(
        "{path} does not export {DRIVER_EXPORT}, so it is no driver (it exports {found}); build it with the SDK's `export!`"
    )]
    NoDriver {
        /// The file.
        path: PathBuf,
        /// What it exports.
        found: String,
    },
    /// It wants something that no driver gets.
    #[error(
        "{path} imports {import}, which this host does not offer; a driver may import bulkhead:channel/log and WASI 0.2 only"
    )]
    UnknownImport {
        /// The file.
        path: PathBuf,
        /// What it wants.
        import: String,
    },
    /// A function has another type than the WIT says.
    #[error("{path} does not fit the WIT: {reason}; build the driver with a matching SDK")]
    WrongSignature {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

impl LoadError {
    fn of_compiler(path: &Path, error: CompileError) -> Self {
        let path = path.to_owned();
        match error {
            CompileError::Refused { reason } => Self::Compile {
                path,
                reason: shown(&reason, MAX_REASON),
            },
            CompileError::Limit { limit } => Self::CompileLimit { path, limit },
            CompileError::Broke { how } => Self::CompilerBroke { path, how },
            CompileError::Host { .. } | CompileError::NotInCache { .. } => Self::Host {
                path,
                reason: error.to_string(),
            },
        }
    }
}

impl Driver {
    /// Reads, verifies, has compiled (or takes from the cache) and links a file. Blocks for as long as compiling takes.
    pub fn load(
        engine: &Engine,
        path: &Path,
        sha256: Option<&[u8; 32]>,
    ) -> Result<Self, LoadError> {
        Self::from_verified(engine, &Verified::read(path, sha256)?)
    }

    /// As [`Driver::load`], from a file that was read and verified before.
    pub fn from_verified(engine: &Engine, file: &Verified) -> Result<Self, LoadError> {
        let path = file.path();
        let Compiled {
            component,
            from_cache,
        } = engine
            .component(file.bytes())
            .map_err(|error| LoadError::of_compiler(path, error))?;
        let imports = check_world(engine, &component, path)?;
        let unfit = |error: wasmtime::Error| LoadError::WrongSignature {
            path: path.to_owned(),
            reason: shown(&format!("{error:#}"), MAX_REASON),
        };
        check_signatures(engine, &component).map_err(unfit)?;
        let pre = link(engine, &component).map_err(unfit)?;
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                digest: *file.digest(),
                size: file.bytes().len() as u64,
                imports,
                engine: engine.clone(),
                symbols: Symbols::default(),
                from_cache,
                pre,
            }),
        })
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The SHA-256 of the file.
    pub fn digest(&self) -> &[u8; 32] {
        &self.inner.digest
    }

    /// The SHA-256 of the file, in hexadecimal.
    pub fn sha256(&self) -> String {
        verify::hex(&self.inner.digest)
    }

    /// The size of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// Whether it had been compiled before.
    pub fn is_from_cache(&self) -> bool {
        self.inner.from_cache
    }

    /// The interfaces that it imports.
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }

    /// The world that it is made for, with its version.
    pub fn world(&self) -> &'static str {
        // `check_world` lets no other in.
        "bulkhead:channel@0.1.0"
    }

    /// What stands at these offsets of the file, one list for each.
    pub(super) async fn symbols(&self, offsets: Vec<usize>) -> Vec<Vec<Frame>> {
        if let Some(known) = self.inner.symbols.known(&offsets) {
            return known;
        }
        let count = offsets.len();
        let inner = self.inner.clone();
        let look_up = move || inner.symbols.look_up(&inner.path, &inner.digest, &offsets);
        match tokio::task::spawn_blocking(look_up).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "source lines could not be looked up");
                vec![Vec::new(); count]
            }
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(super) fn pre(&self) -> &DriverWorldPre<State> {
        &self.inner.pre
    }
}

fn check_world(
    engine: &Engine,
    component: &Component,
    path: &Path,
) -> Result<Vec<String>, LoadError> {
    let component_type = component.component_type();
    let imports: Vec<String> = component_type
        .imports(engine.wasmtime())
        .map(|(name, _)| shown(name, MAX_NAME))
        .collect();
    let exports: Vec<String> = component_type
        .exports(engine.wasmtime())
        .map(|(name, _)| shown(name, MAX_NAME))
        .collect();
    if !exports.iter().any(|name| name == DRIVER_EXPORT) {
        let path = path.to_owned();
        if let Some(found) = exports
            .iter()
            .find(|name| name.starts_with("bulkhead:channel/driver@"))
        {
            return Err(LoadError::WrongVersion {
                path,
                found: found.clone(),
            });
        }
        let found = match exports.as_slice() {
            [] => "nothing".to_owned(),
            some => some.iter().take(8).cloned().collect::<Vec<_>>().join(", "),
        };
        return Err(LoadError::NoDriver { path, found });
    }
    if let Some(import) = imports.iter().find(|name| !is_offered(name)) {
        return Err(LoadError::UnknownImport {
            path: path.to_owned(),
            import: import.clone(),
        });
    }
    Ok(imports)
}

/// wasmtime compares the functions of an exported interface with the WIT only when it instantiates.
fn check_signatures(engine: &Engine, component: &Component) -> wasmtime::Result<()> {
    let engine = engine.wasmtime();
    let component_type = component.component_type();
    let instance_type = component_type.instance_type();
    let export = component_type
        .get_export(engine, DRIVER_EXPORT)
        .map(|item| item.ty);
    let Some(ComponentItem::ComponentInstance(driver)) = export else {
        wasmtime::bail!("its export {DRIVER_EXPORT} is no interface");
    };
    let function = |name: &str| match driver.get_export(engine, name).map(|item| item.ty) {
        Some(ComponentItem::ComponentFunc(function)) => Ok(function),
        _ => Err(wasmtime::format_err!("it has no function `{name}`")),
    };
    function("describe")?
        .typecheck::<(), (config::DriverInfo,)>(&instance_type)
        .map_err(|error| error.context("its function `describe`"))?;
    function("configure")?
        .typecheck::<(&config::ChannelConfig,), (Result<(), Vec<config::ConfigFault>>,)>(
            &instance_type,
        )
        .map_err(|error| error.context("its function `configure`"))?;
    function("turn")?
        .typecheck::<(types::Instant, &[events::Event]), (Result<Vec<actions::Action>, types::Error>,)>(&instance_type)
        .map_err(|error| error.context("its function `turn`"))?;
    Ok(())
}

/// Whether an interface is one that this host has, whatever a guest wants of it.
fn is_offered(import: &str) -> bool {
    const WASI: [&str; 6] = [
        "wasi:cli/",
        "wasi:clocks/",
        "wasi:filesystem/",
        "wasi:io/",
        "wasi:random/",
        "wasi:sockets/",
    ];
    let is_wasi =
        WASI.iter().any(|package| import.starts_with(package)) && import.contains("@0.2.");
    is_wasi || import.starts_with("bulkhead:channel/")
}

fn link(engine: &Engine, component: &Component) -> wasmtime::Result<DriverWorldPre<State>> {
    let mut linker = Linker::<State>::new(engine.wasmtime());
    wasi::add_to_linker(&mut linker)?;
    DriverWorld::add_to_linker::<State, StateData>(&mut linker, |state| state)?;
    DriverWorldPre::new(linker.instantiate_pre(component)?)
}

/// Tells wasmtime that the host functions work on the store's data itself.
struct StateData;

impl wasmtime::component::HasData for StateData {
    type Data<'a> = &'a mut State;
}

impl DriverInfo {
    /// The longest schema or help text, in bytes; longer ones are cut.
    const MAX_TEXT: usize = 256 * 1024;
    /// Longer schemas of a command are cut, and are none any more. There may be 512 of them.
    const MAX_COMMAND_SCHEMA: usize = 16 * 1024;

    pub(super) fn from_abi(info: config::DriverInfo) -> Self {
        let names = [
            (config::Capabilities::READ, "read"),
            (config::Capabilities::WRITE, "write"),
            (config::Capabilities::SUBSCRIBE, "subscribe"),
            (config::Capabilities::BROWSE, "browse"),
            (config::Capabilities::COMMANDS, "commands"),
            (config::Capabilities::SCRIPTED_TIME, "scripted-time"),
        ];
        Self {
            name: shown(&info.name, 64),
            version: shown(&info.version, 64),
            protocol: shown(&info.protocol, 256),
            settings_schema: shown_lines(&info.settings_schema, Self::MAX_TEXT),
            device_schema: shown_lines(&info.device_schema, Self::MAX_TEXT),
            tag_schema: shown_lines(&info.tag_schema, Self::MAX_TEXT),
            address_help: shown_lines(&info.address_help, Self::MAX_TEXT),
            links: info
                .links
                .into_iter()
                .take(64)
                .map(|wish| LinkWish {
                    name: shown(&wish.name, 64),
                    kinds: wish
                        .kinds
                        .into_iter()
                        .take(16)
                        .map(|kind| shown(&kind, 64))
                        .collect(),
                    required: wish.required,
                })
                .collect(),
            commands: info
                .commands
                .into_iter()
                .take(256)
                .map(|command| CommandInfo {
                    name: shown(&command.name, 64),
                    help: shown_lines(&command.help, 4 * 1024),
                    payload_schema: shown_lines(&command.payload_schema, Self::MAX_COMMAND_SCHEMA),
                    answer_schema: shown_lines(&command.answer_schema, Self::MAX_COMMAND_SCHEMA),
                    changes: command.changes,
                })
                .collect(),
            can: names
                .iter()
                .filter(|(flag, _)| info.can.contains(*flag))
                .map(|(_, name)| *name)
                .collect(),
        }
    }
}
