//! Listing all files below a folder.

use super::{
    file_walk::{FileWalk, WalkPlace},
    node::find_node,
    stat_file::parse_path,
};
use crate::{
    app::App,
    control::{page_token, refusal::Refusal},
};
use taskyard_core::{id::SessionUid, vfs::SessionPath};
use taskyard_proto::v1::FileInfo;

/// One page of the files at and below a path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilePage {
    /// The files.
    pub files: Vec<FileInfo>,
    /// Token for the next page; empty: this was the last.
    pub next_page_token: String,
    /// Whether the path is a folder.
    pub is_folder: bool,
}

/// Lists the file at a path, or all files below it, in the order of [`FileWalk`].
///
/// # Errors
/// [`Refusal::NotFound`] for the path, [`Refusal::BadToken`], [`Refusal::Store`].
pub async fn list_below(
    app: &App,
    session: SessionUid,
    path: &SessionPath,
    token: &str,
    limit: usize,
) -> Result<FilePage, Refusal> {
    let uid = session.0.to_string();
    let scope = ["list below", uid.as_str(), path.as_str()];
    let from = match page_token::decode(&scope, token)? {
        None => None,
        Some(position) => Some(read_place(&position)?),
    };
    let mut walk = FileWalk::start(app, session, path, from.as_ref()).await?;
    let mut page = FilePage {
        is_folder: walk.is_folder(),
        ..FilePage::default()
    };
    while let Some(file) = walk.next_file().await? {
        let info = match file.written {
            Some(info) => info,
            None => match find_node(app, session, &parse_path(&file.place.path)?).await {
                Ok(node) => node.into_info(),
                Err(Refusal::NotFound { .. }) => continue,
                Err(refusal) => return Err(refusal),
            },
        };
        if page.files.len() == limit {
            let position = format!("{}\n{}", file.place.ordinal, file.place.path);
            page.next_page_token = page_token::encode(&scope, &position);
            break;
        }
        page.files.push(info);
    }
    Ok(page)
}

fn read_place(position: &str) -> Result<WalkPlace, Refusal> {
    position
        .split_once('\n')
        .and_then(|(ordinal, path)| {
            Some(WalkPlace {
                ordinal: ordinal.parse().ok()?,
                path: path.to_owned(),
            })
        })
        .ok_or(Refusal::BadToken {
            field: "page_token",
            problem: "no server made this token",
        })
}
