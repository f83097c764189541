use super::{
    backlog::{ORPHAN_MAX, ORPHANS_MAX},
    *,
};
use crate::{Socket, Splice, Spliced};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{future::poll_fn, os::fd::AsRawFd, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::timeout,
};
use tokio_util::task::TaskTracker;

const WAIT_MAX: Duration = Duration::from_secs(20);

/// A socket of ours, and the peer's end of it.
async fn pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    let ours = ours.unwrap();
    ours.set_nodelay(true).unwrap();
    (ours.into(), theirs.unwrap().0)
}

/// Starts a batch in the test's thread.
fn begin() -> TaskTracker {
    let tasks = TaskTracker::new();
    let spawns = tasks.clone();
    let run = |task| drop(tasks.spawn(task));
    batch_sends(run, move |task| drop(spawns.spawn(task))).unwrap();
    tasks
}

fn queued() -> usize {
    with_batch(|batch| batch.queue.len()).unwrap()
}

async fn text(peer: &mut TcpStream, bytes: usize) -> String {
    let mut text = vec![0; bytes];
    let read = timeout(WAIT_MAX, peer.read_exact(&mut text)).await;
    read.expect("in time").expect("all of it");
    String::from_utf8(text).unwrap()
}

/// Writes in one poll, without waiting for more than the queue.
async fn write(socket: &mut Socket, bytes: &[u8]) {
    let wrote = poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, bytes)).await;
    assert_eq!(wrote.unwrap(), bytes.len());
}

#[tokio::test]
async fn sends_of_a_turn_leave_together_when_all_ready_tasks_have_run() {
    begin();
    let mut pairs = Vec::new();
    for _ in 0..10 {
        pairs.push(pair().await);
    }
    for (number, (socket, _)) in pairs.iter_mut().enumerate() {
        write(socket, format!("hello {number}").as_bytes()).await;
        socket.flush().await.unwrap();
    }
    assert_eq!(queued(), 10);
    for (_, peer) in &pairs {
        assert!(peer.try_read(&mut [0]).is_err(), "it is too early");
    }
    for (number, (_, peer)) in pairs.iter_mut().enumerate() {
        assert_eq!(text(peer, 7).await, format!("hello {number}"));
    }
    assert_eq!(queued(), 0);
}

#[tokio::test]
async fn tasks_that_are_always_ready_hold_no_send_back() {
    begin();
    let (mut socket, mut peer) = pair().await;
    let busy = tokio::spawn(async {
        loop {
            yield_now().await;
        }
    });
    write(&mut socket, b"soon").await;
    assert_eq!(text(&mut peer, 4).await, "soon");
    busy.abort();
}

#[tokio::test]
async fn a_task_that_always_has_something_to_write_lets_others_run() {
    begin();
    let (mut socket, _peer) = pair().await;
    let writes = tokio::spawn(async move {
        let mut writes = 0;
        poll_fn(|cx| {
            while writes < 10_000 && Pin::new(&mut socket).poll_write(cx, b"x").is_ready() {
                writes += 1;
            }
            Poll::Ready(())
        })
        .await;
        writes
    });
    let writes = writes.await.unwrap();
    assert!((1..1_000).contains(&writes), "{writes} in one turn");
}

#[tokio::test]
async fn a_full_batch_leaves_at_once() {
    begin();
    let mut pairs = Vec::new();
    for _ in 0..=BATCH_SENDS_MAX {
        pairs.push(pair().await);
    }
    for (socket, _) in &mut pairs {
        write(socket, b"x").await;
    }
    assert_eq!(queued(), 1, "the batch before it left");
    let piece = vec![b'y'; SEND_BYTES_MAX];
    for (socket, _) in &mut pairs[..BATCH_BYTES_MAX / SEND_BYTES_MAX] {
        write(socket, &piece).await;
    }
    let waits = with_batch(|batch| batch.arena.len()).unwrap();
    assert!(waits < BATCH_BYTES_MAX - SEND_BYTES_MAX, "{waits} bytes");
}

#[tokio::test]
async fn writes_of_one_socket_keep_their_order() {
    begin();
    let ((mut one, mut peer), (mut other, _other_peer)) = (pair().await, pair().await);
    let large = "L".repeat(SEND_BYTES_MAX + 1);
    write(&mut one, b"a").await;
    write(&mut one, b"b").await;
    assert_eq!(queued(), 1, "they are one send");
    write(&mut other, b"other").await;
    write(&mut one, b"c").await;
    assert_eq!(queued(), 1, "the two of before left first");
    one.write_all(large.as_bytes()).await.unwrap();
    write(&mut one, b"d").await;
    let slices = [IoSlice::new(b"e"), IoSlice::new(b"f")];
    let wrote = poll_fn(|cx| Pin::new(&mut one).poll_write_vectored(cx, &slices)).await;
    assert_eq!(wrote.unwrap(), 2);
    let all = format!("abc{large}def");
    assert_eq!(text(&mut peer, all.len()).await, all);
}

