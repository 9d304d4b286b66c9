//! `taskyard`: the one binary. Control plane, worker and every client verb.
//!
//! Reading order: [`arguments`] has the list of verbs, [`commands`] a file for each, [`dev`] the whole of Taskyard in one
//! process, [`connection`] and [`failure`] how servers are called and what their answers mean, [`exit_code`] how the
//! program ends. Data goes to standard output, everything else to standard error.

mod admin_port;
mod answer_form;
mod arguments;
mod backoff;
mod commands;
mod connection;
mod console;
mod dev;
#[cfg(test)]
mod documented_commands;
mod exit_code;
mod failure;
mod file_transfer;
mod first_connection;
mod foreground;
mod hint;
mod input_sender;
mod interrupt;
mod local_json;
mod machine;
mod output_follower;
mod output_printer;
mod quantity;
mod reconnection;
mod secret_source;
mod task_file;
mod task_reference;
mod telemetry;
mod terminal;
mod trace;
mod unstarted;
mod view;
mod wire_words;

use clap::Parser;
use taskyard_telemetry::pipeline::Component;

use crate::arguments::{CommandLine, Verb};
use crate::commands::{
    answer, audit, cancel, clone, completions, files, get, help, hold, input, inside, list,
    log_filter, logs, message, messages, migrate, monitor, queues, restart, retention, retry, run,
    server, sessions, signal, submit, token, update, usage, wait, wakes, watch, webhooks, worker,
    workers,
};
use crate::exit_code::ExitCode;
use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Before all else: the shim is started once for each task and needs nothing of what follows.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == taskyard_worker::shim::ARGUMENT)
    {
        taskyard_worker::shim::main();
    }
    let exit_code = match run() {
        Ok(exit_code) => exit_code,
        Err(failure) => {
            if !matches!(failure, Failure::BrokenPipe) {
                console::note(&failure.to_string());
            }
            failure.exit_code()
        }
    };
    // Not by returning: a thread that still waits for standard input or output must not hold up the end.
    std::process::exit(exit_code.number());
}

fn run() -> Result<ExitCode, Failure> {
    let CommandLine { global, verb } = CommandLine::parse();
    let (component, default_level, n_threads) = match &verb {
        Verb::Server(_) => (Component::Server, "info,sqlx=warn", None),
        Verb::Worker(_) => (Component::Worker, "info,sqlx=warn", None),
        Verb::Migrate(_) => (Component::Client, "info,sqlx=warn", None),
        Verb::Dev(_) => (Component::Dev, "warn", None),
        Verb::Run(arguments) if arguments.dev => (Component::Dev, "warn", None),
        Verb::Run(_)
        | Verb::Submit(_)
        | Verb::List(_)
        | Verb::Get(_)
        | Verb::Watch(_)
        | Verb::Logs(_)
        | Verb::Usage(_)
        | Verb::Wait(_)
        | Verb::Cancel(_)
        | Verb::Input(_)
        | Verb::Signal(_)
        | Verb::Retry(_)
        | Verb::Message(_)
        | Verb::Messages(_)
        | Verb::Answer(_)
        | Verb::Wakes(_)
        | Verb::Monitor(_)
        | Verb::Restart(_)
        | Verb::Clone(_)
        | Verb::Update(_)
        | Verb::Hold(_)
        | Verb::Release(_)
        | Verb::Files(_)
        | Verb::Inside(_)
        | Verb::Sessions(_)
        | Verb::Retention(_)
        | Verb::Workers(_)
        | Verb::Queues(_)
        | Verb::LogFilter(_)
        | Verb::Webhooks(_)
        | Verb::Audit(_)
        | Verb::Token(_)
        | Verb::Completions(_)
        | Verb::Help(_) => (Component::Client, "warn", Some(1)),
    };
    telemetry::start(default_level)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(n_threads) = n_threads {
        builder.worker_threads(n_threads);
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::Own(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(async {
        let flush = telemetry::export(component)?;
        let ended = match verb {
            Verb::Dev(arguments) => dev::execute(arguments).await,
            Verb::Server(arguments) => server::execute(*arguments).await,
            Verb::Worker(arguments) => worker::execute(arguments, &global).await,
            Verb::Migrate(arguments) => migrate::execute(arguments).await,
            Verb::Run(arguments) => run::execute(*arguments, &global).await,
            Verb::Submit(arguments) => submit::execute(arguments, &global).await,
            Verb::List(arguments) => list::execute(arguments, &global).await,
            Verb::Get(arguments) => get::execute(arguments, &global).await,
            Verb::Watch(arguments) => watch::execute(arguments, &global).await,
            Verb::Usage(arguments) => usage::execute(arguments, &global).await,
            Verb::Logs(arguments) => logs::execute(arguments, &global).await,
            Verb::Wait(arguments) => wait::execute(arguments, &global).await,
            Verb::Cancel(arguments) => cancel::execute(arguments, &global).await,
            Verb::Input(arguments) => input::execute(arguments, &global).await,
            Verb::Signal(arguments) => signal::execute(arguments, &global).await,
            Verb::Retry(arguments) => retry::execute(arguments, &global).await,
            Verb::Message(arguments) => message::execute(arguments, &global).await,
            Verb::Messages(arguments) => messages::execute(arguments, &global).await,
            Verb::Answer(arguments) => answer::execute(arguments, &global).await,
            Verb::Wakes(arguments) => wakes::execute(arguments, &global).await,
            Verb::Monitor(arguments) => monitor::execute(arguments, &global).await,
            Verb::Restart(arguments) => restart::execute(arguments, &global).await,
            Verb::Clone(arguments) => clone::execute(arguments, &global).await,
            Verb::Update(arguments) => update::execute(*arguments, &global).await,
            Verb::Hold(arguments) => hold::execute(arguments.held, true, &global).await,
            Verb::Release(arguments) => hold::execute(arguments.held, false, &global).await,
            Verb::Files(arguments) => files::execute(arguments, &global).await,
            Verb::Inside(arguments) => inside::dispatch::execute(*arguments, &global).await,
            Verb::Sessions(arguments) => sessions::execute(arguments, &global).await,
            Verb::Retention(arguments) => retention::execute(arguments, &global).await,
            Verb::Workers(arguments) => workers::execute(arguments, &global).await,
            Verb::Queues(arguments) => queues::execute(arguments, &global).await,
            Verb::LogFilter(arguments) => log_filter::execute(arguments, &global).await,
            Verb::Webhooks(arguments) => webhooks::execute(arguments, &global).await,
            Verb::Audit(arguments) => audit::execute(arguments, &global).await,
            Verb::Token(arguments) => token::execute(arguments),
            Verb::Completions(arguments) => completions::execute(&arguments),
            Verb::Help(arguments) => help::execute(&arguments),
        };
        if let Some(flush) = flush {
            flush.finish().await;
        }
        ended
    });
    runtime.shutdown_background();
    ended
}
