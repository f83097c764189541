//! The access log: JSON lines, appended to one file by all children of a node. A thread of its own writes; a request
//! leaves its line in a queue, and where the queue is full, or the disk refuses, it is counted instead.

use protoplex_disk::append_to;
use protoplex_server::{Access, AccessLog};
use protoplex_telemetry::log_output::ends_within_a_line;
use serde::Serialize;
use std::{
    fs::File,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
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
    dropped: Arc<AtomicU64>,
}

impl FileLog {
    /// Starts the thread. A file that cannot be opened is tried again: it keeps nobody from serving.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let (path, counted) = (path.to_owned(), Arc::clone(&dropped));
        // Opening may wait as well: for a server of files that does not answer.
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || Writer::new(&path, counted).run(&messages))?;
        Ok(Self { queue, dropped })
    }

    /// Lines for which there was no room, in the queue or on the disk.
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
    refused: Option<&'a str>,
}

struct Writer {
    path: PathBuf,
    /// `None` while it cannot be opened.
    file: Option<File>,
    lines: Vec<u8>,
    looked: Instant,
    failing: bool,
    /// The file ends within a line, of this child or of a sibling.
    is_mid_line: bool,
    dropped: Arc<AtomicU64>,
    /// Dropped lines that the log has told of.
    logged: u64,
}

impl Writer {
    fn new(path: &Path, dropped: Arc<AtomicU64>) -> Self {
        let mut writer = Self {
            path: path.to_owned(),
            file: None,
            lines: Vec::new(),
            looked: Instant::now(),
            failing: false,
            is_mid_line: false,
            dropped,
            logged: 0,
        };
        writer.open();
        writer.is_mid_line = ends_within_a_line(path);
        writer
    }

    /// Writes lines until the log is dropped.
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
            refused: access.refused.as_deref(),
        };
        // Writing to memory, of text and numbers, does not fail.
        let _ = serde_json::to_writer(&mut self.lines, &line);
        self.lines.push(b'\n');
    }

    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        if self.failing {
            // A sibling may have ended the line that was cut, or its own.
            self.is_mid_line = ends_within_a_line(&self.path);
        }
        let wrote = self.write_lines();
        self.lines.clear();
        match wrote {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    /// Writes whole lines, and counts those that cannot be written.
    fn write_lines(&mut self) -> io::Result<()> {
        let mut left = &self.lines[..];
        let mut write = || {
            let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
            if self.is_mid_line {
                file.write_all(b"\n")?;
                self.is_mid_line = false;
            }
            while !left.is_empty() {
                let wrote = file.write(left)?;
                let end = wrote.checked_sub(1).ok_or(io::ErrorKind::WriteZero)?;
                self.is_mid_line = left[end] != b'\n';
                left = &left[wrote..];
            }
            Ok(())
        };
        let wrote = write();
        let lost = left.iter().filter(|&&byte| byte == b'\n').count();
        self.dropped.fetch_add(lost as u64, Relaxed);
        wrote
    }

    /// Said once: the disk is full for many lines.
    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(path = %self.path.display(), %error, "the access log cannot be written; requests are served without");
        }
    }

    /// Says once that there is room again, and what was lost until then.
    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            let dropped = self.dropped.load(Relaxed);
            let lines = dropped - std::mem::replace(&mut self.logged, dropped);
            tracing::warn!(path = %self.path.display(), lines, "the access log is written again; lines were lost");
        }
    }

    fn open(&mut self) {
        match append_to(&self.path) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.failed(&error),
        }
    }

    /// Begins a new file where the old one was moved away.
    fn reopen(&mut self) {
        if self.looked.elapsed() < REOPEN_PERIOD {
            return;
        }
        self.looked = Instant::now();
        let ours = self.file.as_ref().and_then(|file| file.metadata().ok());
        let ours = ours.map(|file| file.ino());
        let there = std::fs::metadata(&self.path).map(|file| file.ino()).ok();
        if ours.is_none() || ours != there {
            self.open();
        }
        self.is_mid_line = ends_within_a_line(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_http::AccessFields;
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
            noted: AccessFields {
                handler: "router".to_owned(),
                ..AccessFields::default()
            },
            refused: None,
        }
    }

    #[test]
    fn each_request_is_one_json_line_whatever_the_client_sends() {
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
    fn a_file_that_cannot_be_written_costs_lines_which_are_counted() {
        let full = FileLog::open(Path::new("/dev/full")).expect("it starts");
        full.record(access("/"));
        full.flush();
        assert_eq!(full.dropped(), 1);
        let folder = tempfile::tempdir().expect("a folder");
        let nowhere = FileLog::open(&folder.path().join("no/access.log")).expect("it starts");
        nowhere.record(access("/"));
        nowhere.flush();
        assert_eq!(nowhere.dropped(), 1);
    }

    #[test]
    fn a_pipe_is_waited_for_by_nobody_and_written_once_it_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("access.log");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).expect("made");
        let log = FileLog::open(&pipe).expect("it starts");
        log.record(access("/lost"));
        log.flush();
        assert_eq!(log.dropped(), 1);
        // To read from it waits for the log to try again.
        let reader = thread::spawn(move || {
            let mut line = String::new();
            let mut pipe = io::BufReader::new(File::open(pipe).expect("it opens"));
            io::BufRead::read_line(&mut pipe, &mut line).expect("read");
            line
        });
        while !reader.is_finished() {
            log.record(access("/read"));
            log.flush();
            thread::sleep(Duration::from_millis(10));
        }
        assert!(reader.join().expect("read").contains("/read"));
    }

    #[test]
    fn a_line_that_a_sibling_did_not_finish_takes_no_other_along() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("access.log");
        std::fs::write(&file, "{\"cut").expect("written");
        let mut writer = Writer::new(&file, Arc::default());
        let write = |writer: &mut Writer, path| {
            writer.format(&access(path));
            writer.write();
        };
        write(&mut writer, "/first");
        // While this one had nothing to write, and while it could not.
        let cut = || {
            let mut file = append_to(&file).expect("it opens");
            file.write_all(b"{\"cut").expect("written");
        };
        cut();
        writer.looked -= REOPEN_PERIOD;
        writer.reopen();
        write(&mut writer, "/second");
        cut();
        writer.failing = true;
        write(&mut writer, "/third");
        let text = std::fs::read_to_string(&file).expect("it is there");
        let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
        let paths: Vec<_> = lines.flatten().map(|line| line["path"].clone()).collect();
        assert_eq!(paths, ["/first", "/second", "/third"], "{text}");
        assert!(!writer.failing);
    }

    #[test]
    fn a_full_queue_costs_lines_and_never_a_wait() {
        let (queue, messages) = sync_channel(2);
        let log = FileLog {
            queue,
            dropped: Arc::default(),
        };
        for _ in 0..5 {
            log.record(access("/"));
        }
        assert_eq!(log.dropped(), 3);
        drop(messages);
    }
}
