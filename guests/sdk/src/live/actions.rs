//! Actions of a handler on the connection that it is called for. All of them are done when the call has returned, and
//! none if the call traps.

use super::{
    Fault, Message,
    bindings::protoplex::live::{channels, connection},
};

/// Sets the name that others see in presence. Call it only while handling `opened`.
///
/// # Errors
/// An empty name, or one above 255 bytes.
pub fn set_user(user: &str) -> Result<(), Fault> {
    connection::set_user(user)
}

/// Sends a message to this connection alone.
///
/// # Errors
/// More than one call may ask for.
pub fn send(message: Message) -> Result<(), Fault> {
    connection::send(&message)
}

/// Sends text to this connection alone.
///
/// # Errors
/// More than one call may ask for.
pub fn send_text(text: impl Into<String>) -> Result<(), Fault> {
    send(Message::Text(text.into()))
}

/// Closes the connection, after what was sent. 1000, 1008, or a code of your own: with 4000 to 4499 a client comes back,
/// with 4500 to 4999 it does not.
///
/// # Errors
/// Another code, or a reason above 123 bytes.
pub fn disconnect(code: u16, reason: &str) -> Result<(), Fault> {
    connection::disconnect(code, reason)
}

/// Subscribes the connection to a channel, and shows its user there.
///
/// # Errors
/// The channel is not granted.
pub fn subscribe(channel: &str) -> Result<(), Fault> {
    channels::subscribe(channel, true)
}

/// Subscribes the connection to a channel, without showing its user there.
///
/// # Errors
/// The channel is not granted.
pub fn subscribe_unseen(channel: &str) -> Result<(), Fault> {
    channels::subscribe(channel, false)
}

/// Ends the subscription to a channel.
///
/// # Errors
/// The channel is not granted.
pub fn unsubscribe(channel: &str) -> Result<(), Fault> {
    channels::unsubscribe(channel)
}

/// Shows or hides the user on a channel that the connection is subscribed to.
///
/// # Errors
/// The channel is not granted.
pub fn set_presence(channel: &str, present: bool) -> Result<(), Fault> {
    channels::set_presence(channel, present)
}

/// Sends a message to all subscribers of a channel.
///
/// # Errors
/// The channel is not granted, or the message is too large for it.
pub fn publish(channel: &str, data: impl AsRef<[u8]>) -> Result<(), Fault> {
    channels::publish(channel, data.as_ref(), None)
}

/// Sends a message to all subscribers of a channel, unless the key was used on this channel a short while ago.
///
/// # Errors
/// The channel is not granted, or the message is too large for it.
pub fn publish_once(channel: &str, data: impl AsRef<[u8]>, key: &str) -> Result<(), Fault> {
    channels::publish(channel, data.as_ref(), Some(key))
}
