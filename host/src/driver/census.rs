//! How many instances a component is made of, counted before it is compiled.
//!
//! A component may instantiate one within it many times, and that one another: a few hundred bytes can stand for
//! millions of instances. The compiler lays all of them out one by one, so the count comes first.
//!
//! The file has been validated before.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Encoding, Instance, Parser, Payload,
};

/// The most instances, of components and of core modules, that a driver may be made of.
pub(super) const MAX_INSTANCES: u64 = 1000;

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub(super) enum CensusError {
    /// A component that is handed in could stand for anything.
    #[error("it instantiates a component that it does not define itself")]
    Unknown,
    /// It does not parse.
    #[error(transparent)]
    Malformed(#[from] BinaryReaderError),
}

/// A component or module that is being read.
#[derive(Default)]
struct Level {
    is_component: bool,
    /// For each component that can be named here: how many instances one of it is made of, itself included.
    known: Vec<Option<u64>>,
    instances: u64,
}

/// Counts the instances of a component, itself included; stops at `u64::MAX`.
pub(super) fn count(bytes: &[u8]) -> Result<u64, CensusError> {
    let mut levels: Vec<Level> = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if let Payload::Version { encoding, .. } = payload {
            levels.push(Level {
                is_component: encoding == Encoding::Component,
                instances: 1,
                ..Level::default()
            });
            continue;
        }
        let Some((level, outer)) = levels.split_last_mut() else {
            continue;
        };
        match payload {
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    if matches!(import?.ty, ComponentTypeRef::Component(_)) {
                        level.known.push(None);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    match alias? {
                        ComponentAlias::Outer {
                            kind: ComponentOuterAliasKind::Component,
                            count,
                            index,
                        } => {
                            let found = match (count as usize).checked_sub(1) {
                                None => level.find(index),
                                Some(up) => outer
                                    .iter()
                                    .rev()
                                    .nth(up)
                                    .and_then(|level| level.find(index)),
                            };
                            level.known.push(found);
                        }
                        ComponentAlias::InstanceExport {
                            kind: ComponentExternalKind::Component,
                            ..
                        } => {
                            level.known.push(None);
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Component {
                        level.known.push(level.find(export.index));
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    if let ComponentInstance::Instantiate {
                        component_index, ..
                    } = instance?
                    {
                        let within = level.find(component_index).ok_or(CensusError::Unknown)?;
                        level.instances = level.instances.saturating_add(within);
                    }
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    if let Instance::Instantiate { .. } = instance? {
                        level.instances = level.instances.saturating_add(1);
                    }
                }
            }
            Payload::End(_) => {
                let (is_component, instances) = (level.is_component, level.instances);
                levels.pop();
                match levels.last_mut() {
                    Some(outer) if is_component => outer.known.push(Some(instances)),
                    Some(_) => {}
                    None => return Ok(instances),
                }
            }
            _ => {}
        }
    }
    // A validated file ends its outermost component.
    Err(CensusError::Unknown)
}

impl Level {
    fn find(&self, index: u32) -> Option<u64> {
        self.known.get(index as usize).copied().flatten()
    }
}
