//! The plant that a driver is tried with: a configuration, and what its peers know.
//!
//! Best it is written down by somebody who knows the protocol, as the head of a script. Without one it is made up from what the
//! driver says of itself: a link of the first kind for each wish, and tags for those words of its address help that it takes.

use std::collections::BTreeMap;

use super::peer::Reply;
use super::script::Section;
use super::stage::{beginning, spec};
use crate::bindings::config::{ChannelConfig, Device, Group, Link, Tag};
use crate::bindings::types::Value;
use crate::driver::{Driver, DriverInfo, Instance};
use crate::event::{DataType, Scalar};

/// The most tags that are made up.
const MAX_TAGS: usize = 3;
/// The most words of an address help that are tried.
const MAX_WORDS: usize = 48;

/// A configuration with its peers.
#[derive(Clone, Debug)]
pub struct Plant {
    /// What the driver is given.
    pub config: ChannelConfig,
    /// What the peer of every link answers.
    pub replies: Vec<Reply>,
    /// What is written to a tag; others are written what their type suggests.
    pub values: BTreeMap<u32, Value>,
    /// What commands are given; others are given nothing.
    pub payloads: BTreeMap<String, Vec<u8>>,
    /// What may be imported besides.
    pub imports: Vec<String>,
    /// Where it comes from, for people.
    pub source: String,
}

impl Plant {
    /// The plant of a script.
    pub fn of(section: &Section, source: String) -> Self {
        let section = section.clone().complete();
        let values = section
            .values
            .iter()
            .filter_map(|(name, value)| Some((section.tag(name).ok()?, value.clone())));
        Self {
            config: section.config(),
            values: values.collect(),
            payloads: section
                .payloads
                .iter()
                .map(|(name, payload)| (name.clone(), payload.clone().into_bytes()))
                .collect(),
            replies: section.replies,
            imports: section.imports,
            source,
        }
    }

    /// One made up from the driver's own words.
    pub async fn derived(driver: &Driver, info: &DriverInfo, memory: u64) -> Self {
        let mut plant = Self {
            config: empty(info),
            replies: Vec::new(),
            values: BTreeMap::new(),
            payloads: BTreeMap::new(),
            imports: Vec::new(),
            source:
                "the driver's description; a script in its `conformance` folder would know more"
                    .to_owned(),
        };
        let words = info
            .address_help
            .split(|character: char| character.is_whitespace() || character == ',');
        let words = words
            .map(|word| word.trim_matches([';', '`', '"', '.']))
            .filter(|word| !word.is_empty());
        let mut tried = Vec::new();
        for word in words.chain(["0", "1", "a"]) {
            if plant.config.tags.len() == MAX_TAGS || tried.len() == MAX_WORDS {
                break;
            }
            if tried.contains(&word) {
                continue;
            }
            tried.push(word);
            for (data_type, writable) in [
                ("float64", true),
                ("uint16", true),
                ("bool", true),
                ("string", true),
                ("float64", false),
                ("bool", false),
            ] {
                let mut config = plant.config.clone();
                add(&mut config, word, data_type, writable);
                if takes(driver, &config, memory).await {
                    plant.config = config;
                    break;
                }
            }
        }
        plant
    }

    /// What is written to a tag.
    pub fn value(&self, tag: &Tag) -> Option<Value> {
        if let Some(value) = self.values.get(&tag.id) {
            return Some(value.clone());
        }
        let data_type = DataType::parse(&tag.data_type)?;
        let count = data_type.elements.map(|count| count as usize);
        Some(match (data_type.scalar, count) {
            (Scalar::Bool, None) => Value::Boolean(true),
            (Scalar::Bool, Some(count)) => Value::Booleans(vec![true; count]),
            (Scalar::String, None) => Value::Text("a".to_owned()),
            (Scalar::String, Some(count)) => Value::Texts(vec!["a".to_owned(); count]),
            (Scalar::Bytes, _) => Value::Bytes(vec![1]),
            (Scalar::Float32 | Scalar::Float64, None) => Value::Float(1.0),
            (Scalar::Float32 | Scalar::Float64, Some(count)) => Value::Floats(vec![1.0; count]),
            (scalar, count) => {
                let is_signed = scalar.integer_range().is_some_and(|(least, _)| least < 0);
                match (is_signed, count) {
                    (true, None) => Value::Int(1),
                    (false, None) => Value::Uint(1),
                    (true, Some(count)) => Value::Ints(vec![1; count]),
                    (false, Some(count)) => Value::Uints(vec![1; count]),
                }
            }
        })
    }

    /// The tags that can be written.
    pub fn writable(&self) -> impl Iterator<Item = &Tag> {
        self.config.tags.iter().filter(|tag| tag.writable)
    }
}

fn empty(info: &DriverInfo) -> ChannelConfig {
    let links = (0..).zip(&info.links).map(|(id, wish)| Link {
        id,
        name: wish.name.clone(),
        kind: wish
            .kinds
            .first()
            .cloned()
            .unwrap_or_else(|| "tcp".to_owned()),
        listens: false,
    });
    ChannelConfig {
        name: "conform".to_owned(),
        settings: "{}".to_owned(),
        links: links.collect(),
        devices: vec![Device {
            id: 0,
            name: "device".to_owned(),
            address: String::new(),
            settings: "{}".to_owned(),
            link: None,
        }],
        groups: vec![Group {
            id: 0,
            name: "all".to_owned(),
            period_ns: 1_000_000_000,
            tags: Vec::new(),
        }],
        tags: Vec::new(),
    }
}

fn add(config: &mut ChannelConfig, address: &str, data_type: &str, writable: bool) {
    let id = u32::try_from(config.tags.len()).unwrap_or(u32::MAX);
    config.tags.push(Tag {
        id,
        device: 0,
        name: format!("tag-{id}"),
        address: address.to_owned(),
        data_type: data_type.to_owned(),
        readable: true,
        writable,
        settings: "{}".to_owned(),
    });
    if let Some(group) = config.groups.first_mut() {
        group.tags.push(id);
    }
}

async fn takes(driver: &Driver, config: &ChannelConfig, memory: u64) -> bool {
    let now = beginning();
    let Ok(instance) = Instance::start(driver, spec(7, memory, 1), now).await else {
        return false;
    };
    matches!(instance.configure(config, now).await, Ok((_, Ok(()))))
}
