//! What an incarnation does with requests whose link is down: it lets them wait, and go on in order once the link is up.
//!
//! A request waits where no connection gets through to its device, and the host is dialling one: over the device's own link, or, where
//! it names none, over those that the driver requires (over all, if it requires none). A read of several devices waits only if
//! none of them can be reached; a command, which has no device, as a device without a link does. Where the driver has no
//! connection at all, nobody dials: then it gets the request, and says what it makes of it.

use std::sync::Arc;

use super::connections::Way;
use super::incarnation::Incarnation;
use super::mailbox::{Ask, Request, Stayed};
use super::pending::MAX_PENDING;
use super::shared::raise;
use super::waiting::Obstacle;
use crate::config::WhileDown;
use crate::event::MonotonicNs;
use crate::ids::{LinkId, TagId};

impl Incarnation<'_> {
    /// Takes a request that must wait, or be refused, since its link is down; gives back any other.
    pub(super) fn wait_for_link(&self, request: Request) -> Option<Request> {
        let Some(link) = self.cut_off(&request.ask) else {
            return Some(request);
        };
        let requests = self.shared.config().requests;
        let obstacle = || Obstacle {
            link,
            name: self.link_name(link).to_owned(),
            why: self.why_down(link),
        };
        match requests.while_down {
            WhileDown::Wait if self.connections.gave_up(link) => {
                request.answer(Err(obstacle().refusal(Stayed::GaveUp)));
            }
            WhileDown::Pass => return Some(request),
            WhileDown::Refuse => request.answer(Err(obstacle().refusal(Stayed::Refused))),
            WhileDown::Wait => {
                raise(&self.shared.counters.waited, 1);
                self.shared
                    .waiting()
                    .push(request, obstacle(), requests.waiting);
            }
        }
        None
    }

    /// Hands those that waited to the driver, as far as their links are up and the batch has room. Before any request that
    /// came later.
    pub(super) fn let_go_on(&mut self, now: MonotonicNs) {
        while self.may_go_on
            && self.stopping.is_none()
            && self.has_room()
            && self.pending.len() < MAX_PENDING
        {
            let waiting = self.shared.waiting();
            match waiting.take_first(|ask| self.cut_off(ask).is_none()) {
                // Whoever asked has gone.
                Some(request) if request.reply.is_closed() => {}
                Some(request) => self.dispatch(request, now),
                None => self.may_go_on = false,
            }
        }
    }

    /// The link that a request has to wait for, if any.
    fn cut_off(&self, ask: &Ask) -> Option<LinkId> {
        if self.links_down.iter().all(Option::is_none) {
            return None;
        }
        match ask {
            Ask::Write { tag, .. } => self.no_way_to(*tag),
            Ask::Read(tags) => {
                let mut ways = tags.iter().map(|tag| self.no_way_to(*tag));
                let first = ways.next().flatten()?;
                ways.all(|link| link.is_some()).then_some(first)
            }
            Ask::Command { .. } => self.no_way(),
        }
    }

    fn no_way_to(&self, tag: TagId) -> Option<LinkId> {
        let config = self.shared.config();
        let device = config.tags.get(tag.index())?.device;
        match config.devices.get(device.index())?.link {
            Some(link) => (self.connections.way(link) == Way::Dialled).then_some(link),
            None => self.no_way(),
        }
    }

    /// The first of the links that lead to whatever names none, if no connection gets through any of them.
    fn no_way(&self) -> Option<LinkId> {
        let mut dialled = None;
        let all = (0u32..).take(self.links_down.len()).map(LinkId);
        let leading = all.filter(|link| self.required.is_empty() || self.required.contains(link));
        for link in leading {
            match self.connections.way(link) {
                Way::Open => return None,
                Way::Dialled => dialled = dialled.or(Some(link)),
                Way::Unused => {}
            }
        }
        dialled
    }

    fn why_down(&self, link: LinkId) -> Arc<str> {
        let down = self.links_down.get(link.index()).cloned().flatten();
        down.unwrap_or_else(|| self.dialled(link))
    }

    /// Why a link is down that was not up before.
    pub(super) fn dialled(&self, link: LinkId) -> Arc<str> {
        format!("link {} is down: it is being dialled", self.link_name(link)).into()
    }

    /// As the operator calls it.
    pub(super) fn link_name(&self, link: LinkId) -> &str {
        let links = &self.shared.config().links;
        links
            .get(link.index())
            .map_or("?", |link| link.name.as_str())
    }
}