/// Writes pieces until the peer's window and the kernel's buffers are full. Returns how many bytes counted as written.
async fn fill(socket: &mut Socket) -> usize {
    let piece = vec![b'x'; 10_000];
    let mut written = 0;
    while socket.is_sent() {
        write(socket, &piece).await;
        written += piece.len();
        for _ in 0..3 {
            yield_now().await;
        }
    }
    written
}

#[tokio::test]
async fn what_a_socket_does_not_take_is_owed_and_comes_in_order() {
    begin();
    let (mut socket, mut peer) = pair().await;
    let written = fill(&mut socket).await;
    let writes = poll_fn(|cx| Poll::Ready(Pin::new(&mut socket).poll_write(cx, b"end"))).await;
    assert!(writes.is_pending(), "nothing overtakes it");
    let flushes = poll_fn(|cx| Poll::Ready(Pin::new(&mut socket).poll_flush(cx))).await;
    assert!(flushes.is_pending());
    let reads = tokio::spawn(async move {
        let all = text(&mut peer, written + 3).await;
        (all, peer)
    });
    timeout(WAIT_MAX, socket.flush()).await.unwrap().unwrap();
    write(&mut socket, b"end").await;
    let (all, _peer) = reads.await.unwrap();
    assert_eq!(all, "x".repeat(written) + "end");
}

