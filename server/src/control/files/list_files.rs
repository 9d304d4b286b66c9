//! Listing a folder.

use super::{
    list_below,
    node::{Node, find_node, folder_info, no_file, stored_file_info},
    stat_file::parse_path,
    system_path::{ARTIFACTS, COLLECT, LogStream, OUTPUT, RESULT, RUNS, SystemPlace, task_folder},
};
use crate::{
    app::App,
    control::{namespace, page_token, refusal::Refusal},
    store::{
        files::{self, Entry},
        task_files,
    },
};
use taskyard_core::{
    id::{SessionUid, TaskId},
    vfs::SessionPath,
};
use taskyard_proto::v1::{FileInfo, ListRequest, ListResponse};

const DEFAULT_PAGE: u32 = 500;
const LARGEST_PAGE: u32 = 1_000;

/// Lists a folder by name, where a folder's name counts with a `/` at its end; `/.tasks` lists its tasks oldest first,
/// which is by name too. With `recursive` all files below it are listed, as [`list_below()`] does.
///
/// # Errors
/// [`Refusal::NotFound`] for the session or the folder, [`Refusal::InvalidPath`], [`Refusal::WrongFileType`] for a
/// file, [`Refusal::BadToken`], [`Refusal::InvalidField`], [`Refusal::Store`].
pub async fn list_files(app: &App, request: &ListRequest) -> Result<ListResponse, Refusal> {
    let path = match request.path.as_str() {
        "" => "/",
        path => path,
    };
    let path = parse_path(path)?;
    let limit = page_token::page_size(request.page_size, DEFAULT_PAGE, LARGEST_PAGE)?;
    let session = namespace::find_session(app, &request.namespace, &request.session_id).await?;
    if request.recursive {
        return list_all(app, session, &path, &request.page_token, limit as usize).await;
    }
    let uid = session.0.to_string();
    let scope = ["list files", uid.as_str(), path.as_str()];
    let from = page_token::decode(&scope, &request.page_token)?;
    match find_node(app, session, &path).await? {
        Node::Folder(_) => {}
        Node::Stored(_) | Node::Rendered(_, _) | Node::Log(_, _, _) => {
            return Err(not_a_folder(&path));
        }
    }
    let folder = OpenFolder {
        app,
        session,
        path: &path,
        from: from.as_deref(),
        limit: limit as usize,
    };
    // one entry more than asked for tells whether there is another page
    let mut entries = folder.entries().await?;
    let has_more = entries.len() > folder.limit;
    entries.truncate(folder.limit);
    let next_page_token = match entries.last() {
        Some(last) if has_more => page_token::encode(&scope, &last.next),
        Some(_) | None => String::new(),
    };
    Ok(ListResponse {
        entries: entries.into_iter().map(|listed| listed.info).collect(),
        next_page_token,
    })
}

async fn list_all(
    app: &App,
    session: SessionUid,
    path: &SessionPath,
    token: &str,
    limit: usize,
) -> Result<ListResponse, Refusal> {
    let page = list_below(app, session, path, token, limit).await?;
    if !page.is_folder {
        return Err(not_a_folder(path));
    }
    Ok(ListResponse {
        entries: page.files,
        next_page_token: page.next_page_token,
    })
}

fn not_a_folder(path: &SessionPath) -> Refusal {
    Refusal::WrongFileType {
        path: path.to_string(),
        what: "a file, not a folder",
    }
}

/// An entry, and where a page after it starts.
struct Listed {
    info: FileInfo,
    next: String,
}

struct OpenFolder<'a> {
    app: &'a App,
    session: SessionUid,
    path: &'a SessionPath,
    from: Option<&'a str>,
    limit: usize,
}

