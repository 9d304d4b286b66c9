//! Where a webhook is delivered.

use http::{Uri, uri::PathAndQuery};
use std::net::IpAddr;
use taskyard_core::webhook::is_public;

/// Longest URL, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

/// A URL that can be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether it is called over TLS.
    pub is_tls: bool,
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Host and port as the URL has them, for the header `host`.
    pub authority: String,
    /// What is called there.
    pub path: PathAndQuery,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        if url.is_empty() || url.len() > MAX_URL_BYTES {
            return Err("must have 1 to 2048 bytes");
        }
        let uri: Uri = url.parse().map_err(|_| "is no URL")?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err("must begin with http:// or https://"),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("must not hold a user name or password; sign deliveries with a secret");
        }
        let host = authority.host();
        if host.is_empty() {
            return Err("names no host");
        }
        if is_odd_address(host) {
            return Err("names an address in an unusual form; write it as four decimal numbers");
        }
        let has_port_text = authority.as_str().len() > host.len();
        let port = match authority.port_u16() {
            Some(0) => return Err("its port is not a number from 1 to 65535"),
            Some(port) => port,
            None if has_port_text => return Err("its port is not a number from 1 to 65535"),
            None if is_tls => 443,
            None => 80,
        };
        Ok(Self {
            is_tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
        })
    }

    /// Whether the URL itself says that it does not lead to the public internet: by an address, or by a name that always
    /// means the machine itself. Any other name has to be looked up first.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => !is_public(address),
            Err(_) => {
                let name = self.host.trim_end_matches('.').to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }
}

/// Whether a host is what resolvers take for an address, such as `127.1` or `0x7f000001`, and we do not: such a name
/// ends in a number.
fn is_odd_address(host: &str) -> bool {
    if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
        return false;
    }
    let last = host.trim_end_matches('.').rsplit('.').next();
    last.is_some_and(|last| {
        let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        hex.map_or_else(
            || !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
            |hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_and_what() {
        let target = Target::parse("https://hooks.example/a/b?c=d").expect("a URL");
        assert_eq!(
            (target.is_tls, target.host.as_str(), target.port),
            (true, "hooks.example", 443)
        );
        assert_eq!(target.path, "/a/b?c=d");
        let target = Target::parse("http://[::1]:8080").expect("a URL");
        assert_eq!(
            (target.is_tls, target.host.as_str(), target.port),
            (false, "::1", 8080)
        );
        assert_eq!(
            (target.path.as_str(), target.authority.as_str()),
            ("/", "[::1]:8080")
        );
    }

    #[test]
    fn what_cannot_be_called_is_refused() {
        let long = format!("http://a/{}", "x".repeat(MAX_URL_BYTES));
        for bad in [
            "",
            "a.example",
            "/path",
            "ftp://a.example/",
            "http://",
            "http://user@a.example/",
            "http://user:word@a.example/",
            "http://a.example:0/",
            "http://a.example:99999/",
            "http://a b/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0x7f000001/",
            "http://0177.0.0.01/",
            "http://127.0.0.1./",
            long.as_str(),
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn private_addresses_are_known_in_a_url() {
        for (url, is_private) in [
            ("http://127.0.0.1/", true),
            ("http://[::ffff:10.0.0.1]/", true),
            ("http://169.254.169.254/latest", true),
            ("http://1.1.1.1/", false),
            ("http://localhost/", true),
            ("http://LocalHost.:8080/", true),
            ("https://a.b.localhost/", true),
            ("http://localhost.example/", false),
            ("http://mylocalhost/", false),
        ] {
            let target = Target::parse(url).expect(url);
            assert_eq!(target.is_private(), is_private, "{url}");
        }
    }
}
