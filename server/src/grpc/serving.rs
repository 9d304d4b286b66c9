//! Connections from their first byte to their last. The transport serves each by itself, so that each can be told by itself
//! that its end has come: the transport's own age is the same for all, and never ends a stream.

use super::{
    connection::{Connection, Farewell},
    connection_age::Lifetime,
};
use futures::{Stream, StreamExt, stream};
use std::{io, pin::pin, time::Duration};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a connection may take to notice that it was cut.
pub(super) const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves connections until `shutdown`, then takes no more, and waits until those that are open have closed, each of
/// which is told to. `serve_one` serves what a stream brings, which is one connection, until the token says that it ends.
pub(super) async fn serve<F, S>(
    incoming: impl Stream<Item = Connection>,
    serve_one: F,
    max_age: Option<Duration>,
    shutdown: &CancellationToken,
) where
    F: Fn(OneConnection, CancellationToken) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let mut open = JoinSet::new();
    {
        // the port closes with the end of this block
        let mut incoming = pin!(incoming);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = open.join_next() => {}
                connection = incoming.next() => {
                    let Some(connection) = connection else { break };
                    let lifetime = max_age.map(|age| Lifetime::draw(age, &mut rand::rng()));
                    let farewell = connection.farewell();
                    let goodbye = shutdown.child_token();
                    let serving = serve_one(one(connection), either(&goodbye, &farewell));
                    open.spawn(live(serving, lifetime, goodbye, farewell));
                }
            }
        }
    }
    while open.join_next().await.is_some() {}
}

/// A stream of one connection, which then stays open: its end would be taken for the end of the server.
pub(super) type OneConnection = stream::BoxStream<'static, io::Result<Connection>>;

fn one(connection: Connection) -> OneConnection {
    stream::once(async { Ok(connection) })
        .chain(stream::pending())
        .boxed()
}

/// Cancelled when the connection shall close, and when it has.
fn either(goodbye: &CancellationToken, farewell: &Farewell) -> CancellationToken {
    let either = goodbye.child_token();
    let (closed, either_too) = (farewell.closed.clone(), either.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = closed.cancelled() => either_too.cancel(),
            () = either_too.cancelled() => {}
        }
    });
    either
}

async fn live(
    serving: impl Future<Output = ()>,
    lifetime: Option<Lifetime>,
    goodbye: CancellationToken,
    farewell: Farewell,
) {
    let mut serving = pin!(serving);
    let Some(lifetime) = lifetime else {
        return serving.await;
    };
    let steps = async {
        tokio::select! {
            () = sleep(lifetime.age) => {}
            // the shutdown has a patience of its own
            () = goodbye.cancelled() => return std::future::pending().await,
        }
        goodbye.cancel();
        sleep(lifetime.parting).await;
        farewell.streams_end.cancel();
        sleep(lifetime.last_calls).await;
    };
    tokio::select! {
        () = &mut serving => return,
        () = steps => {}
    }
    tracing::info!("calls are still open on a connection an hour after its age; they are cut");
    farewell.cut.cancel();
    // what does not notice goes with this task
    let _ = timeout(CUT_TIMEOUT, serving).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{grpc::connection, limits::connections::Connections};
    use tokio::net::{TcpListener, TcpStream};

    /// How a connection was served that closes by itself, if at all, when it was cut.
    async fn lived(age: Option<Duration>) -> (CancellationToken, Farewell) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mut incoming = pin!(connection::accept(
            listener,
            None,
            Connections::unlimited(),
            CancellationToken::new(),
        ));
        let _client = TcpStream::connect(address).await.expect("connects");
        let connection = incoming.next().await.expect("endless");
        let (goodbye, farewell) = (CancellationToken::new(), connection.farewell());
        let told = either(&goodbye, &farewell);
        let cut = farewell.cut.clone();
        let serving = async move {
            let _connection = connection;
            cut.cancelled().await;
        };
        let lifetime = age.map(|age| Lifetime::draw(age, &mut rand::rng()));
        tokio::time::pause();
        timeout(
            Duration::from_secs(7_200),
            live(serving, lifetime, goodbye, farewell.clone()),
        )
        .await
        .ok();
        (told, farewell)
    }

    #[tokio::test]
    async fn an_aged_connection_says_goodbye_ends_its_streams_and_is_cut_at_last() {
        let (told, farewell) = lived(Some(Duration::from_secs(60))).await;
        assert!(told.is_cancelled());
        assert!(farewell.streams_end.is_cancelled());
        assert!(farewell.cut.is_cancelled());
    }

    #[tokio::test]
    async fn without_an_age_a_connection_lives_on() {
        let (told, farewell) = lived(None).await;
        assert!(!told.is_cancelled() || farewell.closed.is_cancelled());
        assert!(!farewell.streams_end.is_cancelled());
        assert!(!farewell.cut.is_cancelled());
    }
}
