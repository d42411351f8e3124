//! What a component is made of, counted before it is compiled: instances, memories, tables.
//!
//! A component may instantiate one within it many times, and that one another: a few hundred bytes can stand for
//! millions of instances. The compiler lays all of them out one by one, so the count comes first. Memories and tables are
//! slots of the engine's pool, which is made as large as the configured drivers need.
//!
//! The file has been validated before.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Encoding, Instance, Parser, Payload,
};

use crate::limits::{MEMORIES, TABLES};

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

/// What one instance of a component or module is made of, what is within it included. Each stops at its type's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Instances of components and of core modules.
    pub instances: u64,
    /// Memories that they define.
    pub memories: u64,
    /// Tables that they define.
    pub tables: u64,
    /// The bytes that their memories begin with.
    pub memory_bytes: u64,
}

impl Census {
    const ONE: Self = Self {
        instances: 1,
        memories: 0,
        tables: 0,
        memory_bytes: 0,
    };
    /// A module from elsewhere, which could be anything: as much as a whole component may have.
    const ANY_MODULE: Self = Self {
        instances: 1,
        memories: MEMORIES as u64,
        tables: TABLES as u64,
        memory_bytes: 0,
    };

    fn add(&mut self, other: Self) {
        self.instances = self.instances.saturating_add(other.instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
    }
}

/// A component or module that is being read.
struct Level {
    is_component: bool,
    /// For each component that can be named here, what one of it is made of.
    components: Vec<Option<Census>>,
    /// For each core module that can be named here.
    modules: Vec<Census>,
    made_of: Census,
}

/// Counts what a component is made of, itself included.
pub(super) fn count(bytes: &[u8]) -> Result<Census, CensusError> {
    let mut levels: Vec<Level> = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if let Payload::Version { encoding, .. } = payload {
            levels.push(Level {
                is_component: encoding == Encoding::Component,
                components: Vec::new(),
                modules: Vec::new(),
                made_of: Census::ONE,
            });
            continue;
        }
        let Some((level, outer)) = levels.split_last_mut() else {
            continue;
        };
        match payload {
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    match import?.ty {
                        ComponentTypeRef::Component(_) => level.components.push(None),
                        ComponentTypeRef::Module(_) => level.modules.push(Census::ANY_MODULE),
                        _ => {}
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    level.alias(&alias?, outer);
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    match export.kind {
                        ComponentExternalKind::Component => {
                            level.components.push(level.component(export.index));
                        }
                        ComponentExternalKind::Module => {
                            level.modules.push(level.module(export.index));
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    if let ComponentInstance::Instantiate {
                        component_index, ..
                    } = instance?
                    {
                        let within = level.component(component_index);
                        level.made_of.add(within.ok_or(CensusError::Unknown)?);
                    }
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        level.made_of.add(level.module(module_index));
                    }
                }
            }
            Payload::MemorySection(memories) => {
                level.made_of.memories += u64::from(memories.count());
                for memory in memories {
                    let memory = memory?;
                    let page = 1_u64 << memory.page_size_log2.unwrap_or(16).min(16);
                    let bytes = memory.initial.saturating_mul(page);
                    level.made_of.memory_bytes = level.made_of.memory_bytes.saturating_add(bytes);
                }
            }
            Payload::TableSection(tables) => level.made_of.tables += u64::from(tables.count()),
            Payload::End(_) => {
                let (is_component, made_of) = (level.is_component, level.made_of);
                levels.pop();
                match levels.last_mut() {
                    Some(outer) if is_component => outer.components.push(Some(made_of)),
                    Some(outer) => outer.modules.push(made_of),
                    None => return Ok(made_of),
                }
            }
            _ => {}
        }
    }
    // A validated file ends its outermost component.
    Err(CensusError::Unknown)
}

impl Level {
    fn component(&self, index: u32) -> Option<Census> {
        self.components.get(index as usize).copied().flatten()
    }

    fn module(&self, index: u32) -> Census {
        let found = self.modules.get(index as usize).copied();
        found.unwrap_or(Census::ANY_MODULE)
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>, outer: &[Level]) {
        match *alias {
            ComponentAlias::Outer { kind, count, index } => {
                let from = match (count as usize).checked_sub(1) {
                    None => Some(&*self),
                    Some(up) => outer.iter().rev().nth(up),
                };
                match kind {
                    ComponentOuterAliasKind::Component => {
                        let found = from.and_then(|level| level.component(index));
                        self.components.push(found);
                    }
                    ComponentOuterAliasKind::CoreModule => {
                        let found = from.map_or(Census::ANY_MODULE, |level| level.module(index));
                        self.modules.push(found);
                    }
                    _ => {}
                }
            }
            ComponentAlias::InstanceExport { kind, .. } => match kind {
                ComponentExternalKind::Component => self.components.push(None),
                ComponentExternalKind::Module => self.modules.push(Census::ANY_MODULE),
                _ => {}
            },
            ComponentAlias::CoreInstanceExport { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, instances: u64, memories: u64, tables: u64) {
        let found = count(&wat::parse_str(text).unwrap()).unwrap();
        let expected = Census {
            instances,
            memories,
            tables,
            memory_bytes: found.memory_bytes,
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_is_instantiated_counts_as_often_as_it_is() {
        check("(component)", 1, 0, 0);
        let module = "(core module $m (memory 1) (memory 1) (table 1 funcref))";
        check(&format!("(component {module})"), 1, 0, 0);
        let twice = "(core instance (instantiate $m)) (core instance (instantiate $m))";
        check(&format!("(component {module} {twice})"), 3, 4, 2);
        check(
            &format!(
                "(component (component $c {module} {twice}) (instance (instantiate $c)) (instance (instantiate $c)))"
            ),
            7,
            8,
            4,
        );
    }

    #[test]
    fn memories_begin_with_what_they_say() {
        let begins = |text: &str| count(&wat::parse_str(text).unwrap()).unwrap().memory_bytes;
        let module = "(core module $m (memory 3 100) (memory 0))";
        let once = "(core instance (instantiate $m))";
        assert_eq!(begins(&format!("(component {module})")), 0);
        assert_eq!(begins(&format!("(component {module} {once})")), 3 << 16);
        assert_eq!(
            begins(&format!("(component {module} {once} {once})")),
            6 << 16
        );
    }

    #[test]
    fn modules_are_known_by_other_names_too() {
        let module = r#"(core module $m (memory 1) (table 1 funcref))"#;
        check(
            &format!(
                "(component {module} (component $c (alias outer 1 $m (core module $n)) (core instance (instantiate $n))) (instance (instantiate $c)))"
            ),
            3,
            1,
            1,
        );
        check(
            &format!(
                r#"(component {module} (export $e "e" (core module $m)) (core instance (instantiate $e)))"#
            ),
            2,
            1,
            1,
        );
        // What is handed in could be anything that a component may have.
        check(
            &format!(
                r#"(component {module} (component $c (import "m" (core module $n)) (core instance (instantiate $n)))
                    (instance (instantiate $c (with "m" (core module $m)))))"#
            ),
            3,
            u64::from(MEMORIES),
            u64::from(TABLES),
        );
        // Imported ones belong to whoever defines them.
        check(
            r#"(component (core module $a (memory (export "m") 1)) (core instance $i (instantiate $a))
                (core module $b (import "i" "m" (memory 1))) (core instance (instantiate $b (with "i" (instance $i)))))"#,
            3,
            1,
            0,
        );
    }
}
