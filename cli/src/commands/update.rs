//! `update`: what is known of a task, changed from outside.

use clap::{Args, ValueEnum};
use taskyard_proto::v1::{Artifact, Links, Progress, ProgressStep, SessionTask, UpdateTaskRequest};

use crate::arguments::GlobalArguments;
use crate::commands::inside::progress::parse_step;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::task_record::task_record;

/// Change what is known of a task: summary, detail, progress, links, artifacts, or whether it is held
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard update t12 --session demo --summary 'two of three done'
  taskyard update t12 --session demo --artifact build=https://ci.example/build/7
  taskyard update t12 --session demo --clear summary --clear artifacts

Links and artifacts are added; with --clear they replace those that are there. `clone` changes the rest.
Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct UpdateArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    /// One line about the outcome
    #[arg(long, value_name = "TEXT")]
    pub summary: Option<String>,
    /// A few words about the state
    #[arg(long, value_name = "TEXT")]
    pub detail: Option<String>,
    /// Progress: units done, or done/in all, such as 3/10
    #[arg(long, value_name = "N[/TOTAL]", value_parser = parse_amount)]
    pub progress: Option<Amount>,
    /// Progress: name of the unit
    #[arg(long, value_name = "NAME")]
    pub unit: Option<String>,
    /// Progress: what is being done now
    #[arg(long, value_name = "TEXT")]
    pub doing: Option<String>,
    /// Progress: pending, in_progress, done or skipped; repeatable
    #[arg(long = "step", value_name = "TITLE=STATUS", value_parser = parse_step)]
    pub steps: Vec<ProgressStep>,
    /// An address, or a path of the session's files; repeatable
    #[arg(long = "artifact", value_name = "NAME=URL|/PATH", value_parser = parse_artifact)]
    pub artifacts: Vec<Artifact>,
    /// Link: session of a subagent's own tasks
    #[arg(long, value_name = "SESSION")]
    pub child_session: Option<String>,
    /// Link: the same work in another system
    #[arg(long, value_name = "ID")]
    pub remote_task: Option<String>,
    /// Link: a resource that the work holds; repeatable
    #[arg(long = "resource", value_name = "ID")]
    pub resources: Vec<String>,
    /// Empty it first: summary, detail, progress, links, artifacts; repeatable
    #[arg(long, value_name = "FIELD", hide_possible_values = true)]
    pub clear: Vec<FieldName>,
    /// Hold a queued task back; goes alone, as does --release
    #[arg(long, conflicts_with = "release")]
    pub hold: bool,
    /// Let a held task start
    #[arg(long)]
    pub release: bool,
    /// Only if the task's generation is this
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..), allow_negative_numbers = true)]
    pub if_generation: Option<i64>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// What can be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FieldName {
    Summary,
    Detail,
    Progress,
    Links,
    Artifacts,
}

/// Units done, and units in all where they are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Amount {
    current: f64,
    total: Option<f64>,
}

/// Changes it, once; with `--if-generation` only as it was seen.
pub async fn execute(
    arguments: UpdateArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = global.task(&arguments.task)?;
    let request = request(&arguments)?;
    let connection = Connection::open(global).await?;
    let request = UpdateTaskRequest {
        namespace: connection.namespace(),
        session_id: reference.session_id,
        task: reference.task,
        ..request
    };
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.update_task(request).await }
        })
        .await?;
    let task = answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))?;
    print(&task, &arguments.output)?;
    Ok(ExitCode::Success)
}

fn print(task: &SessionTask, output: &OutputArguments) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide => {
            console::print(&format!("t{} {} is updated\n", task.ordinal, task.id))
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            print_record(output.output, &task_record(task, output.full))
        }
        OutputFormat::Name => console::print(&format!("{}\n", task.id)),
    }
}

/// What is changed, without the task. What is emptied and given as well is replaced.
fn request(arguments: &UpdateArguments) -> Result<UpdateTaskRequest, Failure> {
    let mut request = UpdateTaskRequest {
        if_generation: arguments.if_generation.unwrap_or_default(),
        ..UpdateTaskRequest::default()
    };
    let is_cleared = |field| arguments.clear.contains(&field);
    let mut paths = Vec::new();
    for (path, field, text, target) in [
        (
            "summary",
            FieldName::Summary,
            &arguments.summary,
            &mut request.summary,
        ),
        (
            "state_detail",
            FieldName::Detail,
            &arguments.detail,
            &mut request.state_detail,
        ),
    ] {
        if text.is_some() || is_cleared(field) {
            paths.push(path);
            target.clone_from(text.as_ref().unwrap_or(&String::new()));
        }
    }
    let progress = progress(arguments);
    if progress != Progress::default() || is_cleared(FieldName::Progress) {
        paths.push("progress");
        request.progress = Some(progress).filter(|progress| *progress != Progress::default());
    }
    let links = Links {
        child_session_id: arguments.child_session.clone().unwrap_or_default(),
        remote_task_id: arguments.remote_task.clone().unwrap_or_default(),
        resource_ids: arguments.resources.clone(),
        ..Links::default()
    };
    if is_cleared(FieldName::Links) {
        paths.push("links");
        request.links = Some(links);
    } else if links != Links::default() {
        request.merge_links = Some(links);
    }
    if is_cleared(FieldName::Artifacts) {
        paths.push("artifacts");
        request.artifacts.clone_from(&arguments.artifacts);
    } else {
        request.append_artifacts.clone_from(&arguments.artifacts);
    }
    let is_anything =
        !paths.is_empty() || request.merge_links.is_some() || !request.append_artifacts.is_empty();
    if arguments.hold || arguments.release {
        if is_anything {
            return Err(Failure::Usage(
                "--hold and --release go alone, so that a refusal leaves nothing half done"
                    .to_owned(),
            ));
        }
        paths.push("hold");
        request.hold = arguments.hold;
    } else if !is_anything {
        return Err(Failure::Usage(
            "there is nothing to change; give at least one of --summary, --detail, --progress, --artifact, \
             --resource, --clear, --hold and --release"
                .to_owned(),
        ));
    }
    if !paths.is_empty() {
        let paths = paths.into_iter().map(str::to_owned).collect();
        request.update_mask = Some(prost_types::FieldMask { paths });
    }
    Ok(request)
}

