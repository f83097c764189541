//! What the node says to the Seed. Never waits for it: where the link is full or gone, another one brings up to date.

use protoplex_seed_client::LinkSender;
use protoplex_wire::link::{FromNode, Heartbeat};

/// The sending end of a link to the Seed.
pub(crate) trait SeedLink: Send {
    /// Leaves a message in the link's queue. Returns whether there was room.
    fn try_send(&self, message: &FromNode) -> bool;
}

impl SeedLink for LinkSender {
    fn try_send(&self, message: &FromNode) -> bool {
        LinkSender::try_send(self, message)
    }
}

/// The node's word to the Seed, over the link that stands at the moment.
#[derive(Default)]
pub(crate) struct SeedVoice {
    link: Option<Box<dyn SeedLink>>,
    /// What the Seed should have heard of whether some child serves.
    said_serving: bool,
}

impl SeedVoice {
    pub(crate) fn connected(&mut self, link: impl SeedLink + 'static) {
        self.link = Some(Box::new(link));
    }

    pub(crate) fn lost(&mut self) {
        self.link = None;
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    pub(crate) fn tell(&mut self, message: FromNode) {
        if let Some(link) = &self.link
            && !link.try_send(&message)
        {
            tracing::warn!("the link to the Seed is full, or gone; another one is made");
            self.link = None;
        }
    }

    /// Tells a heartbeat at once, if the first child has begun to serve or the last one has ceased to. Clients are on
    /// their way by the directory, or should be: the next beat is too late for them.
    pub(crate) fn tell_serving(&mut self, heartbeat: Heartbeat) {
        let serves = heartbeat.children_ready > 0;
        if std::mem::replace(&mut self.said_serving, serves) != serves {
            self.tell(FromNode::Heartbeat(heartbeat));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{RecordedLink, said};

    fn heartbeat(children_ready: u32) -> Heartbeat {
        Heartbeat {
            children_ready,
            ..Heartbeat::default()
        }
    }

    #[test]
    fn a_heartbeat_out_of_turn_follows_only_a_change_of_service() {
        let (link, mut messages) = RecordedLink::new(9);
        let mut seed = SeedVoice::default();
        seed.connected(link);
        for children_ready in [0, 1, 2, 1, 0, 0] {
            seed.tell_serving(heartbeat(children_ready));
        }
        let expected = [1, 0].map(|ready| FromNode::Heartbeat(heartbeat(ready)));
        assert_eq!(said(&mut messages), expected);
    }

    #[test]
    fn a_link_that_is_full_is_given_up() {
        let (link, mut messages) = RecordedLink::new(1);
        let mut seed = SeedVoice::default();
        seed.tell(FromNode::Leaving);
        seed.connected(link);
        assert!(seed.is_connected());
        (0..2).for_each(|_| seed.tell(FromNode::Leaving));
        assert!(!seed.is_connected());
        seed.tell(FromNode::Leaving);
        assert_eq!(said(&mut messages), [FromNode::Leaving]);
    }
}
