//! One server, from its start to its end.

use crate::{
    app::App,
    audit::AuditLog,
    background,
    commit::{Commits, CreationLimits},
    config::{
        AUDIT_RETENTION_RANGE, CONNECTION_AGE_RANGE, MAX_SHUTDOWN_DELAY, OBJECT_GRACE_RANGE,
        ServerConfig,
    },
    control::{
        lease_holders::LeaseHolders, list_queues::QueueCounts, namespace::NameCache,
        namespace_counts::NamespaceCounts, namespace_room::NamespaceRoom,
        task_sessions::TaskSessions, task_traits::TraitCache,
    },
    dispatch::{self, Registry, Routes},
    events::Events,
    grpc::endpoint,
    identity::{Authenticator, authenticator::AuthFiles, tls::Tls, watched_files::WatchedFiles},
    key_ring::KeyRing,
    limits::{callers::Callers, connections::Connections},
    objects::ObjectStorage,
    output::OutputWriters,
    probe::ServerProbe,
    serve_error::ServeError,
    store::{self, Store, migrate::MigrateReport},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long the loops may take to end once nothing is served any more.
const LOOPS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the writers may take to finish what they were given.
const WRITERS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the database connections may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that has its port and its database, and is ready to serve.
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    local_addr: SocketAddr,
    /// The committers of changes and the writers of output.
    writers: JoinSet<()>,
    tls_files: Option<WatchedFiles>,
    auth_files: AuthFiles,
    shutdown_delay: Duration,
}

/// Brings a database to this version's schema. What is there already stays. One that `is_restored` from a copy is
/// declared another store, so that nobody goes on with a cursor that was made after the copy.
///
/// # Errors
/// [`ServeError::Database`].
pub async fn migrate(database_url: &str, is_restored: bool) -> Result<MigrateReport, ServeError> {
    let store = Store::connect(database_url).await?;
    let migrating = async {
        let report = store::migrate::migrate(&store).await?;
        if is_restored {
            store::identity::renew_identity(&store).await?;
        }
        Ok(report)
    };
    let migrated = migrating.await;
    close(&store).await;
    migrated.map_err(ServeError::Database)
}

impl Server {
    /// Connects to the database, brings its schema up to date and takes the port. Nothing is served yet.
    ///
    /// # Errors
    /// Any [`ServeError`] but the last two.
    pub async fn bind(config: ServerConfig) -> Result<Self, ServeError> {
        let lease = config
            .lease_durations()
            .ok_or(ServeError::LeaseOutOfRange {
                lease: config.lease.unwrap_or_default(),
            })?;
        if !OBJECT_GRACE_RANGE.contains(&config.object_grace) {
            return Err(ServeError::ObjectGraceOutOfRange {
                grace: config.object_grace,
            });
        }
        let objects = config
            .object_store
            .as_ref()
            .map(ObjectStorage::open)
            .transpose()?;
        let secret_keys = match &config.secret_key_file {
            Some(path) => KeyRing::read(path)?,
            None => KeyRing::default(),
        };
        if !AUDIT_RETENTION_RANGE.contains(&config.audit_retention) {
            return Err(ServeError::AuditRetentionOutOfRange {
                age: config.audit_retention,
            });
        }
        if let Some(age) = config.max_connection_age
            && !CONNECTION_AGE_RANGE.contains(&age)
        {
            return Err(ServeError::ConnectionAgeOutOfRange { age });
        }
        let (tls, tls_files) = match config.tls.clone().map(Tls::open).transpose()? {
            Some((tls, files)) => (Some(tls), Some(files)),
            None => (None, None),
        };
        let (authenticator, auth_files) = Authenticator::open(&config.auth)?;
        let store = Store::connect(&config.database_url).await?;
        let report = store::migrate::migrate(&store).await?;
        for migration in &report.applied {
            tracing::info!(%migration, "the database's schema was changed");
        }
        if report.version > report.known {
            tracing::info!(
                schema = report.version,
                known = report.known,
                "the database's schema is newer than this server, which goes on with what it knows"
            );
        }
        let identity = store::identity::store_identity(&store).await?;
        let listen_error = |error| ServeError::listen(config.listen, error);
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;
        let events = Events::new(store.clone(), identity);
        let mut writers = JoinSet::new();
        let creation_limits = CreationLimits {
            tree: config.tree,
            session_tasks: config.limits.tasks.session,
        };
        let commits = Commits::start(&store, &events, creation_limits, &mut writers).await?;
        let outputs = OutputWriters::start(&store, &events, &mut writers).await?;
        let audit = AuditLog::start(&store, &mut writers);
        let app = Arc::new(App {
            store,
            events,
            commits,
            outputs,
            registry: Registry::default(),
            routes: Routes::default(),
            task_sessions: TaskSessions::default(),
            task_traits: TraitCache::default(),
            lease,
            min_monitor_interval: config.monitor_interval(),
            names: NameCache::default(),
            queue_counts: QueueCounts::default(),
            namespace_counts: NamespaceCounts::default(),
            namespace_room: NamespaceRoom::new(config.limits.tasks),
            file_quotas: config.file_quotas,
            objects,
            object_grace: config.object_grace,
            secret_keys,
            allow_private_webhooks: config.allow_private_webhooks,
            authenticator,
            tls,
            callers: Callers::new(config.limits.calls),
            connections: Connections::new(config.limits.connections),
            audit,
            audit_retention: config.audit_retention,
            lease_holders: LeaseHolders::default(),
            max_connection_age: config.max_connection_age,
            leaving: CancellationToken::new(),
            shutdown: CancellationToken::new(),
        });
        Ok(Self {
            app,
            shutdown_delay: config.shutdown_delay.min(MAX_SHUTDOWN_DELAY),
            listener,
            local_addr,
            writers,
            tls_files,
            auth_files,
        })
    }

