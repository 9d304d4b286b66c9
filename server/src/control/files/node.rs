//! What is at a path.

use super::{
    log_view::LogView,
    system_path::{LogStream, SystemPlace},
};
use crate::{
    app::App,
    control::{
        refusal::{Refusal, Resource},
        result_json,
    },
    store::{
        files::{self, FileRow},
        task_files::{self, StreamKey, TaskFolder},
    },
};
use taskyard_core::{
    id::{SessionUid, TaskId},
    vfs::SessionPath,
};
use taskyard_proto::v1::{FileInfo, FileType};

/// What is at a path.
#[derive(Clone, Debug)]
pub enum Node {
    /// A folder.
    Folder(FileInfo),
    /// A file that was written.
    Stored(FileInfo),
    /// A file that is rendered whole.
    Rendered(FileInfo, String),
    /// A view over a stream.
    Log(FileInfo, StreamKey, LogView),
}

impl Node {
    /// What the wire tells about it.
    #[must_use]
    pub fn into_info(self) -> FileInfo {
        match self {
            Self::Folder(info)
            | Self::Stored(info)
            | Self::Rendered(info, _)
            | Self::Log(info, _, _) => info,
        }
    }
}

/// Finds what is at a path of a session.
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn find_node(
    app: &App,
    session: SessionUid,
    path: &SessionPath,
) -> Result<Node, Refusal> {
    if path.is_root() {
        return Ok(Node::Folder(folder_info(path.as_str())));
    }
    if !path.is_system() {
        return find_stored(app, session, path).await;
    }
    let place = SystemPlace::of(path).ok_or_else(|| no_file(path))?;
    let task = match place {
        SystemPlace::Tasks => return Ok(Node::Folder(folder_info(path.as_str()))),
        SystemPlace::Task(task)
        | SystemPlace::Result(task)
        | SystemPlace::Log { task, .. }
        | SystemPlace::Runs(task)
        | SystemPlace::Run(task, _)
        | SystemPlace::Stored(task) => task,
    };
    let folder = task_files::find_task_folder(app.store.pool(), session, task)
        .await?
        .ok_or_else(|| no_file(path))?;
    match place {
        SystemPlace::Tasks | SystemPlace::Task(_) => Ok(Node::Folder(folder_info(path.as_str()))),
        SystemPlace::Result(_) if folder.is_terminal => find_result(app, session, task, path).await,
        SystemPlace::Log { run, stream, .. } if has_log(folder, run) => {
            let run = run.unwrap_or(folder.run);
            find_log(app, path, folder, task, run, stream).await
        }
        SystemPlace::Runs(_) if folder.run >= 2 => Ok(Node::Folder(folder_info(path.as_str()))),
        SystemPlace::Run(_, run) if has_log(folder, Some(run)) => {
            Ok(Node::Folder(folder_info(path.as_str())))
        }
        SystemPlace::Stored(_) => find_stored(app, session, path).await,
        SystemPlace::Result(_)
        | SystemPlace::Log { .. }
        | SystemPlace::Runs(_)
        | SystemPlace::Run(_, _) => Err(no_file(path)),
    }
}

/// What the wire tells about a folder.
#[must_use]
pub fn folder_info(path: &str) -> FileInfo {
    FileInfo {
        path: path.to_owned(),
        r#type: FileType::Directory.into(),
        ..FileInfo::default()
    }
}

/// What the wire tells about a file that was written.
#[must_use]
pub fn stored_file_info(file: FileRow) -> FileInfo {
    FileInfo {
        path: file.path,
        r#type: FileType::File.into(),
        size: file.size,
        version: file.version,
        modified_at: Some(file.modified_at),
    }
}

/// There is nothing at this path.
#[must_use]
pub fn no_file(path: &SessionPath) -> Refusal {
    Refusal::NotFound {
        resource: Resource::File,
        name: path.to_string(),
    }
}

/// Whether there is a log: of the last run once there was one; of run N where there were several.
fn has_log(folder: TaskFolder, run: Option<i32>) -> bool {
    match run {
        None => folder.run >= 1,
        Some(run) => folder.run >= 2 && run <= folder.run,
    }
}

async fn find_stored(app: &App, session: SessionUid, path: &SessionPath) -> Result<Node, Refusal> {
    if let Some(file) = files::find_file(app.store.pool(), session, path.as_str()).await? {
        return Ok(Node::Stored(stored_file_info(file)));
    }
    if files::is_folder(app.store.pool(), session, path).await? {
        return Ok(Node::Folder(folder_info(path.as_str())));
    }
    Err(no_file(path))
}

async fn find_result(
    app: &App,
    session: SessionUid,
    task: TaskId,
    path: &SessionPath,
) -> Result<Node, Refusal> {
    let (record, text) = result_json::load(app, session, task).await?;
    let info = FileInfo {
        path: path.to_string(),
        r#type: FileType::File.into(),
        size: i64::try_from(text.len()).unwrap_or(i64::MAX),
        version: 0,
        modified_at: record.task.updated_at,
    };
    Ok(Node::Rendered(info, text))
}

async fn find_log(
    app: &App,
    path: &SessionPath,
    folder: TaskFolder,
    task: TaskId,
    run: i32,
    stream: LogStream,
) -> Result<Node, Refusal> {
    let key = StreamKey {
        task,
        run,
        stream: stream.stored(),
    };
    let stored = task_files::find_stored_stream(app.store.pool(), key).await?;
    let run_is_over = folder.is_terminal || run < folder.run;
    let view = LogView::new(&stored.ranges, stored.total, run_is_over);
    let info = FileInfo {
        path: path.to_string(),
        r#type: FileType::File.into(),
        size: i64::try_from(view.size()).unwrap_or(i64::MAX),
        version: 0,
        modified_at: stored.newest_at.or(Some(folder.updated_at)),
    };
    Ok(Node::Log(info, key, view))
}
