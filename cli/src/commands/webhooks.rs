//! `webhooks`: URLs that are called for what happens to tasks.

use clap::{Args, Subcommand, ValueEnum};
use taskyard_proto::v1::{
    CreateWebhookRequest, DeleteWebhookRequest, ListWebhookDeliveriesRequest, ListWebhooksRequest,
    RedeliverWebhookRequest, Webhook, WebhookDelivery, WebhookDeliveryState, WebhookEvent,
};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::view::moment;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::table::TextTable;
use crate::view::task_record::time;

const PAGE_SIZE: i32 = 200;
/// One attempt of a call that must not be made twice.
const CREATE_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Have URLs called for what happens to tasks
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  taskyard webhooks create https://hooks.example/taskyard --secret-env HOOK_SECRET
  taskyard webhooks list
  taskyard webhooks deliveries hook_0193a5f0c0de7000800000000000abcd --state failed

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed"
)]
pub struct WebhooksArguments {
    #[command(subcommand)]
    pub verb: WebhooksVerb,
}

/// What to do with webhooks.
#[derive(Debug, Subcommand)]
pub enum WebhooksVerb {
    List(ListWebhooksArguments),
    Create(CreateWebhookArguments),
    Delete(DeleteWebhookArguments),
    Deliveries(DeliveriesArguments),
    Redeliver(RedeliverArguments),
}

