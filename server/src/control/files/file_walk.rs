//! All files at and below a path, one after the other, in one order, page by page: what is written, and below `/.tasks`
//! what is rendered as well. A walk can be gone on with at any file, also where that one is gone meanwhile.

use super::{
    node::{Node, find_node, stored_file_info},
    stat_file::parse_path,
    system_path::{LogStream, RESULT, RUNS, SystemPlace, task_folder},
};
use crate::{
    app::App,
    control::refusal::Refusal,
    store::{
        files::{self, range_below},
        task_files,
    },
};
use std::collections::VecDeque;
use taskyard_core::{
    id::{SessionUid, TaskId},
    vfs::SessionPath,
};
use taskyard_proto::v1::FileInfo;

/// Files, or tasks, that are asked for at once.
const PAGE: i64 = 500;

/// A walk over files. Below `/` it leaves `/.tasks` out; a walk from there finds the files of each task, oldest task
/// first: what is rendered, then what was written.
pub struct FileWalk<'a> {
    app: &'a App,
    session: SessionUid,
    steps: VecDeque<Step>,
    found: VecDeque<WalkedFile>,
    is_folder: bool,
}

/// A file that a walk came by.
#[derive(Clone, Debug, PartialEq)]
pub struct WalkedFile {
    /// Where the walk can be gone on with this file.
    pub place: WalkPlace,
    /// What was written there; none for what is rendered, which may not be there at all.
    pub written: Option<FileInfo>,
}

/// A file on a walk's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkPlace {
    /// Number of the task in a walk over `/.tasks`; else 0.
    pub ordinal: i64,
    /// Its path.
    pub path: String,
}

/// What is still ahead.
enum Step {
    /// Written files in a range of paths.
    Range {
        ordinal: i64,
        from: String,
        to: String,
    },
    /// All tasks after this one.
    Tasks { after_ordinal: i64 },
    /// All files of a task, from a path on.
    Task {
        ordinal: i64,
        task: TaskId,
        from: Option<String>,
    },
}

impl<'a> FileWalk<'a> {
    /// Starts at a file or folder, or goes on `from` a place, that one included.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for the path, [`Refusal::BadToken`] for a place that is not on this walk's way,
    /// [`Refusal::Store`].
    pub async fn start(
        app: &'a App,
        session: SessionUid,
        path: &SessionPath,
        from: Option<&WalkPlace>,
    ) -> Result<Self, Refusal> {
        let mut walk = Self {
            app,
            session,
            steps: VecDeque::new(),
            found: VecDeque::new(),
            is_folder: true,
        };
        match find_node(app, session, path).await? {
            Node::Folder(_) => {}
            Node::Stored(info) => walk.begin_with_file(path, from, Some(info)),
            Node::Rendered(_, _) | Node::Log(_, _, _) => walk.begin_with_file(path, from, None),
        }
        if !walk.is_folder {
            return Ok(walk);
        }
        let from_path = from.map(|place| place.path.as_str());
        match SystemPlace::of(path) {
            None | Some(SystemPlace::Stored(_)) => {
                let (start, end) = range_below(path);
                if path.is_root() {
                    let (system, after_system) = (
                        format!("{}/", SessionPath::SYSTEM),
                        format!("{}0", SessionPath::SYSTEM),
                    );
                    walk.begin_with_range(start, system, from_path);
                    walk.begin_with_range(after_system, end, from_path);
                } else {
                    walk.begin_with_range(start, end, from_path);
                }
            }
            Some(SystemPlace::Tasks) => {
                if let Some(place) = from {
                    walk.steps.push_back(Step::Task {
                        ordinal: place.ordinal,
                        task: task_of(&place.path)?,
                        from: Some(place.path.clone()),
                    });
                }
                walk.steps.push_back(Step::Tasks {
                    after_ordinal: from.map_or(0, |place| place.ordinal),
                });
            }
            Some(SystemPlace::Task(task)) => walk.steps.push_back(Step::Task {
                ordinal: 0,
                task,
                from: from_path.map(str::to_owned),
            }),
            Some(SystemPlace::Runs(task) | SystemPlace::Run(task, _)) => {
                let (start, end) = range_below(path);
                let rendered = walk.rendered_files(task).await?;
                let is_ahead = |path: &String| {
                    (start.as_str()..end.as_str()).contains(&path.as_str())
                        && from_path.is_none_or(|from| from <= path.as_str())
                };
                walk.find(0, rendered.into_iter().filter(is_ahead));
            }
            // these are files
            Some(SystemPlace::Result(_) | SystemPlace::Log { .. }) => {}
        }
        Ok(walk)
    }

