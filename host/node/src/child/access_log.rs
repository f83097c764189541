//! The access log: JSON lines, appended to one file by all children of a node. A thread of its own writes; a request
//! leaves its line in a queue, and where the queue is full it is counted instead.

use protoplex_edge::{Access, AccessLog};
use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

/// Lines that may wait, some hundred bytes each: a tenth of a second of a busy child.
const QUEUE_MAX: usize = 8_192;
/// Written at once. Whole lines: several children append to one file.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// How often it is looked whether the file was moved away.
const REOPEN_PERIOD: Duration = Duration::from_secs(1);
/// How long a child that ends waits for its last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

enum Message {
    Line(Box<Access>),
    /// Answered when everything before it is in the file.
    Flush(Sender<()>),
}

pub(super) struct FileLog {
    queue: SyncSender<Message>,
    dropped: AtomicU64,
}

impl FileLog {
    /// Starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_MAX);
        let mut writer = Writer::open(path)?;
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run(&messages))?;
        let dropped = AtomicU64::new(0);
        Ok(Self { queue, dropped })
    }

    /// Lines for which there was no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Waits for the lines that are on their way, not for ever. Blocks.
    pub(super) fn flush(&self) {
        let (done, written) = channel();
        // A writer that is stuck loses its lines; a child must end.
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl AccessLog for FileLog {
    fn record(&self, access: Access) {
        if self
            .queue
            .try_send(Message::Line(Box::new(access)))
            .is_err()
        {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time_unix_ms: u64,
    request: &'a str,
    client: IpAddr,
    version: u8,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    status: Option<u16>,
    bytes: u64,
    duration_us: u64,
    handler: &'a str,
    build: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    upstream: &'a str,
    /// Why it was refused before a handler was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}

struct Writer {
    path: PathBuf,
    file: File,
    lines: Vec<u8>,
    looked: Instant,
    failing: bool,
}

impl Writer {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: append_to(path)?,
            lines: Vec::new(),
            looked: Instant::now(),
            failing: false,
        })
    }

    /// Until the log is dropped.
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(REOPEN_PERIOD) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while self.lines.len() < WRITE_BYTES_MAX
                && let Ok(message) = messages.try_recv()
            {
                self.take(message);
            }
            self.write();
            self.reopen();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(access) => self.format(&access),
            Message::Flush(done) => {
                self.write();
                // Nobody waits any more: fine.
                let _ = done.send(());
            }
        }
    }

    fn format(&mut self, access: &Access) {
        let since = access.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            time_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            request: &access.request_id,
            client: access.client,
            version: access.version,
            method: &access.method,
            host: &access.host,
            path: &access.path,
            status: access.status,
            bytes: access.bytes,
            duration_us: u64::try_from(access.duration.as_micros()).unwrap_or(u64::MAX),
            handler: &access.noted.handler,
            build: &access.noted.build,
            upstream: &access.noted.upstream,
            refused: access.refused,
        };
        // Writing to memory, of text and numbers, does not fail.
        let _ = serde_json::to_writer(&mut self.lines, &line);
        self.lines.push(b'\n');
    }

    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let wrote = self.file.write_all(&self.lines);
        self.lines.clear();
        match wrote {
            Ok(()) => self.failing = false,
            // Said once: the disk is full for many lines.
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::error!(path = %self.path.display(), %error, "the access log cannot be written");
            }
            Err(_) => {}
        }
    }

    /// Somebody moved the file away: a new one is begun.
    fn reopen(&mut self) {
        if self.looked.elapsed() < REOPEN_PERIOD {
            return;
        }
        self.looked = Instant::now();
        let ours = self.file.metadata().map(|file| file.ino()).ok();
        let there = std::fs::metadata(&self.path).map(|file| file.ino()).ok();
        if ours != there
            && let Ok(file) = append_to(&self.path)
        {
            self.file = file;
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_http::Noted;
    use std::time::SystemTime;

    fn access(path: &str) -> Access {
        Access {
            at: SystemTime::now(),
            request_id: "0123456789abcdef".to_owned(),
            client: [192, 0, 2, 1].into(),
            version: 11,
            method: "GET".to_owned(),
            host: "a".to_owned(),
            path: path.to_owned(),
            status: Some(200),
            bytes: 5,
            duration: Duration::from_micros(7),
            noted: Noted {
                handler: "router".to_owned(),
                ..Noted::default()
            },
            refused: None,
        }
    }

    #[test]
    fn each_request_is_a_line_of_json_and_nothing_a_client_says_makes_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("access.log");
        let log = FileLog::open(&file).expect("it opens");
        log.record(access("/a\"\n{}"));
        log.record(access("/b"));
        log.flush();
        let text = std::fs::read_to_string(&file).expect("it is there");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["path"], "/a\"\n{}");
        assert_eq!(
            (&lines[1]["status"], &lines[1]["handler"]),
            (&200.into(), &"router".into())
        );
    }

    #[test]
    fn a_full_queue_costs_lines_and_never_a_wait() {
        let (queue, messages) = sync_channel(2);
        let log = FileLog {
            queue,
            dropped: AtomicU64::new(0),
        };
        for _ in 0..5 {
            log.record(access("/"));
        }
        assert_eq!(log.dropped(), 3);
        drop(messages);
    }
}