/// List the webhooks of the namespace, or of one --session and its tasks, oldest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard webhooks list
  taskyard webhooks list --session demo -o json
  taskyard webhooks list --namespace team-a -o name

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct ListWebhooksArguments {
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Have a URL called; for the whole namespace, or for one --session or --task
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard webhooks create https://hooks.example/taskyard --secret-env HOOK_SECRET
  taskyard webhooks create https://hooks.example/ask --session demo --events question,message
  taskyard webhooks create https://hooks.example/one --session demo --task t12

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct CreateWebhookArguments {
    /// Where to deliver, http:// or https://
    pub url: String,
    /// Only for this task: an id, or with --session t12 or a name
    #[arg(long)]
    pub task: Option<String>,
    /// What to be called for
    #[arg(long, value_delimiter = ',', default_value = "terminal")]
    pub events: Vec<EventWord>,
    /// Environment variable that holds the key of the signature
    #[arg(long, value_name = "NAME")]
    pub secret_env: Option<String>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Remove a webhook and what was to be delivered to it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard webhooks delete hook_0193a5f0c0de7000800000000000abcd
  taskyard webhooks delete hook_0193a5f0c0de7000800000000000abcd --namespace team-a
  taskyard webhooks list -o name | xargs -n1 taskyard webhooks delete

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct DeleteWebhookArguments {
    /// Id of the webhook
    pub webhook: String,
}

/// List what was, or is to be, delivered to a webhook, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard webhooks deliveries hook_0193a5f0c0de7000800000000000abcd
  taskyard webhooks deliveries hook_0193a5f0c0de7000800000000000abcd --state failed
  taskyard webhooks deliveries hook_0193a5f0c0de7000800000000000abcd -o json --limit 500

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct DeliveriesArguments {
    /// Id of the webhook
    pub webhook: String,
    /// Only those in this state
    #[arg(long)]
    pub state: Option<DeliveryWord>,
    /// Most deliveries to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub limit: u32,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Deliver something again, whatever became of it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard webhooks redeliver hook_0193a5f0c0de7000800000000000abcd 17
  taskyard webhooks redeliver hook_0193a5f0c0de7000800000000000abcd 17 18 19
  HOOK=$(taskyard webhooks list -o name | head -1); taskyard webhooks redeliver $HOOK 17

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct RedeliverArguments {
    /// Id of the webhook
    pub webhook: String,
    /// Ids of the deliveries
    #[arg(required = true)]
    pub deliveries: Vec<i64>,
}

/// What a webhook is called for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EventWord {
    Terminal,
    Question,
    Message,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DeliveryWord {
    Pending,
    Delivered,
    Failed,
}

/// Does what is asked for.
pub async fn execute(
    arguments: WebhooksArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    match arguments.verb {
        WebhooksVerb::List(arguments) => list(arguments, global).await?,
        WebhooksVerb::Create(arguments) => create(arguments, global).await?,
        WebhooksVerb::Delete(arguments) => delete(arguments, global).await?,
        WebhooksVerb::Deliveries(arguments) => deliveries(arguments, global).await?,
        WebhooksVerb::Redeliver(arguments) => redeliver(arguments, global).await?,
    }
    Ok(ExitCode::Success)
}

async fn list(arguments: ListWebhooksArguments, global: &GlobalArguments) -> Result<(), Failure> {
    let connection = Connection::open(global).await?;
    let answer = connection
        .call(|| {
            let mut webhooks = connection.webhooks();
            let request = ListWebhooksRequest {
                namespace: connection.namespace(),
                session_id: global.session().unwrap_or_default().to_owned(),
            };
            async move { webhooks.list_webhooks(request).await }
        })
        .await?;
    print_webhooks(&answer.webhooks, &arguments.output)
}

async fn create(
    arguments: CreateWebhookArguments,
    global: &GlobalArguments,
) -> Result<(), Failure> {
    let secret = match &arguments.secret_env {
        None => String::new(),
        Some(name) => std::env::var(name).map_err(|_| {
            Failure::Usage(format!(
                "the environment has no text in the variable `{name}`"
            ))
        })?,
    };
    let connection = Connection::open(global).await?;
    let request = CreateWebhookRequest {
        namespace: connection.namespace(),
        session_id: global.session().unwrap_or_default().to_owned(),
        task: arguments.task.unwrap_or_default(),
        url: arguments.url,
        secret,
        events: arguments
            .events
            .into_iter()
            .map(|event| WebhookEvent::from(event).into())
            .collect(),
    };
    let mut webhooks = connection.webhooks();
    let answer = connection
        .call_once(CREATE_LIMIT, webhooks.create_webhook(request))
        .await?;
    let webhook = answer.webhook.unwrap_or_default();
    print_webhooks(std::slice::from_ref(&webhook), &arguments.output)
}

async fn delete(
    arguments: DeleteWebhookArguments,
    global: &GlobalArguments,
) -> Result<(), Failure> {
    let connection = Connection::open(global).await?;
    let request = DeleteWebhookRequest {
        namespace: connection.namespace(),
        webhook_id: arguments.webhook,
    };
    let mut webhooks = connection.webhooks();
    connection
        .call_once(CREATE_LIMIT, webhooks.delete_webhook(request))
        .await?;
    Ok(())
}

async fn deliveries(
    arguments: DeliveriesArguments,
    global: &GlobalArguments,
) -> Result<(), Failure> {
    let connection = Connection::open(global).await?;
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let state = arguments.state.map_or(
        WebhookDeliveryState::Unspecified,
        WebhookDeliveryState::from,
    );
    let mut found: Vec<WebhookDelivery> = Vec::new();
    let mut page_token = String::new();
    loop {
        let missing = i32::try_from(limit - found.len()).unwrap_or(i32::MAX);
        let page = connection
            .call(|| {
                let mut webhooks = connection.webhooks();
                let request = ListWebhookDeliveriesRequest {
                    namespace: connection.namespace(),
                    webhook_id: arguments.webhook.clone(),
                    state: state.into(),
                    page_size: missing.min(PAGE_SIZE),
                    page_token: page_token.clone(),
                };
                async move { webhooks.list_webhook_deliveries(request).await }
            })
            .await?;
        let was_empty = page.deliveries.is_empty();
        found.extend(page.deliveries);
        page_token = page.next_page_token;
        if page_token.is_empty() || was_empty || found.len() >= limit {
            break;
        }
    }
    print_deliveries(&found, &arguments.output)?;
    if !page_token.is_empty() {
        console::note(&format!(
            "there are more than these {}; see --limit",
            found.len()
        ));
    }
    Ok(())
}

async fn redeliver(arguments: RedeliverArguments, global: &GlobalArguments) -> Result<(), Failure> {
    let connection = Connection::open(global).await?;
    for delivery_id in arguments.deliveries {
        let request = RedeliverWebhookRequest {
            namespace: connection.namespace(),
            webhook_id: arguments.webhook.clone(),
            delivery_id,
        };
        let mut webhooks = connection.webhooks();
        connection
            .call_once(CREATE_LIMIT, webhooks.redeliver_webhook(request))
            .await?;
    }
    Ok(())
}

fn print_webhooks(webhooks: &[Webhook], output: &OutputArguments) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide if webhooks.is_empty() => {
            console::note("no webhooks");
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let mut table = TextTable::new(&["webhook", "for", "events", "signed", "url", "age"]);
            for webhook in webhooks {
                let scope = match (webhook.task_id.as_str(), webhook.session_id.as_str()) {
                    ("", "") => "namespace".to_owned(),
                    ("", session_id) => format!("session {session_id}"),
                    (task_id, _) => task_id.to_owned(),
                };
                let cells = vec![
                    webhook.id.clone(),
                    scope,
                    events(webhook).join(","),
                    if webhook.has_secret { "yes" } else { "no" }.to_owned(),
                    webhook.url.clone(),
                    moment::age(webhook.created_at.as_ref()),
                ];
                table.add(cells, None);
            }
            console::print(&table.text())
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = webhooks
                .iter()
                .map(|webhook| {
                    Record::new()
                        .with_text("id", &webhook.id)
                        .with_text("namespace", &webhook.namespace)
                        .with_text("session_id", &webhook.session_id)
                        .with_text("task_id", &webhook.task_id)
                        .with_text("url", &webhook.url)
                        .with("events", events(webhook))
                        .with("has_secret", webhook.has_secret)
                        .with("created_at", time(&webhook.created_at))
                })
                .collect();
            print_record(output.output, &records)
        }
        OutputFormat::Name => {
            let names: String = webhooks
                .iter()
                .map(|webhook| format!("{}\n", webhook.id))
                .collect();
            console::print(&names)
        }
    }
}

fn print_deliveries(
    deliveries: &[WebhookDelivery],
    output: &OutputArguments,
) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide if deliveries.is_empty() => {
            console::note("no deliveries");
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let mut table = TextTable::new(&[
                "id", "event", "task", "state", "tries", "status", "age", "error",
            ]);
            for delivery in deliveries {
                let status = match delivery.last_status {
                    0 => "-".to_owned(),
                    status => status.to_string(),
                };
                let cells = vec![
                    delivery.id.to_string(),
                    event_word(delivery.event()).to_owned(),
                    delivery.task_id.clone(),
                    state_word(delivery.state()).to_owned(),
                    delivery.attempts.to_string(),
                    status,
                    moment::age(delivery.created_at.as_ref()),
                    delivery.last_error.clone(),
                ];
                table.add(cells, None);
            }
            console::print(&table.text())
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = deliveries
                .iter()
                .map(|delivery| {
                    Record::new()
                        .with("id", delivery.id)
                        .with_text("webhook_id", &delivery.webhook_id)
                        .with_text("task_id", &delivery.task_id)
                        .with_text("event", event_word(delivery.event()))
                        .with_text("state", state_word(delivery.state()))
                        .with("attempts", delivery.attempts)
                        .with("last_status", delivery.last_status)
                        .with_text("last_error", &delivery.last_error)
                        .with("created_at", time(&delivery.created_at))
                        .with("last_attempt_at", time(&delivery.last_attempt_at))
                        .with("next_attempt_at", time(&delivery.next_attempt_at))
                })
                .collect();
            print_record(output.output, &records)
        }
        OutputFormat::Name => {
            let names: String = deliveries
                .iter()
                .map(|delivery| format!("{}\n", delivery.id))
                .collect();
            console::print(&names)
        }
    }
}

