//! The log of a process: standard error, or a file that may be moved away. Whoever logs neither waits nor fails: lines
//! go to a bounded buffer, which a thread writes. Lines that do not fit, or that the system refuses, are counted, and
//! the log says so as soon as it can be written again.
//!
//! What a person's command says, and its panics, go to standard error by themselves; everything else goes here.

use parking_lot::{Condvar, Mutex};
use protoplex_disk::append_to;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Most bytes that may wait to be written: some seconds of a busy process, and not much memory in each.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Time between two checks whether the file was moved away.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Time for which lines are gathered and then written together: whoever logs many does not wake the thread for each.
const GATHER: Duration = Duration::from_millis(1);
/// Most bytes of buffer that an idle log keeps.
const KEPT_BYTES_MAX: usize = 64 << 10;

static LOG: OnceLock<LogOutput> = OnceLock::new();

/// Makes the log line that tells how many lines were lost.
pub type LostLinesNotice = fn(u64) -> String;

/// Starts the thread that writes: to a file, or without one to standard error. Later calls change nothing.
pub fn start(file: Option<&Path>, notice: LostLinesNotice) {
    LOG.get_or_init(|| match file {
        Some(path) => LogOutput::start(LogFile::new(path), WAITING_BYTES_MAX, notice),
        None => LogOutput::start(Stderr, WAITING_BYTES_MAX, notice),
    });
}

/// A writer for whole lines. Writing to it always succeeds.
pub fn writer() -> LineWriter {
    LineWriter
}

/// Logs one line as it is.
pub fn line(text: &str) {
    if let Some(output) = LOG.get() {
        output.push(&[text.as_bytes(), b"\n"]);
    }
}

/// Lines that were not written, since the start of this process.
pub fn lost() -> u64 {
    LOG.get().map_or(0, |output| output.0.lost.load(Relaxed))
}

/// Waits until what was logged so far is written, at most for `max`.
pub fn flush(max: Duration) {
    if let Some(output) = LOG.get() {
        output.flush(max);
    }
}

/// Hands each whole line to the log of this process.
#[derive(Clone, Copy, Debug)]
pub struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(output) = LOG.get() {
            output.push(&[line]);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, by its descriptor. A log that is not to be waited for (its pipe was made non-blocking by somebody
/// else) is waited for all the same: this is a thread of its own.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        loop {
            match rustix::io::write(&stderr, bytes) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
                    // Interrupted or not, the next write says more.
                    let _ = poll(&mut ready, None);
                }
                wrote => return Ok(wrote?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is appended to. Where it was moved away, another is begun; while there is none, lines go to standard
/// error.
struct LogFile {
    path: PathBuf,
    file: Option<File>,
    /// The process before this one was cut within a line, which is to be ended first.
    is_cut: bool,
    /// Time when the file's name was last checked; `None` before the first line, since the thread that writes opens the
    /// file.
    looked: Option<Instant>,
}

impl LogFile {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            is_cut: false,
            looked: None,
        }
    }

    /// Opens the file where none is open, or another one has its name.
    fn reopen_if_moved(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_PERIOD) {
            return;
        }
        self.looked = Some(Instant::now());
        let ours = self.file.as_ref().and_then(|file| file.metadata().ok());
        let there = fs::metadata(&self.path).ok();
        let same = ours
            .zip(there)
            .is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()));
        if !same && let Ok(file) = append_to(&self.path) {
            self.file = Some(file);
            self.is_cut = ends_within_a_line(&self.path);
        }
    }
}

