//! What a reader can rebuild from the messages, and a broker that is told each step of what to do.

mod broker;
mod messages;

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::{MqttVersion, Qos, TopicPart};
use crate::event::{Batch, Layout, Quality, Sample, TagNames, Value, WallNs};
use crate::ids::{ChannelId, InstanceId, TagId};

/// Tags `a` to `d`: the first two of one group, the third of another device, the fourth in no group.
fn layout() -> Arc<Layout> {
    let tag = |name, device, group| TagNames {
        name,
        unit: "",
        device,
        group,
    };
    Arc::new(Layout {
        channel: ChannelId::new("press").unwrap(),
        devices: ["plc".into(), "drive".into()].into(),
        groups: ["fast".into()].into(),
        tags: [
            tag("a", 0, Some(0)),
            tag("b\"ü", 0, Some(0)),
            tag("c", 1, Some(0)),
            tag("d", 0, None),
        ]
        .into_iter()
        .collect(),
    })
}

fn sample(tag: u32, value: Value) -> Sample {
    Sample {
        tag: TagId(tag),
        value: Some(value),
        quality: Quality::Good,
        source_time: None,
    }
}

fn batch(sequence: u64, samples: Vec<Sample>) -> Batch {
    let layout = layout();
    Batch {
        instance: Arc::new(InstanceId {
            channel: layout.channel.clone(),
            incarnation: 1,
        }),
        layout,
        epoch: 7,
        sequence,
        offsets: None,
        server_time: WallNs(1_784_379_600_000_000_001),
        samples,
    }
}

fn item(sequence: u64, samples: Vec<Sample>) -> Item {
    Item::Batch(Arc::new(batch(sequence, samples)))
}

fn sink() -> MqttSink {
    MqttSink {
        host: "127.0.0.1".to_owned(),
        port: 0,
        tls: None,
        version: MqttVersion::V5,
        client_id: None,
        folder: PathBuf::from("/"),
        username: None,
        password: None,
        keep_alive: Duration::from_secs(30),
        clean_session: true,
        qos: Qos::AtLeastOnce,
        in_flight: 100,
        prefix: "bulkhead".to_owned(),
        topic: vec![
            TopicPart::Text("bulkhead/".to_owned()),
            TopicPart::Channel,
            TopicPart::Text("/".to_owned()),
            TopicPart::Group,
        ],
        retain: false,
        max_payload: 256 << 10,
        status: false,
        writes: None,
    }
}