    /// Whether the walk began with a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// The next file; none after the last.
    ///
    /// # Errors
    /// [`Refusal::Store`].
    pub async fn next_file(&mut self) -> Result<Option<WalkedFile>, Refusal> {
        loop {
            if let Some(file) = self.found.pop_front() {
                return Ok(Some(file));
            }
            match self.steps.pop_front() {
                None => return Ok(None),
                Some(step) => self.take(step).await?,
            }
        }
    }

    fn begin_with_file(
        &mut self,
        path: &SessionPath,
        from: Option<&WalkPlace>,
        written: Option<FileInfo>,
    ) {
        self.is_folder = false;
        if from.is_none_or(|place| place.path.as_str() <= path.as_str()) {
            self.found.push_back(WalkedFile {
                place: WalkPlace {
                    ordinal: 0,
                    path: path.to_string(),
                },
                written,
            });
        }
    }

    fn begin_with_range(&mut self, start: String, to: String, from: Option<&str>) {
        let from = from.map_or(start.as_str(), |from| from.max(start.as_str()));
        if from < to.as_str() {
            let from = from.to_owned();
            self.steps.push_back(Step::Range {
                ordinal: 0,
                from,
                to,
            });
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), Refusal> {
        match step {
            Step::Range { ordinal, from, to } => {
                let db = self.app.store.pool();
                let rows = files::list_range(db, self.session, &from, &to, PAGE).await?;
                if rows.len() as i64 == PAGE
                    && let Some(last) = rows.last()
                {
                    // no path holds the character 1, so this is the least that comes after the last one
                    let from = format!("{}\u{1}", last.path);
                    self.steps.push_front(Step::Range { ordinal, from, to });
                }
                self.found.extend(rows.into_iter().map(|row| WalkedFile {
                    place: WalkPlace {
                        ordinal,
                        path: row.path.clone(),
                    },
                    written: Some(stored_file_info(row)),
                }));
            }
            Step::Tasks { after_ordinal } => {
                let db = self.app.store.pool();
                let tasks =
                    task_files::list_task_folders(db, self.session, after_ordinal, PAGE).await?;
                if tasks.len() as i64 == PAGE
                    && let Some((last, _)) = tasks.last()
                {
                    self.steps.push_front(Step::Tasks {
                        after_ordinal: *last,
                    });
                }
                for (ordinal, task) in tasks.into_iter().rev() {
                    self.steps.push_front(Step::Task {
                        ordinal,
                        task,
                        from: None,
                    });
                }
            }
            Step::Task {
                ordinal,
                task,
                from,
            } => {
                let (start, to) = range_below(&parse_path(&task_folder(task))?);
                let goes_on_with_written = match &from {
                    Some(from) => matches!(
                        SystemPlace::of(&parse_path(from)?),
                        Some(SystemPlace::Stored(_))
                    ),
                    None => false,
                };
                let (rendered, from) = if goes_on_with_written {
                    (Vec::new(), from.unwrap_or(start))
                } else {
                    let mut rendered = self.rendered_files(task).await?;
                    rendered.retain(|path| from.as_ref().is_none_or(|from| from <= path));
                    (rendered, start)
                };
                self.find(ordinal, rendered);
                self.steps.push_front(Step::Range { ordinal, from, to });
            }
        }
        Ok(())
    }

    fn find(&mut self, ordinal: i64, paths: impl IntoIterator<Item = String>) {
        self.found.extend(paths.into_iter().map(|path| WalkedFile {
            place: WalkPlace { ordinal, path },
            written: None,
        }));
    }

    /// Paths of what is rendered for a task, in order; there need not be something at each of them.
    async fn rendered_files(&self, task: TaskId) -> Result<Vec<String>, Refusal> {
        let db = self.app.store.pool();
        let Some(folder) = task_files::find_task_folder(db, self.session, task).await? else {
            return Ok(Vec::new());
        };
        let base = task_folder(task);
        let mut paths = Vec::new();
        if folder.is_terminal {
            paths.push(format!("{base}/{RESULT}"));
        }
        for stream in LogStream::ALL {
            let name = stream.file_name();
            if folder.run >= 1 {
                paths.push(format!("{base}/{name}"));
            }
            if folder.run >= 2 {
                paths.extend((1..=folder.run).map(|run| format!("{base}/{RUNS}/{run}/{name}")));
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }
}

fn task_of(path: &str) -> Result<TaskId, Refusal> {
    path.strip_prefix(SessionPath::SYSTEM)
        .and_then(|rest| rest.split('/').nth(1))
        .and_then(|id| id.parse().ok())
        .ok_or(Refusal::BadToken {
            field: "page_token",
            problem: "no server made this token",
        })
}
