//! Closes a connection whose client may still be sending.

use super::{
    intake::PIECE_BYTES,
    wire::{EarlyEnd, Wire, read_some},
};
use protoplex_http::{ReadBuffer, TextBuffer};
use protoplex_net::Duplex;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout, timeout_at},
};

impl<S, IO: Duplex> Wire<'_, S, IO> {
    /// Closes the connection. What the client still sends must not turn into a reset that eats our response.
    pub(super) async fn close(&mut self, unread: bool) -> Result<(), EarlyEnd> {
        self.flush().await?;
        let limit = self.context.limits.write_timeout;
        timeout(limit, self.io.shutdown())
            .await
            .map_err(|_| EarlyEnd::Io)??;
        if unread || !self.input.is_empty() {
            self.linger().await;
        }
        Ok(())
    }

    /// Reads and drops what a client still sends that has had its response. It costs its connection, which counts, and
    /// one buffer.
    async fn linger(&mut self) {
        let (limits, leaving) = (&self.context.limits, self.leaving);
        (self.input, self.out) = (ReadBuffer::default(), TextBuffer::default());
        let mut until = Instant::now() + limits.linger_timeout;
        let mut is_told = false;
        loop {
            let now = Instant::now();
            // A client that never pauses lets no timer run.
            if now >= until {
                return;
            }
            let read = read_some(&mut self.io, &mut self.input, PIECE_BYTES);
            tokio::select! {
                read = timeout_at(until.min(now + limits.linger_silence_max), read) => match read {
                    Ok(Ok(read)) if read > 0 => self.input.clear(),
                    _ => return,
                },
                () = leaving.cancelled(), if !is_told => {
                    is_told = true;
                    until = until.min(Instant::now() + limits.net.drain_window);
                }
            }
        }
    }
}
