//! Services of an owner to the children that mirror its channel or publish to it.

use super::{Channel, MeshContext, Role};
use crate::{
    Child, Frame, Refusal,
    frame::Body,
    limits::{PULLED_BYTES_MAX, PULLED_FRAMES_MAX},
    requests::Request,
};
use std::sync::Arc;

impl<T: Copy> Channel<T> {
    /// Another child asks for something: the owner serves it, and one that is to be the owner queues it. `false` where
    /// this is neither.
    pub fn asked<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        child: Child,
        frame: &Frame,
    ) -> bool {
        match &mut self.role {
            Role::Owner(_) => self.serve(context, now_ms, child, frame),
            Role::Away(_) => return false,
            Role::Pulling(pulling) => {
                let bytes = frame.bytes();
                if pulling.queue.len() >= PULLED_FRAMES_MAX
                    || context.pulled_bytes + bytes > PULLED_BYTES_MAX
                {
                    match frame.body {
                        Body::Publish { number, .. } => {
                            let answer = Err(Refusal::Unavailable);
                            let published = Body::Published { number, answer };
                            context.send(child, &self.local.name, published);
                        }
                        _ => context.send(child, &self.local.name, Body::Moved),
                    }
                } else {
                    context.pulled_bytes += bytes;
                    pulling.queue.push_back((child, frame.clone()));
                }
            }
        }
        true
    }

    pub(super) fn serve<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        child: Child,
        frame: &Frame,
    ) {
        let Role::Owner(owned) = &mut self.role else {
            return;
        };
        let (local, origin) = (&self.local, frame.origin);
        match &frame.body {
            Body::Subscribe {
                serial,
                from,
                members,
                others,
            } => {
                // The answer carries them.
                owned.not_mirrored_by(child);
                let mut changes = owned.presence.report_all(now_ms, origin, members);
                if from.is_some_and(|from| from.epoch != owned.epoch()) {
                    // The owner before is dead, and may have been the only one to know of those.
                    let expected = others
                        .iter()
                        .filter_map(|m| owned.presence.expect(now_ms, m));
                    changes.extend(expected);
                }
                owned.announce(local, context, changes);
                owned.mirror(now_ms, child);
                let subscribed = Body::Subscribed {
                    serial: *serial,
                    position: owned.ring.position(),
                    missed: owned.since(now_ms, *from),
                    members: owned.presence.members(),
                };
                context.send(child, &local.name, subscribed);
            }
            Body::Unsubscribe { stays } => {
                owned.not_mirrored_by(child);
                if !stays {
                    owned.presence.report_all(now_ms, origin, &[]);
                }
            }
            Body::Here { members } => {
                if !owned.is_mirrored_by(now_ms, child) {
                    return context.send(child, &local.name, Body::Moved);
                }
                let changes = owned.presence.report_all(now_ms, origin, members);
                owned.announce(local, context, changes);
            }
            Body::Member { member, here: true } => {
                let change = owned.presence.report(now_ms, origin, member);
                owned.announce(local, context, change);
            }
            Body::Member { member, .. } => owned.presence.gone(now_ms, origin, member),
            Body::Recover { request, from } => {
                let recovered = Body::Recovered {
                    request: *request,
                    position: owned.ring.position(),
                    missed: owned.since(now_ms, Some(*from)),
                };
                context.send(child, &local.name, recovered);
            }
            Body::Members { request } => {
                let (request, members) = (*request, owned.presence.members());
                context.send(child, &local.name, Body::MembersAre { request, members });
            }
            Body::Publish { .. } => self.publish_for(context, now_ms, child, frame),
            _ => {}
        }
    }

    fn publish_for<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        child: Child,
        frame: &Frame,
    ) {
        let Role::Owner(owned) = &mut self.role else {
            return;
        };
        let Body::Publish {
            number,
            settled,
            key,
            data,
        } = &frame.body
        else {
            return;
        };
        let (bytes, max) = (data.len(), self.local.rules.message_bytes_max);
        let answer = match owned.requests.came(now_ms, frame.origin, *number, *settled) {
            Request::Late => return,
            Request::Again(answer) => Ok(answer),
            Request::New if bytes > max => Err(Refusal::TooLarge { bytes, max }),
            Request::New => {
                let (local, data) = (&self.local, data.clone());
                let answer = owned.publish(local, context, now_ms, data, key.as_deref());
                owned.requests.answered(frame.origin, *number, answer);
                Ok(answer)
            }
        };
        let number = *number;
        let published = Body::Published { number, answer };
        context.send(child, &self.local.name, published);
    }

    /// A child has no link any more; what it asked it asks again.
    pub fn unlinked<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64, child: Child) {
        match &mut self.role {
            Role::Owner(owned) => owned.not_mirrored_by(child),
            Role::Pulling(pulling) => {
                pulling.queue.retain(|(from, frame)| {
                    let stays = *from != child;
                    context.pulled_bytes -= if stays { 0 } else { frame.bytes() };
                    stays
                });
                for (from, asked) in &mut pulling.from {
                    *asked &= *from != child;
                }
            }
            Role::Away(_) => {}
        }
        self.withdraw(context, now_ms, child);
        self.ask_at_once(context, now_ms);
    }

    /// A child is dead; `origin` is how it called itself, where that is known.
    pub fn gone<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        child: Child,
        origin: Option<u64>,
    ) {
        self.unlinked(context, now_ms, child);
        if let (Role::Owner(owned), Some(origin)) = (&mut self.role, origin) {
            owned.presence.node_gone(now_ms, origin);
        }
        self.nothing(context, now_ms, child);
    }

    /// Tells all children that mirror a channel that it is owned elsewhere.
    pub(super) fn announce_moved<R>(
        name: &Arc<str>,
        context: &mut MeshContext<T, R>,
        children: impl IntoIterator<Item = Child>,
    ) {
        for child in children {
            context.send(child, name, Body::Moved);
        }
    }
}