impl OpenFolder<'_> {
    async fn entries(&self) -> Result<Vec<Listed>, Refusal> {
        if self.path.is_root() {
            return self.root_entries().await;
        }
        if !self.path.is_system() {
            return self.stored_entries().await;
        }
        match SystemPlace::of(self.path) {
            Some(SystemPlace::Tasks) => self.task_entries().await,
            Some(SystemPlace::Task(task)) => self.files_of_task(task).await,
            Some(SystemPlace::Runs(task)) => self.runs_of_task(task).await,
            Some(SystemPlace::Run(_, _)) => {
                let names = LogStream::ALL.map(|stream| stream.file_name().to_owned());
                self.nodes_named(names.into_iter().collect()).await
            }
            Some(SystemPlace::Stored(_)) => self.stored_entries().await,
            Some(SystemPlace::Result(_) | SystemPlace::Log { .. }) | None => {
                Err(no_file(self.path))
            }
        }
    }

    /// The root, in which `/.tasks` is even where no worker has written a file.
    async fn root_entries(&self) -> Result<Vec<Listed>, Refusal> {
        let mut entries = self.stored_entries().await?;
        let system = SessionPath::SYSTEM;
        let key = format!("{system}/");
        let comes_in_this_page = self.from.is_none_or(|from| from <= key.as_str());
        let is_there = entries.iter().any(|listed| listed.info.path == system);
        if comes_in_this_page && !is_there {
            let place = entries.partition_point(|listed| listed.next <= key);
            let listed = Listed {
                info: folder_info(system),
                next: format!("{system}0"),
            };
            entries.insert(place, listed);
        }
        Ok(entries)
    }

    async fn stored_entries(&self) -> Result<Vec<Listed>, Refusal> {
        let entries = files::list_entries(
            self.app.store.pool(),
            self.session,
            self.path,
            self.from,
            self.limit as i64 + 1,
        )
        .await?;
        let listed = |entry: Entry| Listed {
            info: match entry.file {
                Some(file) => stored_file_info(file),
                None => folder_info(&entry.path),
            },
            next: entry.next,
        };
        Ok(entries.into_iter().map(listed).collect())
    }

    async fn task_entries(&self) -> Result<Vec<Listed>, Refusal> {
        let after_ordinal = match self.from.map(str::parse) {
            None => 0,
            Some(Ok(ordinal)) => ordinal,
            Some(Err(_)) => {
                return Err(Refusal::BadToken {
                    field: "page_token",
                    problem: "no server made this token",
                });
            }
        };
        let tasks = task_files::list_task_folders(
            self.app.store.pool(),
            self.session,
            after_ordinal,
            self.limit as i64 + 1,
        )
        .await?;
        let listed = |(ordinal, task): (i64, TaskId)| Listed {
            info: folder_info(&task_folder(task)),
            next: ordinal.to_string(),
        };
        Ok(tasks.into_iter().map(listed).collect())
    }

    async fn files_of_task(&self, task: TaskId) -> Result<Vec<Listed>, Refusal> {
        let folder = task_files::find_task_folder(self.app.store.pool(), self.session, task)
            .await?
            .ok_or_else(|| no_file(self.path))?;
        let mut names = [ARTIFACTS, COLLECT, OUTPUT].map(str::to_owned).to_vec();
        if folder.is_terminal {
            names.push(RESULT.to_owned());
        }
        if folder.run >= 2 {
            names.push(RUNS.to_owned());
        }
        if folder.run >= 1 {
            names.extend(LogStream::ALL.map(|stream| stream.file_name().to_owned()));
        }
        self.nodes_named(names).await
    }

    async fn runs_of_task(&self, task: TaskId) -> Result<Vec<Listed>, Refusal> {
        let folder = task_files::find_task_folder(self.app.store.pool(), self.session, task)
            .await?
            .ok_or_else(|| no_file(self.path))?;
        if folder.run < 2 {
            return Err(no_file(self.path));
        }
        let mut names: Vec<String> = (1..=folder.run).map(|run| run.to_string()).collect();
        names.sort_unstable();
        let listed = |name: String| Listed {
            info: folder_info(&format!("{}/{name}", self.path)),
            next: name,
        };
        let is_in_page = |name: &String| self.from.is_none_or(|from| name.as_str() > from);
        let entries = names.into_iter().filter(is_in_page).map(listed);
        Ok(entries.take(self.limit + 1).collect())
    }

    /// Those of a few names under which something is, by name.
    async fn nodes_named(&self, mut names: Vec<String>) -> Result<Vec<Listed>, Refusal> {
        names.sort_unstable();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            if self.from.is_some_and(|from| name.as_str() <= from) {
                continue;
            }
            if entries.len() > self.limit {
                break;
            }
            let path = parse_path(&format!("{}/{name}", self.path))?;
            match find_node(self.app, self.session, &path).await {
                Ok(node) => entries.push(Listed {
                    info: node.into_info(),
                    next: name,
                }),
                Err(Refusal::NotFound { .. }) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(entries)
    }
}