#[tokio::test]
async fn the_task_that_wrote_hears_of_a_socket_that_is_full() {
    begin();
    let (mut socket, _peer) = pair().await;
    let piece = vec![b'x'; 10_000];
    // It writes only when it is woken, and nobody reads.
    let filled = poll_fn(|cx| match Pin::new(&mut socket).poll_flush(cx) {
        Poll::Pending => Poll::Ready(()),
        Poll::Ready(_) => {
            let _ = Pin::new(&mut socket).poll_write(cx, &piece);
            if queued() == 0 {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }
    });
    // Each turn ends with a send that is short or not; only the short one wakes.
    let filling = async {
        tokio::pin!(filled);
        loop {
            tokio::select! {
                biased;
                () = &mut filled => return,
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    };
    timeout(WAIT_MAX, filling).await.expect("it hears of it");
}

#[tokio::test]
async fn a_send_that_fails_is_told_by_the_next_write_and_flush() {
    begin();
    let (mut socket, peer) = pair().await;
    peer.set_zero_linger().unwrap();
    drop(peer);
    // The reset has come.
    let read = timeout(WAIT_MAX, socket.read(&mut [0])).await.unwrap();
    assert!(read.is_err());
    write(&mut socket, b"lost").await;
    socket.flush().await.unwrap();
    for _ in 0..3 {
        yield_now().await;
    }
    assert!(socket.flush().await.is_err());
    assert!(socket.write(b"more").await.is_err());
    assert!(socket.shutdown().await.is_err());
}

#[tokio::test]
async fn a_socket_that_is_dropped_or_shut_sends_first() {
    begin();
    for shuts in [false, true] {
        let (mut socket, mut peer) = pair().await;
        write(&mut socket, b"goodbye").await;
        if shuts {
            socket.shutdown().await.unwrap();
            assert_eq!(queued(), 0);
        }
        drop(socket);
        let mut all = String::new();
        let read = timeout(WAIT_MAX, peer.read_to_string(&mut all)).await;
        read.expect("it ends").expect("and is no reset");
        assert_eq!(all, "goodbye", "{shuts}");
    }
}

#[tokio::test]
async fn a_socket_that_is_dropped_with_bytes_owed_sends_them_to_who_takes_them() {
    let tasks = begin();
    let (mut socket, mut peer) = pair().await;
    let written = fill(&mut socket).await;
    drop(socket);
    let mut all = Vec::new();
    let read = timeout(WAIT_MAX, peer.read_to_end(&mut all)).await;
    assert_eq!(read.expect("it ends").expect("and is no reset"), written);
    tasks.close();
    assert_eq!(tasks.len(), 1, "the flusher alone");
}

#[tokio::test]
async fn a_socket_that_is_dropped_with_bytes_owed_is_reset_where_nobody_takes_them() {
    let tasks = begin();
    for resets in [false, true] {
        let (mut socket, mut peer) = pair().await;
        let written = fill(&mut socket).await;
        if resets {
            socket.reset_on_close().unwrap();
        }
        let since = std::time::Instant::now();
        drop(socket);
        while tasks.len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(
            since.elapsed() < ORPHAN_MAX,
            resets,
            "a reset waits for nobody"
        );
        let mut all = Vec::new();
        let read = timeout(WAIT_MAX, peer.read_to_end(&mut all)).await;
        assert!(read.expect("it ends").is_err(), "a cut does not look whole");
        assert!(all.len() < written);
    }
}

#[tokio::test]
async fn of_sockets_that_are_dropped_with_bytes_owed_those_beyond_a_number_are_reset_at_once() {
    let tasks = begin();
    let mut peers = Vec::new();
    for _ in 0..=ORPHANS_MAX {
        let (mut socket, peer) = pair().await;
        fill(&mut socket).await;
        peers.push(peer);
        drop(socket);
        yield_now().await;
        yield_now().await;
    }
    assert_eq!(tasks.len() - 1, ORPHANS_MAX, "beside the flusher");
    let mut all = Vec::new();
    let mut last = peers.pop().unwrap();
    let read = timeout(WAIT_MAX, last.read_to_end(&mut all)).await;
    assert!(read.expect("it ends").is_err(), "it is a reset");
    for mut peer in peers {
        let read = timeout(WAIT_MAX, peer.read_to_end(&mut Vec::new())).await;
        read.expect("it ends").expect("and is no reset");
    }
}

#[tokio::test]
async fn where_no_descriptor_is_left_for_bytes_owed_who_reads_hears_of_it_too() {
    begin();
    let (mut socket, peer) = pair().await;
    let lowest_free = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    let limit = Rlimit {
        current: Some(lowest_free.try_into().unwrap()),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let piece = vec![b'x'; 10_000];
    while socket.write(&piece).await.is_ok() {
        yield_now().await;
    }
    let read = timeout(WAIT_MAX, socket.read(&mut [0])).await;
    assert_eq!(read.expect("the reader hears of it").unwrap(), 0);
    drop(peer);
}

#[tokio::test]
async fn a_shutdown_waits_for_bytes_that_are_owed() {
    begin();
    let (mut socket, mut peer) = pair().await;
    let written = fill(&mut socket).await;
    let reads = tokio::spawn(async move {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.map(|_| all.len())
    });
    timeout(WAIT_MAX, socket.shutdown()).await.unwrap().unwrap();
    drop(socket);
    assert_eq!(reads.await.unwrap().unwrap(), written);
}

#[tokio::test]
async fn spliced_bytes_come_behind_what_was_written() {
    begin();
    let ((source, mut feeds), (mut sink, mut drains)) = (pair().await, pair().await);
    feeds.write_all(b"spliced").await.unwrap();
    write(&mut sink, b"head ").await;
    let mut splice = Splice::new();
    let moved = poll_fn(|cx| splice.poll(&source, &sink, u64::MAX, cx)).await;
    assert_eq!(moved.unwrap(), Spliced::Bytes(7));
    assert_eq!(text(&mut drains, 12).await, "head spliced");
}

#[tokio::test]
async fn the_end_of_the_flusher_sends_what_waits_and_ends_the_batch() {
    let (mut socket, mut peer) = pair().await;
    begin();
    write(&mut socket, b"last").await;
    drop(Flusher);
    assert!(with_batch(|_| ()).is_none());
    assert_eq!(text(&mut peer, 4).await, "last");
    socket.write_all(b" plain").await.unwrap();
    assert_eq!(text(&mut peer, 6).await, " plain");
}

#[tokio::test]
async fn a_descriptor_is_no_other_sockets_while_a_batch_of_another_thread_has_it() {
    begin();
    let (mut socket, mut peer) = pair().await;
    write(&mut socket, b"mine").await;
    std::thread::spawn(move || drop(socket)).join().unwrap();
    // A new socket gets the lowest number that is free.
    let (_other, mut other_peer) = pair().await;
    for _ in 0..3 {
        yield_now().await;
    }
    assert_eq!(text(&mut peer, 4).await, "mine");
    assert!(
        other_peer.try_read(&mut [0; 4]).is_err(),
        "not to a stranger"
    );
    let end = timeout(WAIT_MAX, peer.read(&mut [0]))
        .await
        .expect("it is closed");
    assert_eq!(end.unwrap(), 0);
    drop(other_peer.shutdown().await);
}

/// Forbids `io_uring` to this thread, as seccomp profiles of containers do: each of its system calls fails by EPERM.
fn forbid_io_uring() {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let setup = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let refuse = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut filter = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, setup),
        step(RETURN, 0, 0, refuse),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program lives until the call returns, and holds for this thread alone.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            + libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
    };
    assert_eq!(done, 0, "seccomp");
}

#[test]
fn where_io_uring_is_forbidden_sends_go_out_one_by_one() {
    let thread = std::thread::spawn(|| {
        forbid_io_uring();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let refused = batch_sends(|_| panic!("there is no batch"), |_| panic!("nor this"));
            let Err(BatchRefusal::Setup(error)) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            let (mut socket, mut peer) = pair().await;
            socket.write_all(b"plain").await.unwrap();
            assert_eq!(text(&mut peer, 5).await, "plain");
        });
    });
    thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_with_other_threads_gathers_nothing() {
    let refused = batch_sends(|_| panic!("there is no batch"), |_| panic!("nor this"));
    assert!(matches!(refused, Err(BatchRefusal::Threads)));
}
