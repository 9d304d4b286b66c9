//! `self artifact`: something that the work produced.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{Artifact, PublishArtifactRequest};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::file_transfer::{CHUNK_LEN, read_whole};

/// Longest time for a whole file.
const UPLOAD_LIMIT: Duration = Duration::from_secs(120);
/// How long to try while the server cannot be reached.
const PATIENCE: Duration = Duration::from_secs(300);

/// Publish an artifact: a file, which is stored now, or a reference; prints where it is
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard self artifact report.html
  make dot | taskyard self artifact - --name graph.svg --type image/svg+xml
  taskyard self artifact --url https://ci.example/build/7 --name build

One of the same name is replaced. A file has at most 16 MiB.

Exit codes: 0 published, 1 refused, 2 usage, 125 the lease is lost or the server failed")]
pub struct ArtifactArguments {
    /// The file; - for standard input
    #[arg(required_unless_present = "url", conflicts_with = "url")]
    pub file: Option<String>,
    /// An address, in place of a file
    #[arg(long, requires = "name")]
    pub url: Option<String>,
    /// Name, unique within the task [default: that of the file]
    #[arg(long)]
    pub name: Option<String>,
    /// What it is [default: file or url]
    #[arg(long = "type", value_name = "TYPE")]
    pub artifact_type: Option<String>,
}

/// Publishes it.
pub async fn execute(
    arguments: ArtifactArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let messages = match &arguments.file {
        Some(file) => {
            let content = read_whole(file).await?;
            parts(artifact(&arguments, file)?, &content)
        }
        None => vec![PublishArtifactRequest {
            artifact: Some(artifact(&arguments, "")?),
            data: Default::default(),
            is_file: false,
        }],
    };
    let connection = Connection::open(global).await?;
    let answer = connection
        .call_within(UPLOAD_LIMIT, PATIENCE, || {
            let mut agent = connection.agent();
            let messages = messages.clone();
            async move { agent.publish_artifact(tokio_stream::iter(messages)).await }
        })
        .await?;
    let stored = answer.artifact.unwrap_or_default();
    let place = if stored.path.is_empty() {
        stored.url
    } else {
        stored.path
    };
    console::print(&format!("{place}\n"))?;
    Ok(ExitCode::Success)
}

fn artifact(arguments: &ArtifactArguments, file: &str) -> Result<Artifact, Failure> {
    let name = match (&arguments.name, file) {
        (Some(name), _) => name.clone(),
        (None, "-") => {
            return Err(Failure::Usage(
                "standard input has no name; give one with --name".to_owned(),
            ));
        }
        (None, file) => {
            let name = Path::new(file).file_name().and_then(|name| name.to_str());
            name.ok_or_else(|| {
                Failure::Usage(format!("{file} has no usable name; give one with --name"))
            })?
            .to_owned()
        }
    };
    let default_type = if arguments.url.is_some() {
        "url"
    } else {
        "file"
    };
    Ok(Artifact {
        name,
        r#type: arguments
            .artifact_type
            .clone()
            .unwrap_or_else(|| default_type.to_owned()),
        path: String::new(),
        url: arguments.url.clone().unwrap_or_default(),
    })
}

/// The file in pieces, the artifact with the first; an empty file is one piece.
fn parts(artifact: Artifact, content: &[u8]) -> Vec<PublishArtifactRequest> {
    let (first, rest) = content.split_at(content.len().min(CHUNK_LEN));
    let mut messages = vec![PublishArtifactRequest {
        artifact: Some(artifact),
        data: first.to_vec().into(),
        is_file: true,
    }];
    messages.extend(rest.chunks(CHUNK_LEN).map(|data| PublishArtifactRequest {
        artifact: None,
        data: data.to_vec().into(),
        is_file: false,
    }));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_up_in_pieces_and_an_empty_one_in_one() {
        let content = vec![7; 2 * CHUNK_LEN + 1];
        let messages = parts(Artifact::default(), &content);
        assert_eq!(messages.len(), 3);
        let sent: usize = messages.iter().map(|message| message.data.len()).sum();
        assert_eq!(sent, content.len());
        assert!(messages[0].is_file && messages[0].artifact.is_some());
        assert_eq!(parts(Artifact::default(), b"").len(), 1);
    }
}
