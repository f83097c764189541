//! The runtime layout of a proxy's children, for servers of the bench: one single-threaded runtime and one
//! `SO_REUSEPORT` socket each.

use anyhow::Context;
use std::{future::Future, net::SocketAddr};
use tokio::net::{TcpSocket, TcpStream};

/// Gives every connection to `serve`. The arguments of the program are an address and a number of threads.
pub fn run<F>(serve: impl Fn(TcpStream) -> F + Copy + Send + 'static) -> anyhow::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    let mut args = std::env::args().skip(1);
    let address: SocketAddr = args.next().context("an address")?.parse()?;
    let threads: usize = args.next().context("a number of threads")?.parse()?;
    let threads = (0..threads).map(|_| std::thread::spawn(move || accept(address, serve)));
    for thread in threads.collect::<Vec<_>>() {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(())
}

fn accept<F>(address: SocketAddr, serve: impl Fn(TcpStream) -> F) -> anyhow::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1024)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(serve(stream));
        }
    })
}
