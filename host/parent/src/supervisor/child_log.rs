//! A child's output: it goes to this process's log, and to the ring of recent lines.

use crate::logs::Logs;
use protoplex_telemetry::log_output;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// A line of a child's log is cut here.
const LOG_LINE_BYTES_MAX: usize = 16 << 10;

/// Copies a child's output to this process's log and to the ring of recent lines. Returns the last line that is not empty.
pub(super) async fn copy_log(output: Option<impl AsyncRead + Unpin>, logs: Arc<Logs>) -> String {
    let mut last = String::new();
    let Some(output) = output else { return last };
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut output)
        .take(LOG_LINE_BYTES_MAX as u64)
        .read_until(b'\n', &mut line)
        .await
    {
        let is_whole = line.last() == Some(&b'\n');
        let text = String::from_utf8_lossy(&line);
        log_output::line(text.trim_end());
        logs.push(text.trim_end());
        if !text.trim_end().is_empty() {
            last.clear();
            last.push_str(text.trim_end());
        }
        line.clear();
        if !is_whole && !skip_line(&mut output).await {
            return last;
        }
    }
    last
}

/// Skips the rest of a line that was cut. `false` at the end of the output.
async fn skip_line(output: &mut (impl AsyncBufReadExt + Unpin)) -> bool {
    loop {
        let Ok(bytes) = output.fill_buf().await else {
            return false;
        };
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let length = bytes.len();
        output.consume(end.map_or(length, |end| end + 1));
        if end.is_some() || length == 0 {
            return end.is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_no_text_or_too_long_ends_no_log() {
        let logs = Arc::new(Logs::default());
        let long = "x".repeat(LOG_LINE_BYTES_MAX + 20_000);
        let output = [b"a\xffb\n", long.as_bytes(), b"\nafter\nlast"].concat();
        let last = copy_log(Some(&output[..]), Arc::clone(&logs)).await;
        assert_eq!(last, "last");
        let (lines, _) = logs.read(9);
        let lengths: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
        assert_eq!(lengths, [3, LOG_LINE_BYTES_MAX, 5, 4]);
        assert_eq!(&*lines[3], "last");
    }
}
