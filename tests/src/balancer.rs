//! One address before several servers, as a cluster's service has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Pause after a round in which no server took a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Gives each connection to the next server that takes it. Dropping it closes the address.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    to_close: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Balancer {
    /// Begins to listen before these servers, such as `http://127.0.0.1:40123`.
    pub async fn start(endpoints: &[String]) -> Balancer {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.unwrap_or_else(|error| panic!("no free port: {error}"));
        let address = listener.local_addr();
        let address = address.unwrap_or_else(|error| panic!("a port without address: {error}"));
        let bare = |endpoint: &String| endpoint.trim_start_matches("http://").to_owned();
        let servers: Arc<[String]> = endpoints.iter().map(bare).collect();
        let turn = Arc::new(AtomicUsize::new(0));
        let to_close = Arc::new(AtomicUsize::new(0));
        let closing = to_close.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let one_less = |left: usize| left.checked_sub(1);
                let is_closed =
                    closing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
                if is_closed.is_err() {
                    tokio::spawn(carry(client, servers.clone(), turn.clone()));
                }
            }
        });
        Balancer {
            address,
            to_close,
            accepting,
        }
    }

    /// The next connections are closed as soon as they are taken, as by a server that is about to end.
    pub fn close_next(&self, connections: usize) {
        self.to_close.store(connections, Ordering::Relaxed);
    }

    /// How many of those are still to come.
    pub fn left_to_close(&self) -> usize {
        self.to_close.load(Ordering::Relaxed)
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection until either side closes it.
async fn carry(mut client: TcpStream, servers: Arc<[String]>, turn: Arc<AtomicUsize>) {
    loop {
        for _ in 0..servers.len() {
            let server = &servers[turn.fetch_add(1, Ordering::Relaxed) % servers.len()];
            if let Ok(mut server) = TcpStream::connect(server).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
