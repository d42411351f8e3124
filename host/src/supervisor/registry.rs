//! The channels that there are: a list that is replaced whole, so that whoever looks at it sees one moment of it.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::handle::ChannelHandle;

/// The channels of one moment, in the order of the file.
#[derive(Default)]
pub struct Channels {
    all: Vec<Arc<ChannelHandle>>,
    by_name: Arc<HashMap<String, usize>>,
    /// Given when it takes the place of the one before.
    generation: u64,
}

impl Channels {
    fn new(all: Vec<Arc<ChannelHandle>>) -> Self {
        let names = all.iter().enumerate();
        let by_name = names.map(|(place, channel)| (channel.id().to_string(), place));
        Self {
            by_name: Arc::new(by_name.collect()),
            all,
            generation: 0,
        }
    }

    /// Counts the lists that there have been. While it is the same, every channel and every tag has its place.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The channel of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<ChannelHandle>> {
        self.all.get(self.position(name)?)
    }

    /// Where the channel of this name stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

impl Deref for Channels {
    type Target = [Arc<ChannelHandle>];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<'a> IntoIterator for &'a Channels {
    type Item = &'a Arc<ChannelHandle>;
    type IntoIter = std::slice::Iter<'a, Arc<ChannelHandle>>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

/// The list that holds now. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Registry(Arc<RwLock<Arc<Channels>>>);

/// The list, as long as somebody else holds it.
pub(super) struct WeakRegistry(Weak<RwLock<Arc<Channels>>>);

impl WeakRegistry {
    /// The channels of this moment, if there is still a host.
    pub(super) fn now(&self) -> Option<Arc<Channels>> {
        self.0.upgrade().map(|list| Registry(list).now())
    }
}

impl Registry {
    /// The list, without holding it: the channels hold the host's store.
    pub(super) fn weak(&self) -> WeakRegistry {
        WeakRegistry(Arc::downgrade(&self.0))
    }

    /// The channels of this moment.
    pub(super) fn now(&self) -> Arc<Channels> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on there are these.
    pub(super) fn set(&self, all: Vec<Arc<ChannelHandle>>) {
        self.put(Channels::new(all));
    }

    /// In the place of the channel of the same name there is this one.
    pub(super) fn replace(&self, channel: Arc<ChannelHandle>) {
        let now = self.now();
        let mut all = now.to_vec();
        if let Some(place) = now.position(channel.id().as_str())
            && let Some(known) = all.get_mut(place)
        {
            *known = channel;
        }
        self.put(Channels {
            all,
            by_name: now.by_name.clone(),
            generation: 0,
        });
    }

    fn put(&self, channels: Channels) {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let generation = now.generation + 1;
        *now = Arc::new(Channels {
            generation,
            ..channels
        });
    }
}
