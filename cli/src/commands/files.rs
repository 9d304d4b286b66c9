//! `files`: a session's files.

use clap::{Args, Subcommand};
use taskyard_proto::v1::{DeleteRequest, FileInfo, FileType, ListRequest};

use crate::arguments::GlobalArguments;
use crate::commands::files_grep::{GrepArguments, grep};
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::file_transfer;
use crate::quantity::short_size;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::table::TextTable;
use crate::view::task_record::time;
use crate::view::{moment, words};

const PAGE_SIZE: i32 = 1000;
/// Entries held at once, at most.
const LONGEST_LIST: usize = 1_000_000;

/// Work with the files of a session; /.tasks holds what the tasks left
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  taskyard files ls demo /.tasks
  taskyard files cat demo /.tasks/task_0193a5f0c0de7000800000000000abcd/result.json
  taskyard files put demo /inbox/plan.md ./plan.md

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed"
)]
pub struct FilesArguments {
    #[command(subcommand)]
    pub verb: FilesVerb,
}

/// What to do with files.
#[derive(Debug, Subcommand)]
pub enum FilesVerb {
    Ls(LsArguments),
    Cat(CatArguments),
    Put(PutArguments),
    Get(GetFileArguments),
    Rm(RmArguments),
    Grep(GrepArguments),
}

/// List a folder
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard files ls demo
  taskyard files ls demo /.tasks
  taskyard files ls demo /inbox -r -o json

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct LsArguments {
    /// Session
    #[arg(value_name = "SESSION")]
    pub session_id: String,
    /// Folder
    #[arg(default_value = "/")]
    pub path: String,
    /// All files below it; from / without /.tasks
    #[arg(short, long)]
    pub recursive: bool,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Print a file, byte for byte
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard files cat demo /inbox/plan.md
  taskyard files cat demo /.tasks/task_0193a5f0c0de7000800000000000abcd/result.json | jq .exit
  taskyard files cat demo /data.bin --offset 1024 --limit 512 | xxd

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct CatArguments {
    /// Session
    #[arg(value_name = "SESSION")]
    pub session_id: String,
    /// File
    pub path: String,
    /// First byte, counted from 0
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..), allow_negative_numbers = true)]
    pub offset: i64,
    /// Most bytes [default: to the end]
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..), allow_negative_numbers = true)]
    pub limit: Option<i64>,
}

/// Write a file whole: at most 16 MiB, or 1 GiB where the server has an object store
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard files put demo /inbox/plan.md ./plan.md
  echo hello | taskyard files put demo /inbox/hello.txt
  taskyard files put demo /lock --if-version 0 ./mine

Exit codes: 0 done, 1 refused (such as: another version) or not found, 2 usage,
125 server out of reach or failed")]
pub struct PutArguments {
    /// Session; created on first use
    #[arg(value_name = "SESSION")]
    pub session_id: String,
    /// File to write
    pub path: String,
    /// What to write; - for standard input
    #[arg(default_value = "-")]
    pub local: String,
    /// Only if the file's version is this; 0: only if there is none
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i64).range(0..), allow_negative_numbers = true)]
    pub if_version: Option<i64>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Fetch a file to this machine; it appears whole or not at all
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard files get demo /inbox/plan.md
  taskyard files get demo /inbox/plan.md ./copy.md
  taskyard files get demo /inbox/plan.md - | wc -l

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct GetFileArguments {
    /// Session
    #[arg(value_name = "SESSION")]
    pub session_id: String,
    /// File to fetch
    pub path: String,
    /// Where to write; - for standard output [default: its own name, in this directory]
    pub local: Option<String>,
}

/// Delete a file, or with -r a folder and all that is in it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard files rm demo /inbox/plan.md
  taskyard files rm demo /inbox -r
  taskyard files rm demo /lock --if-version 3

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct RmArguments {
    /// Session
    #[arg(value_name = "SESSION")]
    pub session_id: String,
    /// File or folder
    pub path: String,
    /// A folder, with all that is in it
    #[arg(short, long)]
    pub recursive: bool,
    /// Only if the file's version is this
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i64).range(1..), allow_negative_numbers = true)]
    pub if_version: Option<i64>,
}

/// Does it.
pub async fn execute(
    arguments: FilesArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    match arguments.verb {
        FilesVerb::Ls(arguments) => list(&connection, arguments).await?,
        FilesVerb::Cat(arguments) => {
            let range = (arguments.offset, arguments.limit.unwrap_or(0));
            file_transfer::print(&connection, &arguments.session_id, &arguments.path, range)
                .await?;
        }
        FilesVerb::Put(arguments) => put(&connection, arguments).await?,
        FilesVerb::Get(arguments) => get(&connection, arguments).await?,
        FilesVerb::Rm(arguments) => remove(&connection, arguments).await?,
        FilesVerb::Grep(arguments) => return grep(&connection, arguments).await,
    }
    Ok(ExitCode::Success)
}