    /// Where the server listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Looks whether the server is ready, also while it serves and when it has ended.
    #[must_use]
    pub fn probe(&self) -> ServerProbe {
        ServerProbe {
            store: self.app.store.clone(),
            leaving: self.app.leaving.clone(),
        }
    }

    /// Serves until `shutdown`, then its health turns bad, and it goes on for the delay that it was told. Then it ends within
    /// 15 seconds: connections take no new calls, long streams end, other calls have five seconds, the loops stop, what was
    /// accepted is committed, the database connections close.
    ///
    /// # Errors
    /// [`ServeError::Endpoint`] and [`ServeError::LoopEnded`]; the server has ended all the same.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self {
            app,
            listener,
            local_addr,
            mut writers,
            tls_files,
            auth_files,
            shutdown_delay,
        } = self;
        tracing::info!(%local_addr, "serving");
        let mut loops = start_loops(&app);
        watch_credentials(&app, tls_files, auth_files, &mut loops);
        let serving = async {
            let served = endpoint::serve(app.clone(), listener).await;
            app.leaving.cancel();
            app.shutdown.cancel();
            served
        };
        let watching = async {
            let told = async {
                shutdown.cancelled().await;
                app.leaving.cancel();
                // whoever balances the load learns of it meanwhile, and brings nobody new
                sleep(shutdown_delay).await;
            };
            let ended_itself = tokio::select! {
                () = told => false,
                () = app.shutdown.cancelled() => false,
                Some(_) = loops.join_next() => true,
                Some(_) = writers.join_next() => true,
            };
            app.leaving.cancel();
            app.shutdown.cancel();
            ended_itself
        };
        let (served, ended_itself) = tokio::join!(serving, watching);
        stop("loops", loops, LOOPS_TIMEOUT).await;
        let store = app.store.clone();
        // the writers end when nobody can give them anything any more
        drop(app);
        stop("writers", writers, WRITERS_TIMEOUT).await;
        close(&store).await;
        served?;
        if ended_itself {
            return Err(ServeError::LoopEnded);
        }
        tracing::info!(%local_addr, "the server has ended");
        Ok(())
    }
}

/// Starts what goes on without being called for. Every loop ends with `app.shutdown`.
fn start_loops(app: &Arc<App>) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    loops.spawn({
        let (events, shutdown) = (app.events.clone(), app.shutdown.clone());
        async move { events.run(shutdown).await }
    });
    loops.spawn({
        let app = app.clone();
        async move { dispatch::run(&app).await }
    });
    background::start(app, &mut loops);
    loops
}

/// Reads certificates, keys and lists again when they change.
fn watch_credentials(
    app: &Arc<App>,
    tls_files: Option<WatchedFiles>,
    auth_files: AuthFiles,
    loops: &mut JoinSet<()>,
) {
    if let (Some(tls), Some(files)) = (app.tls.clone(), tls_files) {
        let shutdown = app.shutdown.clone();
        loops.spawn(async move { tls.run(files, shutdown).await });
    }
    let (authenticator, shutdown) = (Arc::clone(&app.authenticator), app.shutdown.clone());
    loops.spawn(async move { authenticator.run(auth_files, shutdown).await });
}

/// Waits for tasks to end by themselves, then ends them.
async fn stop(what: &'static str, mut tasks: JoinSet<()>, patience: Duration) {
    let ending = async { while tasks.join_next().await.is_some() {} };
    if timeout(patience, ending).await.is_err() {
        tracing::warn!("the {what} did not end within {patience:?}; they are stopped");
        tasks.shutdown().await;
    }
}

async fn close(store: &Store) {
    if timeout(CLOSE_TIMEOUT, store.close()).await.is_err() {
        tracing::warn!("the database connections did not close within {CLOSE_TIMEOUT:?}");
    }
}
