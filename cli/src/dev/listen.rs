//! The address to serve on.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::failure::Failure;

/// Reads `127.0.0.1:8275`, `[::1]:8275` or `localhost:8275`.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| {
        format!("`{text}` is not an address with a port; write it like 127.0.0.1:8275")
    })
}

/// What stands between a port and those who can reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    Open,
    /// Callers have to say who they are, and others may listen to that.
    Plaintext,
    /// Callers have to say who they are, over TLS or where somebody vouches for the way.
    Guarded,
    /// Nothing, or not enough, and somebody wants it so.
    Forced,
}

/// The address that was given, or the default. One that others can reach is refused unless that was asked for: whoever
/// reaches the port can run commands.
pub fn checked_listen(
    given: Option<SocketAddr>,
    default: &str,
    guard: Guard,
) -> Result<SocketAddr, Failure> {
    let listen = match given {
        Some(listen) => listen,
        None => parse_listen(default).map_err(Failure::Usage)?,
    };
    if listen.ip().is_loopback() {
        return Ok(listen);
    }
    match guard {
        Guard::Guarded | Guard::Forced => Ok(listen),
        Guard::Plaintext => Err(Failure::Usage(format!(
            "--listen {listen} can be reached by others, and without TLS they can read tokens on their way; give \
             --tls-cert and --tls-key, or add --plaintext-listen where TLS ends in front of it"
        ))),
        Guard::Open => Err(Failure::Usage(format!(
            "--listen {listen} can be reached by others, and there is no authentication: whoever reaches it can run \
             commands; give --auth-file or --auth-jwks, use a loopback address, or add --insecure-listen where something \
             else guards it"
        ))),
    }
}

/// Whether the address can be had, before anything is started for it.
pub fn ensure_free(listen: SocketAddr) -> Result<(), Failure> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Failure::Own(format!(
            "{listen} is taken, perhaps by another Taskyard; stop it, use it (--endpoint http://{listen}), or choose \
             another with --listen"
        ))),
        Err(error) => Err(Failure::Own(format!(
            "cannot listen on {listen}: {error}; choose another with --listen"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_everyone_needs_to_be_asked_for() {
        let open = parse_listen("0.0.0.0:8275").expect("an address");
        assert!(matches!(
            checked_listen(Some(open), "", Guard::Open),
            Err(Failure::Usage(_))
        ));
        assert!(checked_listen(Some(open), "", Guard::Plaintext).is_err());
        assert!(checked_listen(Some(open), "", Guard::Forced).is_ok());
        assert!(checked_listen(Some(open), "", Guard::Guarded).is_ok());
        let local = checked_listen(None, "localhost:8275", Guard::Open).expect("loopback");
        assert_eq!(local.to_string(), "127.0.0.1:8275");
        assert!(parse_listen("8275").is_err());
    }

    #[test]
    fn a_taken_port_is_told_at_once() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listen = taken.local_addr().expect("its address");
        let failure = ensure_free(listen).expect_err("it is taken");
        assert!(
            failure
                .to_string()
                .starts_with(&format!("{listen} is taken"))
        );
    }
}