fn events(webhook: &Webhook) -> Vec<String> {
    let words = webhook.events().map(event_word);
    words.map(str::to_owned).collect()
}

fn event_word(event: WebhookEvent) -> &'static str {
    match event {
        WebhookEvent::Unspecified => "unknown",
        WebhookEvent::Terminal => "terminal",
        WebhookEvent::Question => "question",
        WebhookEvent::Message => "message",
    }
}

fn state_word(state: WebhookDeliveryState) -> &'static str {
    match state {
        WebhookDeliveryState::Unspecified => "unknown",
        WebhookDeliveryState::Pending => "pending",
        WebhookDeliveryState::Delivered => "delivered",
        WebhookDeliveryState::Failed => "failed",
    }
}

impl From<EventWord> for WebhookEvent {
    fn from(word: EventWord) -> Self {
        match word {
            EventWord::Terminal => Self::Terminal,
            EventWord::Question => Self::Question,
            EventWord::Message => Self::Message,
        }
    }
}

impl From<DeliveryWord> for WebhookDeliveryState {
    fn from(word: DeliveryWord) -> Self {
        match word {
            DeliveryWord::Pending => Self::Pending,
            DeliveryWord::Delivered => Self::Delivered,
            DeliveryWord::Failed => Self::Failed,
        }
    }
}
