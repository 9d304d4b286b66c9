//! The committed code is what the `.proto` files generate. `UPDATE=1 cargo test -p taskyard-proto` writes it anew.

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

const FILES: [&str; 15] = [
    "taskyard/v1/secret.proto",
    "taskyard/v1/session_task.proto",
    "taskyard/v1/monitor.proto",
    "taskyard/v1/output.proto",
    "taskyard/v1/task_message.proto",
    "taskyard/v1/usage.proto",
    "taskyard/v1/wake.proto",
    "taskyard/v1/session_task_service.proto",
    "taskyard/v1/session_file_service.proto",
    "taskyard/v1/worker_service.proto",
    "taskyard/v1/task_agent_service.proto",
    "taskyard/v1/admin_service.proto",
    "taskyard/v1/webhook_service.proto",
    "taskyard/storage/v1/session_log.proto",
    "externalscaler/externalscaler.proto",
];

#[test]
fn generated_code_is_fresh() -> Result<(), Box<dyn Error>> {
    let crate_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let committed = crate_dir.join("src/generated");
    let fresh = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("generated");
    fs::create_dir_all(&fresh)?;
    generate(&crate_dir, &fresh)?;
    for entry in fs::read_dir(&fresh)? {
        let name = entry?.file_name();
        let wanted = fs::read(fresh.join(&name))?;
        if std::env::var_os("UPDATE").is_some() {
            fs::write(committed.join(&name), &wanted)?;
            continue;
        }
        let found = fs::read(committed.join(&name)).unwrap_or_default();
        assert!(
            found == wanted,
            "src/generated/{} is stale: run `make gen` and commit it",
            name.display()
        );
    }
    Ok(())
}

fn generate(crate_dir: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let files = protox::compile(FILES, [crate_dir])?;
    fs::write(out.join("descriptors.binpb"), files.encode_to_vec())?;
    fs::write(out.join("message_types.rs"), message_types(&files))?;
    tonic_prost_build::configure()
        .bytes(".")
        // one order of map entries, so that equal messages encode to equal bytes
        .btree_map(".")
        // what holds the value of a secret must not find its way into a log; see src/secret.rs
        .skip_debug(["taskyard.v1.TaskSecret"])
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(files)?;
    Ok(())
}

/// A table of all messages with the types that are generated for them, for `tests/recorded`.
fn message_types(files: &FileDescriptorSet) -> String {
    let mut lines = Vec::new();
    for file in &files.file {
        let (package, module) = match file.package() {
            package @ ("taskyard.v1" | "taskyard.storage.v1" | "externalscaler") => (
                package.to_owned(),
                package.trim_start_matches("taskyard.").replace('.', "::"),
            ),
            _ => continue,
        };
        for message in &file.message_type {
            list_types(
                message,
                &package,
                &format!("taskyard_proto::{module}"),
                &mut lines,
            );
        }
    }
    lines.sort();
    format!(
        "type Reread = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;\n\nconst TYPES: &[(&str, Reread)] = &[\n{}];\n",
        lines.concat()
    )
}

fn list_types(message: &DescriptorProto, outer: &str, module: &str, lines: &mut Vec<String>) {
    if message
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry())
    {
        return;
    }
    let name = message.name();
    lines.push(format!(
        "    (\"{outer}.{name}\", reread::<{module}::{name}>),\n"
    ));
    let inner = format!("{module}::{}", snake_case(name));
    for nested in &message.nested_type {
        list_types(nested, &format!("{outer}.{name}"), &inner, lines);
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[test]
fn every_proto_file_is_compiled() -> Result<(), Box<dyn Error>> {
    let crate_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for package in ["taskyard/v1", "taskyard/storage/v1", "externalscaler"] {
        for entry in fs::read_dir(crate_dir.join(package))? {
            let path = format!("{package}/{}", entry?.file_name().display());
            assert!(FILES.contains(&path.as_str()), "{path} is not in FILES");
        }
    }
    Ok(())
}
