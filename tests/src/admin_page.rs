//! The port for probes and scrapes, asked over plain HTTP.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::wait::{SOON, within};

/// How the programs say where the port is.
const SAID: &str = "probes and metrics on http://";

/// Somebody's port.
#[derive(Debug, Clone)]
pub struct AdminPage {
    address: String,
}

impl AdminPage {
    /// That of a program that was started with `TASKYARD_ADMIN_LISTEN=127.0.0.1:0`, from its log.
    pub fn of(process: &Process) -> AdminPage {
        let log = process.log();
        let line = log.split(SAID).last().unwrap_or_default();
        let address = line.lines().next().unwrap_or_default().trim().to_owned();
        assert!(!address.is_empty(), "no admin port in the log:\n{log}");
        AdminPage { address }
    }

    /// Status and body of an answer; 0 where there is none.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let asking = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = within("an answer of the admin port", SOON, asking).await;
        let answer = answer.unwrap_or_default();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.unwrap_or(0), body.to_owned())
    }

    /// The samples of the metrics page, by name and labels as they are written there.
    pub async fn samples(&self) -> BTreeMap<String, f64> {
        let (status, page) = self.get("/metrics").await;
        assert_eq!(status, 200, "{page}");
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (
                name.to_owned(),
                value.parse().unwrap_or_else(|_| panic!("{line}")),
            )
        });
        samples.collect()
    }
}
