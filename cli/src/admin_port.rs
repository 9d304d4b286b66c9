//! The port for probes and scrapes, as `server`, `worker` and `dev` open it.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use taskyard_telemetry::admin::{Admin, Probe};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::console;
use crate::dev::listen::parse_listen;
use crate::failure::Failure;

/// Where servers listen for probes and scrapes if nothing else is said.
pub const DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8276);

/// Where to listen for probes and scrapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminListen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

/// The flag.
#[derive(Debug, Clone, Args)]
pub struct AdminArguments {
    /// Probes and metrics by HTTP, or off
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "TASKYARD_ADMIN_LISTEN",
        hide_env_values = true,
        value_parser = parse
    )]
    admin_listen: Option<AdminListen>,
}

fn parse(text: &str) -> Result<AdminListen, String> {
    match text {
        "off" => Ok(AdminListen::Off),
        address => parse_listen(address)
            .map(AdminListen::At)
            .map_err(|complaint| format!("{complaint}, or off")),
    }
}

impl AdminArguments {
    /// Opens the port: as it was asked for, else at `default`, where a taken port is told and left. Without a default
    /// there is none.
    pub async fn open(&self, default: Option<SocketAddr>) -> Result<AdminPort, Failure> {
        let (listen, is_asked_for) = match (self.admin_listen, default) {
            (Some(AdminListen::Off), _) | (None, None) => return Ok(AdminPort::closed()),
            (Some(AdminListen::At(listen)), _) => (listen, true),
            (None, Some(listen)) => (listen, false),
        };
        let admin = Admin::default();
        let bound = match admin.clone().bind(listen).await {
            Ok(bound) => bound,
            Err(error) if is_asked_for => {
                return Err(Failure::Own(format!(
                    "cannot listen on {listen} for probes and metrics: {error}; choose another with --admin-listen, or off"
                )));
            }
            Err(error) => {
                console::note(&format!(
                    "no probes and metrics: {listen} cannot be had ({error}); choose another with --admin-listen"
                ));
                return Ok(AdminPort::closed());
            }
        };
        if listen != DEFAULT {
            console::note(&format!(
                "probes and metrics on http://{}",
                bound.local_addr()
            ));
        }
        let shutdown = CancellationToken::new();
        tokio::spawn(bound.serve(shutdown.clone()));
        Ok(AdminPort {
            admin,
            _shutdown: Some(shutdown.drop_guard()),
        })
    }
}

/// An open port, or none; it is closed when this is dropped.
#[derive(Debug)]
pub struct AdminPort {
    admin: Admin,
    _shutdown: Option<DropGuard>,
}

impl AdminPort {
    fn closed() -> AdminPort {
        AdminPort {
            admin: Admin::default(),
            _shutdown: None,
        }
    }

    /// Everything is started; `probe` says from now on whether it is ready.
    pub fn started(&self, probe: impl Probe) {
        self.admin.started(Arc::new(probe));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_an_address_or_off() {
        assert_eq!(parse("off"), Ok(AdminListen::Off));
        assert_eq!(parse("localhost:8276"), Ok(AdminListen::At(DEFAULT)));
        assert!(parse("8276").is_err_and(|complaint| complaint.contains("or off")));
    }

    #[tokio::test]
    async fn a_taken_default_is_left_and_a_taken_choice_is_told() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = taken
            .local_addr()
            .map(|address| (address, taken))
            .expect("its address");
        let usual = AdminArguments { admin_listen: None };
        assert!(usual.open(Some(taken.0)).await.is_ok());
        let asked = AdminArguments {
            admin_listen: Some(AdminListen::At(taken.0)),
        };
        let failure = asked.open(None).await.expect_err("it is taken");
        assert!(failure.to_string().contains("--admin-listen"), "{failure}");
    }
}
