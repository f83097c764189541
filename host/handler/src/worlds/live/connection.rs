//! A connection as its guest knows it.

use crate::request_copy::RequestCopy;

pub(super) struct Connection {
    pub(super) id: u64,
    /// The head that it was opened with. Lent to the store while a call goes on.
    pub(super) head: RequestCopy,
}