fn progress(arguments: &UpdateArguments) -> Progress {
    Progress {
        current: arguments.progress.map(|amount| amount.current),
        total: arguments.progress.and_then(|amount| amount.total),
        unit: arguments.unit.clone().unwrap_or_default(),
        label: arguments.doing.clone().unwrap_or_default(),
        steps: arguments.steps.clone(),
    }
}

/// `3` or `3/10`.
fn parse_amount(text: &str) -> Result<Amount, String> {
    let complaint = || format!("`{text}` is not of the form 3 or 3/10");
    let number = |text: &str| {
        let number = text.trim().parse::<f64>().ok();
        number
            .filter(|number| number.is_finite())
            .ok_or_else(complaint)
    };
    Ok(match text.split_once('/') {
        Some((current, total)) => Amount {
            current: number(current)?,
            total: Some(number(total)?),
        },
        None => Amount {
            current: number(text)?,
            total: None,
        },
    })
}

/// `NAME=/PATH` is a file of the session, `NAME=URL` an address.
fn parse_artifact(text: &str) -> Result<Artifact, String> {
    let (name, place) = text
        .split_once('=')
        .filter(|(name, place)| !name.is_empty() && !place.is_empty())
        .ok_or_else(|| format!("`{text}` is not of the form NAME=URL or NAME=/PATH"))?;
    let (kind, path, url) = if place.starts_with('/') {
        ("file", place, "")
    } else {
        ("url", "", place)
    };
    Ok(Artifact {
        name: name.to_owned(),
        r#type: kind.to_owned(),
        path: path.to_owned(),
        url: url.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        update: UpdateArguments,
    }

    fn request_of(words: &[&str]) -> Result<(UpdateTaskRequest, Vec<String>), Failure> {
        let line = Line::parse_from(["update", "t1"].iter().chain(words));
        let request = request(&line.update)?;
        let paths = request.update_mask.clone().unwrap_or_default().paths;
        Ok((request, paths))
    }

    #[test]
    fn what_is_given_is_named_and_what_is_cleared_is_empty() {
        let (request, paths) =
            request_of(&["--summary", "s", "--progress", "3/10", "--clear", "detail"])
                .expect("a request");
        assert_eq!(paths, ["summary", "state_detail", "progress"]);
        assert_eq!(
            (request.summary.as_str(), request.state_detail.as_str()),
            ("s", "")
        );
        let progress = request.progress.expect("progress");
        assert_eq!((progress.current, progress.total), (Some(3.0), Some(10.0)));
        let (request, paths) = request_of(&["--clear", "progress"]).expect("a request");
        assert_eq!(
            (request.progress, paths),
            (None, vec!["progress".to_owned()])
        );
    }

    #[test]
    fn links_and_artifacts_are_added_or_replace_what_was_there() {
        let words = ["--artifact", "a=/x", "--resource", "r"];
        let (added, paths) = request_of(&words).expect("a request");
        assert!(paths.is_empty());
        assert_eq!(added.append_artifacts[0].path, "/x");
        assert_eq!(added.merge_links.expect("links").resource_ids, ["r"]);
        let words = [
            "--artifact",
            "a=https://x",
            "--clear",
            "artifacts",
            "--clear",
            "links",
        ];
        let (replaced, paths) = request_of(&words).expect("a request");
        assert_eq!(paths, ["links", "artifacts"]);
        assert_eq!(replaced.artifacts[0].url, "https://x");
    }

    #[test]
    fn hold_goes_alone_and_nothing_is_no_change() {
        let (request, paths) = request_of(&["--hold"]).expect("a request");
        assert_eq!((request.hold, paths), (true, vec!["hold".to_owned()]));
        for words in [&["--release", "--summary", "s"][..], &[]] {
            let failure = request_of(words).expect_err("makes no sense");
            assert_eq!(failure.exit_code(), ExitCode::Usage);
        }
        assert!(parse_amount("x").is_err() && parse_amount("1/NaN").is_err());
        assert!(parse_artifact("=x").is_err() && parse_artifact("x").is_err());
    }
}
