//! Frames from other children.

use super::{Effects, Mesh, held::HeldFrame};
use crate::{Child, Frame, frame::Body};
use std::sync::Arc;

impl<T: Copy, R> Mesh<T, R> {
    /// There is a link to a child. Until [`Mesh::unlinked`], what either side sends comes in order.
    pub fn linked(&mut self, now_ms: u64, child: Child) -> Effects<T> {
        self.context.links.linked(child);
        // First what it may have to take over, then what it is asked of that.
        self.offer(now_ms);
        for channel in self.channels.values_mut() {
            channel.pull(&mut self.context, now_ms);
            channel.ask_at_once(&mut self.context, now_ms);
        }
        self.effects(now_ms)
    }

    /// The link to a child broke; what was under way may be lost.
    pub fn unlinked(&mut self, now_ms: u64, child: Child) -> Effects<T> {
        self.context.links.unlinked(child);
        self.held.forget(child);
        self.offers.unlinked(child);
        for channel in self.channels.values_mut() {
            channel.unlinked(&mut self.context, now_ms, child);
        }
        self.effects(now_ms)
    }

    /// A child's process is dead, and all that it had is lost.
    pub fn gone(&mut self, now_ms: u64, child: Child) -> Effects<T> {
        let origin = self.context.links.gone(child);
        self.context.directory.gone(now_ms, child);
        self.held.forget(child);
        self.offers.gone(child);
        for channel in self.channels.values_mut() {
            channel.gone(&mut self.context, now_ms, child, origin);
        }
        self.offer(now_ms);
        self.effects(now_ms)
    }

    /// A frame came by the link to a child.
    pub fn received(&mut self, now_ms: u64, child: Child, frame: Frame) -> Effects<T> {
        if self.context.links.is_up(child) {
            self.context.links.set_origin(child, frame.origin);
            self.process(now_ms, now_ms, child, frame);
        }
        self.effects(now_ms)
    }

    /// Processes a frame that came now, or since `since_ms` waited for a newer directory.
    pub(super) fn process(&mut self, now_ms: u64, since_ms: u64, child: Child, frame: Frame) {
        match frame.body {
            Body::Subscribe { .. }
            | Body::Unsubscribe { .. }
            | Body::Here { .. }
            | Body::Member { .. }
            | Body::Recover { .. }
            | Body::Members { .. }
            | Body::Publish { .. } => self.asked(now_ms, since_ms, child, frame),
            Body::Subscribed { .. }
            | Body::Message { .. }
            | Body::Presence(_)
            | Body::Recovered { .. }
            | Body::MembersAre { .. }
            | Body::Published { .. }
            | Body::Moved => match self.channels.get_mut(&frame.channel) {
                Some(channel) => channel.receive(&mut self.context, now_ms, child, frame.body),
                None if matches!(frame.body, Body::Message { .. } | Body::Presence(_)) => {
                    // Nobody here looks at it any more.
                    let stays = false;
                    let name = &frame.channel;
                    self.context.send(child, name, Body::Unsubscribe { stays });
                }
                None => {}
            },
            Body::Pull { .. }
            | Body::Nothing
            | Body::Elsewhere
            | Body::Handover(_)
            | Body::Taken { .. }
            | Body::Declined { .. } => self.moves(now_ms, since_ms, child, frame),
        }
    }

    /// A child asks this one as the owner of a channel.
    fn asked(&mut self, now_ms: u64, since_ms: u64, child: Child, frame: Frame) {
        let name = Arc::clone(&frame.channel);
        let waits = self.held.has(child, &name);
        if !waits {
            let begins = matches!(
                frame.body,
                Body::Subscribe { .. }
                    | Body::Recover { .. }
                    | Body::Members { .. }
                    | Body::Publish { .. }
            );
            let directory = &self.context.directory;
            if begins
                && !self.channels.contains_key(&name)
                && directory.owner(&name) == Some(directory.me)
            {
                // Without rules for it, it is as if it were elsewhere: a build that has them may be on its way.
                drop(self.channel(now_ms, &name));
            }
            if let Some(channel) = self.channels.get_mut(&name)
                && channel.asked(&mut self.context, now_ms, child, &frame)
            {
                return;
            }
        }
        let ahead = frame.version > self.context.directory.version;
        let ends = matches!(frame.body, Body::Unsubscribe { .. });
        if (waits || ahead && !ends) && self.held.has_room(&frame) {
            self.held.push(HeldFrame {
                since_ms,
                child,
                frame,
            });
        } else if !ends {
            self.context.send(child, &name, Body::Moved);
        }
    }

    /// Processes the frames that waited for a newer directory.
    pub(super) fn process_held(&mut self, now_ms: u64) {
        for waits in self.held.take() {
            self.process(now_ms, waits.since_ms, waits.child, waits.frame);
        }
    }

    pub(super) fn expire_held(&mut self, now_ms: u64) {
        while let Some(late) = self.held.late(now_ms) {
            let name = late.frame.channel;
            let answer = match late.frame.body {
                Body::Handover(handover) => Body::Declined {
                    epoch: handover.position.epoch,
                    moves: handover.moves,
                },
                _ => Body::Moved,
            };
            self.context.send(late.child, &name, answer);
        }
    }
}
