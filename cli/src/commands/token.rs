//! `token`: makes a token, and the entry by which a server knows it.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{SecondsFormat, Utc};
use clap::{Args, Subcommand, ValueEnum};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use crate::arguments::parse_filled;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::parse_duration;

/// What every token begins with, so that one that leaks is recognised.
const PREFIX: &str = "tky_";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// Make tokens for a server with --auth-file
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard token new --name ci --role client --namespaces team-a --expires 30d
  taskyard token new --name gpu-pool --role worker --pools gpu
  taskyard token new --name ops --role admin

Exit codes: 0 done, 2 usage, 125 failed. Nothing is sent to a server: `token new --help` says how")]
pub struct TokenArguments {
    #[command(subcommand)]
    pub verb: TokenVerb,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    New(NewArguments),
}

/// Make a random token, shown once, and the entry of the server's --auth-file
#[derive(Debug, Args)]
#[command(
    after_help = "The token is shown on standard error, the entry goes to standard output; the entry holds a hash only.
A new auth.yaml begins with the line `tokens:`, and the entries stand below it.

Examples:
  taskyard token new --name ci --role client --namespaces team-a --expires 30d
  taskyard token new --name reviewer --role viewer --approver --sessions 'release-*'
  echo tokens: > auth.yaml
  taskyard token new --name gpu-pool --role worker --pools gpu >> auth.yaml

Exit codes: 0 done, 2 usage, 125 failed"
)]
pub struct NewArguments {
    /// Who holds it; the audit log shows this
    #[arg(long, value_parser = parse_filled)]
    pub name: String,
    /// What it may do
    #[arg(long)]
    pub role: RoleName,
    /// It may answer questions that are for approvers, too
    #[arg(long)]
    pub approver: bool,
    /// Namespaces that it reaches; a `*` at the end stands for any rest [default: all]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Sessions that it reaches, the same way [default: all]
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    pub sessions: Vec<String>,
    /// Pools that a worker may be of, the same way [default: all, and none]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub pools: Vec<String>,
    /// For how long it is good [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expires: Option<Duration>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    Viewer,
    Client,
    Approver,
    Worker,
    Admin,
}

impl RoleName {
    fn word(self) -> &'static str {
        match self {
            RoleName::Viewer => "viewer",
            RoleName::Client => "client",
            RoleName::Approver => "approver",
            RoleName::Worker => "worker",
            RoleName::Admin => "admin",
        }
    }
}

/// Makes one.
pub fn execute(arguments: TokenArguments) -> Result<ExitCode, Failure> {
    let TokenVerb::New(new) = arguments.verb;
    if new.role == RoleName::Worker
        && (new.approver || !new.namespaces.is_empty() || !new.sessions.is_empty())
    {
        return Err(Failure::Usage(
            "a worker runs tasks of all namespaces and sessions and approves nothing; narrow it with --pools"
                .to_owned(),
        ));
    }
    let mut bytes = [0; TOKEN_BYTES];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Failure::own(&error))?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let entry = entry(&new, &token)?;
    console::note(&format!(
        "the token, which is shown this once; give it as TASKYARD_TOKEN or in TASKYARD_TOKEN_FILE:\n{token}\n\
         the entry for `tokens:` in the server's --auth-file:"
    ));
    console::print(&entry)?;
    Ok(ExitCode::Success)
}

/// The entry, as one item of the list `tokens`. Strings are written as JSON, which YAML is a superset of.
fn entry(new: &NewArguments, token: &str) -> Result<String, Failure> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut entry = format!("- name: {}\n", quoted(&new.name));
    let hash = Sha256::digest(token.as_bytes());
    let hash = hash.iter().fold(String::new(), |mut text, byte| {
        // writing to a string cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    });
    entry.push_str(&format!(
        "  sha256: \"{hash}\"\n  role: {}\n",
        new.role.word()
    ));
    if new.approver {
        entry.push_str("  approver: true\n");
    }
    for (name, list) in [
        ("namespaces", &new.namespaces),
        ("sessions", &new.sessions),
        ("pools", &new.pools),
    ] {
        if !list.is_empty() {
            let list: Vec<String> = list.iter().map(|item| quoted(item)).collect();
            entry.push_str(&format!("  {name}: [{}]\n", list.join(", ")));
        }
    }
    if let Some(expires) = new.expires {
        let at = chrono::Duration::from_std(expires)
            .ok()
            .and_then(|expires| Utc::now().checked_add_signed(expires))
            .ok_or_else(|| Failure::Usage("--expires lies too far ahead".to_owned()))?;
        let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        entry.push_str(&format!("  expires_at: \"{at}\"\n"));
    }
    Ok(entry)
}
