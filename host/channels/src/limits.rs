//! Every limit of what goes on between children, and its reason. Those of channels and connections are in their rules.

/// Milliseconds until a ticket is refused as unavailable: as long as a client waits before it tries again by itself.
pub const ANSWER_DEADLINE_MS: u64 = 10_000;

/// Milliseconds that a new owner waits for the old one's channel. Well below [`ANSWER_DEADLINE_MS`], so that who waits
/// meanwhile is answered; well above a few round trips and the time in which a link comes back.
pub const HANDOVER_DEADLINE_MS: u64 = 3_000;

/// Milliseconds that a frame waits for a newer directory: children hear of one within a fraction of a second.
pub const HELD_MS: u64 = 2_000;

/// Frames that wait for a newer directory, of all children: what comes in some milliseconds. One more is answered at
/// once, and its sender tries again.
pub const HELD_MAX: usize = 4_096;

/// Bytes of those frames.
pub const HELD_BYTES_MAX: usize = 16 << 20;

/// Milliseconds between two tries at a child that is not linked, or says that a channel is not there.
pub const RETRY_MS: u64 = 200;

/// Milliseconds that a channel which nobody takes is offered. Below [`REMEMBERED_MS`]: who took it still knows that.
pub const OFFER_MS: u64 = 30_000;

/// Milliseconds for which it is remembered who owned what, which channels were taken over and given away, and which
/// publications other children sent. Longer than any frame or offer can be under way.
pub const REMEMBERED_MS: u64 = 60_000;

/// Former directories, however young: one holds a table of slots, or shares it with the one before.
pub const DIRECTORIES_MAX: usize = 32;

/// Epochs of one channel for which it is remembered that they were here. Each costs its owner a deadline, or its life.
pub const EPOCHS_MAX: usize = 16;

/// Publications of one channel that wait for its owner, in this child: a second of a busy channel.
pub const PUBLISHES_MAX: usize = 1_024;

/// Bytes of all publications that wait for owners, in this child, [`crate::ITEM_BYTES`] for each included.
pub const PUBLISHES_BYTES_MAX: usize = 32 << 20;

/// Questions for the members of a channel that wait for its owner, in this child.
pub const QUESTIONS_MAX: usize = 256;

/// Frames of other children that wait for one channel to be taken over.
pub const PULLED_FRAMES_MAX: usize = 1_024;

/// Bytes of all frames that wait for channels to be taken over, in this child, as a child that gets the channels of
/// another at once may see them in a round trip.
pub const PULLED_BYTES_MAX: usize = 32 << 20;

/// Milliseconds after which a child says again that it mirrors a channel, at most; members may have to be repeated
/// sooner. A few bytes for each channel and child.
pub const REPEAT_MS_MAX: u64 = 10_000;

/// Times that a repetition may be missed before the owner forgets the mirror, or its members.
pub const REPEATS: u64 = 3;