async fn list(connection: &Connection, arguments: LsArguments) -> Result<(), Failure> {
    let mut entries: Vec<FileInfo> = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = connection
            .call(|| {
                let mut files = connection.files();
                let request = ListRequest {
                    namespace: connection.namespace(),
                    session_id: arguments.session_id.clone(),
                    path: arguments.path.clone(),
                    page_size: PAGE_SIZE,
                    page_token: page_token.clone(),
                    recursive: arguments.recursive,
                };
                async move { files.list(request).await }
            })
            .await?;
        let was_empty = page.entries.is_empty();
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() || was_empty {
            break;
        }
        if entries.len() >= LONGEST_LIST {
            console::note("there is more; this list was cut");
            break;
        }
    }
    print_entries(&entries, &arguments.output)
}

async fn put(connection: &Connection, arguments: PutArguments) -> Result<(), Failure> {
    let content = file_transfer::read_local(&arguments.local).await?;
    let target = file_transfer::Target {
        session_id: arguments.session_id,
        path: arguments.path,
        if_version: arguments.if_version,
    };
    let file = file_transfer::write(connection, target, content).await?;
    match arguments.output.output {
        OutputFormat::Table | OutputFormat::Wide => console::print(&format!(
            "{} {} version {}\n",
            console::clean(&file.path),
            size(&file),
            file.version
        )),
        OutputFormat::Json | OutputFormat::Yaml => {
            print_record(arguments.output.output, &record(&file))
        }
        OutputFormat::Name => console::print(&format!("{}\n", file.path)),
    }
}

async fn get(connection: &Connection, arguments: GetFileArguments) -> Result<(), Failure> {
    let (session_id, path) = (&arguments.session_id, &arguments.path);
    let local = match arguments.local {
        Some(local) => local,
        None => match path.rsplit('/').next() {
            Some(name) if !name.is_empty() && name != "." && name != ".." => name.to_owned(),
            Some(_) | None => return Err(Failure::Usage(format!("`{path}` does not name a file"))),
        },
    };
    if local == "-" {
        return file_transfer::print(connection, session_id, path, (0, 0)).await;
    }
    let bytes = file_transfer::fetch(connection, session_id, path, local.as_ref()).await?;
    console::note(&format!(
        "wrote {} to {}",
        short_size(bytes),
        console::clean(&local)
    ));
    Ok(())
}

async fn remove(connection: &Connection, arguments: RmArguments) -> Result<(), Failure> {
    let request = DeleteRequest {
        namespace: connection.namespace(),
        session_id: arguments.session_id,
        path: arguments.path,
        recursive: arguments.recursive,
        if_version: arguments.if_version,
    };
    // Once only: a repeated delete whose first answer was lost would say that there is no such file.
    let mut files = connection.files();
    let answer = connection
        .call_once(crate::connection::CALL_LIMIT, files.delete(request))
        .await?;
    let noun = if answer.deleted == 1 { "file" } else { "files" };
    console::note(&format!("deleted {} {noun}", answer.deleted));
    Ok(())
}

fn print_entries(entries: &[FileInfo], output: &OutputArguments) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide if entries.is_empty() => {
            console::note("nothing there");
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let mut table = TextTable::new(&["size", "version", "modified", "path"]);
            for entry in entries {
                let modified = match &entry.modified_at {
                    Some(at) => format!("{} ago", moment::age(Some(at))),
                    None => "-".to_owned(),
                };
                let version = if entry.version == 0 {
                    "-".to_owned()
                } else {
                    entry.version.to_string()
                };
                table.add(
                    vec![size(entry), version, modified, shown_path(entry)],
                    None,
                );
            }
            table.align_right(0);
            table.align_right(1);
            console::print(&table.text())
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = entries.iter().map(record).collect();
            print_record(output.output, &records)
        }
        OutputFormat::Name => {
            let paths: String = entries
                .iter()
                .map(|entry| format!("{}\n", entry.path))
                .collect();
            console::print(&paths)
        }
    }
}

fn size(entry: &FileInfo) -> String {
    match entry.r#type() {
        FileType::Directory => "-".to_owned(),
        FileType::File | FileType::Unspecified => {
            short_size(u64::try_from(entry.size).unwrap_or(0))
        }
    }
}

fn shown_path(entry: &FileInfo) -> String {
    match entry.r#type() {
        FileType::Directory if !entry.path.ends_with('/') => format!("{}/", entry.path),
        FileType::Directory | FileType::File | FileType::Unspecified => entry.path.clone(),
    }
}

fn record(entry: &FileInfo) -> Record {
    Record::new()
        .with_text("path", &entry.path)
        .with("type", words::file_type(entry.r#type()))
        .with("size", entry.size)
        .with("version", entry.version)
        .with("modified_at", time(&entry.modified_at))
}