/// Whether somebody was cut when writing a line to this file, by a disk that was full. What is appended to that would
/// be lost with it.
pub fn ends_within_a_line(path: &Path) -> bool {
    let last = || {
        let metadata = fs::metadata(path)?;
        // To open a pipe is to wait for whoever is at its other end.
        let Some(at) = metadata.len().checked_sub(1).filter(|_| metadata.is_file()) else {
            return Ok(b'\n');
        };
        let mut last = [0];
        File::open(path)?.read_exact_at(&mut last, at)?;
        io::Result::Ok(last[0])
    };
    last().is_ok_and(|last| last != b'\n')
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reopen_if_moved();
        let Some(file) = &mut self.file else {
            return Stderr.write(bytes);
        };
        if self.is_cut {
            file.write_all(b"\n")?;
            self.is_cut = false;
        }
        file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Queue of lines on their way to a sink.
struct LogOutput(Arc<SharedQueue>);

struct SharedQueue {
    waiting: Mutex<WaitingLines>,
    bytes_max: usize,
    came: Condvar,
    written: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct WaitingLines {
    bytes: Vec<u8>,
    is_writing: bool,
}

impl LogOutput {
    fn start(sink: impl Write + Send + 'static, bytes_max: usize, notice: LostLinesNotice) -> Self {
        let shared = Arc::new(SharedQueue {
            waiting: Mutex::default(),
            bytes_max,
            came: Condvar::new(),
            written: Condvar::new(),
            lost: AtomicU64::new(0),
        });
        let pump = LogPump {
            shared: Arc::clone(&shared),
            sink,
            notice,
            told: 0,
            is_mid_line: false,
        };
        // Without a thread every line is lost once the buffer is full, and counted: no reason not to serve.
        let _ = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || pump.run());
        Self(shared)
    }

    fn push(&self, parts: &[&[u8]]) {
        let mut waiting = self.0.waiting.lock();
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if waiting.bytes.len() + bytes > self.0.bytes_max {
            self.0.lost.fetch_add(1, Relaxed);
            return;
        }
        parts
            .iter()
            .for_each(|part| waiting.bytes.extend_from_slice(part));
        self.0.came.notify_one();
    }

    fn flush(&self, max: Duration) {
        let deadline = Instant::now() + max;
        let mut waiting = self.0.waiting.lock();
        while waiting.is_writing || !waiting.bytes.is_empty() {
            if self
                .0
                .written
                .wait_until(&mut waiting, deadline)
                .timed_out()
            {
                return;
            }
        }
    }
}

/// The thread that writes.
struct LogPump<W> {
    shared: Arc<SharedQueue>,
    sink: W,
    notice: LostLinesNotice,
    /// Lost lines that the log has told of so far.
    told: u64,
    /// The last write ended within a line.
    is_mid_line: bool,
}

impl<W: Write> LogPump<W> {
    /// Writes lines until the process ends.
    fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            {
                let mut waiting = self.shared.waiting.lock();
                waiting.is_writing = false;
                self.shared.written.notify_all();
                while waiting.bytes.is_empty() {
                    self.shared.came.wait(&mut waiting);
                }
            }
            thread::sleep(GATHER);
            {
                let mut waiting = self.shared.waiting.lock();
                std::mem::swap(&mut waiting.bytes, &mut batch);
                waiting.is_writing = true;
            }
            self.log_lost_lines();
            let lost = self.write(&batch);
            self.shared.lost.fetch_add(lost, Relaxed);
            batch.clear();
            batch.shrink_to(KEPT_BYTES_MAX);
        }
    }

    /// Logs how many lines were lost since that was last said.
    fn log_lost_lines(&mut self) {
        let lost = self.shared.lost.load(Relaxed);
        if lost == self.told {
            return;
        }
        let mut line = (self.notice)(lost - self.told);
        line.push('\n');
        if self.write(line.as_bytes()) == 0 {
            self.told = lost;
        }
    }

    /// Writes whole lines. Returns how many of them did not get out.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if self.is_mid_line && matches!(self.sink.write(b"\n"), Ok(1)) {
            self.is_mid_line = false;
        }
        let mut left = lines;
        while !left.is_empty() {
            match self.sink.write(left) {
                Ok(wrote) if wrote > 0 => {
                    self.is_mid_line = left[wrote - 1] != b'\n';
                    left = &left[wrote..];
                }
                Ok(_) | Err(_) => break,
            }
        }
        let lost = left.iter().filter(|&&byte| byte == b'\n').count();
        u64::try_from(lost).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(20);

    /// A disk with room for so many bytes.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().0.clone()).unwrap()
        }

        fn has_room(&self, bytes: usize) {
            self.0.lock().1 = bytes;
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock();
            let wrote = bytes.len().min(disk.1);
            disk.1 -= wrote;
            disk.0.extend_from_slice(&bytes[..wrote]);
            match wrote {
                0 => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(wrote),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(lines: u64) -> String {
        format!("{lines} lost")
    }

    fn log(output: &LogOutput, line: &str) {
        output.push(&[line.as_bytes(), b"\n"]);
        output.flush(LONG);
    }

    #[test]
    fn a_full_disk_costs_lines_which_are_counted_and_told_of() {
        let disk = Disk::default();
        let output = LogOutput::start(disk.clone(), WAITING_BYTES_MAX, notice);
        disk.has_room(9);
        log(&output, "first");
        // Three bytes of it get out.
        log(&output, "second");
        log(&output, "third");
        assert_eq!(output.0.lost.load(Relaxed), 2);
        disk.has_room(usize::MAX);
        log(&output, "fourth");
        log(&output, "fifth");
        assert_eq!(disk.text(), "first\nsec\n2 lost\nfourth\nfifth\n");
        assert_eq!(output.0.lost.load(Relaxed), 2);
    }

    #[test]
    fn a_log_that_was_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = LogFile::new(&path);
        log.write_all(b"before\n").unwrap();
        fs::rename(&path, folder.path().join("x.log.1")).unwrap();
        log.looked = None;
        log.write_all(b"after\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after\n");
    }

    #[test]
    fn an_unfinished_line_of_the_last_process_damages_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        fs::write(&path, "whole\ncu").unwrap();
        for _ in 0..2 {
            LogFile::new(&path).write_all(b"next\n").unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "whole\ncu\nnext\nnext\n");
        assert!(!ends_within_a_line(Path::new("/dev/full")));
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_no_wait() {
        struct Stuck(mpsc::Receiver<()>, Disk);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                // Until the other end is dropped.
                let _ = self.0.recv();
                self.1.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (reader, reads) = mpsc::channel();
        let disk = Disk::default();
        disk.has_room(usize::MAX);
        let output = LogOutput::start(Stuck(reads, disk.clone()), 100, notice);
        // More than the buffer and what the thread has taken.
        for _ in 0..50 {
            output.push(&[b"0123456789\n"]);
        }
        let lost = output.0.lost.load(Relaxed);
        assert!((31..=41).contains(&lost), "{lost}");
        output.flush(Duration::from_millis(1));
        drop(reader);
        output.flush(LONG);
        log(&output, "again");
        let text = disk.text();
        assert!(text.contains(&format!("{lost} lost\n")), "{text}");
        assert!(text.ends_with("again\n"), "{text}");
    }
}
