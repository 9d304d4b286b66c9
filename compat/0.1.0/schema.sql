-- as PostgreSQL 15 words it

create table attempt (
    task_id uuid not null,
    attempt integer not null,
    run integer not null,
    epoch bigint not null,
    lease_id uuid not null,
    item_no bigint not null,
    worker_name text,
    ended_at timestamp with time zone not null,
    error_kind text,
    error_message text,
    exit bytea,
    constraint attempt_attempt_check CHECK ((attempt >= 1)),
    constraint attempt_epoch_check CHECK ((epoch >= 1)),
    constraint attempt_item_no_check CHECK ((item_no >= 0)),
    constraint attempt_pkey PRIMARY KEY (task_id, attempt),
    constraint attempt_run_check CHECK ((run >= 1))
);
create table audit_event (
    id bigint not null generated always as identity,
    at timestamp with time zone not null default clock_timestamp(),
    who text not null,
    role text not null,
    credential text not null,
    peer text not null,
    method text not null,
    namespace text not null,
    session_id text not null,
    task text not null,
    request_id text not null,
    decision smallint not null,
    code text not null,
    calls integer not null,
    worker text not null default ''::text,
    pool text not null default ''::text,
    constraint audit_event_calls_check CHECK ((calls >= 1)),
    constraint audit_event_decision_check CHECK (((decision >= 1) AND (decision <= 3))),
    constraint audit_event_pkey PRIMARY KEY (id)
);
create table file (
    session_uid bigint not null,
    path text not null,
    version bigint not null,
    size bigint not null,
    modified_at timestamp with time zone not null,
    object_id uuid,
    constraint file_path_check CHECK (((path ~~ '/%'::text) AND ((octet_length(path) >= 2) AND (octet_length(path) <= 1024)))),
    constraint file_pkey PRIMARY KEY (session_uid, path),
    constraint file_size_check CHECK ((size >= 0))
);
create table file_chunk (
    session_uid bigint not null,
    path text not null,
    version bigint not null,
    chunk_no integer not null,
    data bytea not null,
    constraint file_chunk_chunk_no_check CHECK ((chunk_no >= 0)),
    constraint file_chunk_pkey PRIMARY KEY (session_uid, path, version, chunk_no)
);
create table file_object (
    id uuid not null,
    namespace_id integer,
    state smallint not null,
    sha256 bytea,
    size bigint,
    refs bigint not null default 0,
    touched_at timestamp with time zone not null default clock_timestamp(),
    constraint file_object_pkey PRIMARY KEY (id),
    constraint file_object_refs_check CHECK ((refs >= 0)),
    constraint file_object_sha256_check CHECK ((octet_length(sha256) = 32)),
    constraint file_object_size_check CHECK ((size >= 0)),
    constraint file_object_state_check CHECK (((state >= 1) AND (state <= 3))),
    constraint only_stored_content_is_referred_to CHECK (((refs = 0) OR (state = 2))),
    constraint stored_content_is_known CHECK (((state <> 2) OR ((namespace_id IS NOT NULL) AND (sha256 IS NOT NULL) AND (size IS NOT NULL))))
);
create table file_usage (
    session_uid bigint not null,
    namespace_id integer not null,
    files bigint not null,
    bytes bigint not null,
    constraint file_usage_bytes_check CHECK ((bytes >= 0)),
    constraint file_usage_files_check CHECK ((files >= 0)),
    constraint file_usage_pkey PRIMARY KEY (session_uid),
    constraint file_usage_session_uid_fkey FOREIGN KEY (session_uid) REFERENCES session(uid) ON DELETE CASCADE
) with (fillfactor=50);
create table message (
    task_id uuid not null,
    number bigint not null,
    id uuid not null,
    direction smallint not null,
    body bytea not null,
    in_reply_to text,
    run integer not null,
    request_id text,
    created_at timestamp with time zone not null,
    constraint message_direction_check CHECK (((direction >= 1) AND (direction <= 2))),
    constraint message_number_check CHECK ((number >= 1)),
    constraint message_pkey PRIMARY KEY (task_id, number),
    constraint message_request_id_check CHECK (((octet_length(request_id) >= 1) AND (octet_length(request_id) <= 128))),
    constraint message_run_check CHECK ((run >= 0))
);
create table monitor (
    task_id uuid not null,
    namespace_id integer not null,
    session_uid bigint not null,
    definition bytea not null,
    overlap smallint not null,
    keep_firings integer not null,
    slot_at timestamp with time zone,
    next_at timestamp with time zone,
    firings bigint not null default 0,
    skipped bigint not null default 0,
    judged bigint not null default 0,
    last_task uuid,
    last_state smallint,
    last_summary text not null default ''::text,
    last_digest bytea,
    constraint a_judgement_is_whole CHECK ((((judged = 0) = (last_state IS NULL)) AND ((judged = 0) = (last_task IS NULL)))),
    constraint a_next_firing_is_whole CHECK (((slot_at IS NULL) = (next_at IS NULL))),
    constraint monitor_check CHECK (((judged >= 0) AND (judged <= firings))),
    constraint monitor_firings_check CHECK ((firings >= 0)),
    constraint monitor_keep_firings_check CHECK (((keep_firings >= 1) AND (keep_firings <= 1000))),
    constraint monitor_last_digest_check CHECK ((octet_length(last_digest) = 32)),
    constraint monitor_last_state_check CHECK (((last_state >= 3) AND (last_state <= 5))),
    constraint monitor_overlap_check CHECK (((overlap >= 1) AND (overlap <= 3))),
    constraint monitor_pkey PRIMARY KEY (task_id),
    constraint monitor_skipped_check CHECK ((skipped >= 0))
) with (fillfactor=70);
create table monitor_firing (
    task_id uuid not null,
    number bigint not null,
    firing_id uuid not null,
    constraint monitor_firing_number_check CHECK ((number >= 1)),
    constraint monitor_firing_pkey PRIMARY KEY (task_id, number),
    constraint monitor_firing_task_id_fkey FOREIGN KEY (task_id) REFERENCES monitor(task_id) ON DELETE CASCADE
);
create table namespace (
    id integer not null generated always as identity,
    name text not null,
    constraint namespace_name_check CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text)),
    constraint namespace_name_key UNIQUE (name),
    constraint namespace_pkey PRIMARY KEY (id)
);
create table namespace_file_usage (
    namespace_id integer not null,
    shard smallint not null,
    files bigint not null,
    bytes bigint not null,
    constraint namespace_file_usage_bytes_check CHECK ((bytes >= 0)),
    constraint namespace_file_usage_files_check CHECK ((files >= 0)),
    constraint namespace_file_usage_pkey PRIMARY KEY (namespace_id, shard),
    constraint namespace_file_usage_shard_check CHECK (((shard >= 0) AND (shard <= 15)))
) with (fillfactor=50);
create table output_chunk (
    task_id uuid not null,
    run integer not null,
    stream smallint not null,
    start_offset bigint not null,
    end_offset bigint not null,
    chunk_order bigint not null,
    at timestamp with time zone not null,
    data bytea not null,
    constraint output_chunk_check CHECK ((end_offset > start_offset)),
    constraint output_chunk_check1 CHECK ((octet_length(data) = (end_offset - start_offset))),
    constraint output_chunk_pkey PRIMARY KEY (task_id, run, stream, start_offset),
    constraint output_chunk_start_offset_check CHECK ((start_offset >= 0))
);
create table output_stream (
    task_id uuid not null,
    run integer not null,
    stream smallint not null,
    durable_end bigint not null,
    contiguous_from bigint not null,
    total bigint not null,
    head_bytes bigint not null,
    tail_bytes bigint not null,
    constraint output_stream_check CHECK (((contiguous_from >= 0) AND (contiguous_from <= durable_end))),
    constraint output_stream_check1 CHECK ((total >= durable_end)),
    constraint output_stream_durable_end_check CHECK ((durable_end >= 0)),
    constraint output_stream_head_bytes_check CHECK ((head_bytes >= 0)),
    constraint output_stream_pkey PRIMARY KEY (task_id, run, stream),
    constraint output_stream_run_check CHECK ((run >= 1)),
    constraint output_stream_stream_check CHECK (((stream >= 1) AND (stream <= 2))),
    constraint output_stream_tail_bytes_check CHECK ((tail_bytes >= 0))
) with (fillfactor=50);
create table question (
    id uuid not null,
    task_id uuid not null,
    key text not null,
    body bytea not null,
    run integer not null,
    status smallint not null,
    answer_number bigint,
    constraint answered_by_a_message CHECK (((status = 2) = (answer_number IS NOT NULL))),
    constraint question_key_check CHECK (((octet_length(key) >= 1) AND (octet_length(key) <= 128))),
    constraint question_pkey PRIMARY KEY (id),
    constraint question_run_check CHECK ((run >= 1)),
    constraint question_status_check CHECK (((status >= 1) AND (status <= 3)))
);
create table queue_clock (
    queue text not null,
    priority smallint not null,
    virtual_time double precision not null,
    constraint queue_clock_pkey PRIMARY KEY (queue, priority)
) with (fillfactor=50);
create table request (
    namespace_id integer not null,
    method smallint not null,
    request_id text not null,
    fingerprint bytea not null,
    task_id uuid not null,
    at timestamp with time zone not null,
    constraint request_fingerprint_check CHECK ((octet_length(fingerprint) = 32)),
    constraint request_pkey PRIMARY KEY (namespace_id, method, request_id)
);
create table retention (
    namespace_id integer not null,
    session_uid bigint,
    ended_task_ttl_ms bigint,
    max_ended_tasks bigint,
    max_ended_bytes bigint,
    updated_at timestamp with time zone not null default clock_timestamp(),
    constraint retention_ended_task_ttl_ms_check CHECK ((ended_task_ttl_ms > 0)),
    constraint retention_max_ended_bytes_check CHECK ((max_ended_bytes >= 0)),
    constraint retention_max_ended_tasks_check CHECK ((max_ended_tasks >= 0))
);
create table route (
    id integer not null generated always as identity,
    queue text not null,
    kind text not null,
    executor text not null,
    worker_labels jsonb not null,
    constraint route_pkey PRIMARY KEY (id),
    constraint route_queue_kind_executor_worker_labels_key UNIQUE (queue, kind, executor, worker_labels),
    constraint route_worker_labels_check CHECK ((jsonb_typeof(worker_labels) = 'object'::text))
);
create table run_report (
    task_id uuid not null,
    run integer not null,
    output_json text,
    usage_json text,
    constraint run_report_pkey PRIMARY KEY (task_id, run),
    constraint run_report_run_check CHECK ((run >= 1))
);
create table run_usage (
    root_id uuid not null,
    task_id uuid not null,
    run integer not null,
    cpu_ms bigint not null,
    max_rss_bytes bigint not null,
    reported jsonb,
    constraint run_usage_cpu_ms_check CHECK ((cpu_ms >= 0)),
    constraint run_usage_max_rss_bytes_check CHECK ((max_rss_bytes >= 0)),
    constraint run_usage_pkey PRIMARY KEY (root_id, task_id, run),
    constraint run_usage_run_check CHECK ((run >= 1))
);
create table schema_needs (
    one_row boolean not null default true,
    migration bigint not null,
    constraint schema_needs_migration_check CHECK ((migration > 0)),
    constraint schema_needs_one_row_check CHECK (one_row),
    constraint schema_needs_pkey PRIMARY KEY (one_row)
);
create table session (
    uid bigint not null generated always as identity,
    namespace_id integer not null,
    id text not null,
    next_seq bigint not null default 1,
    next_ordinal bigint not null default 1,
    open_tasks bigint not null default 0,
    fair_last double precision not null default 0,
    created_at timestamp with time zone not null default clock_timestamp(),
    updated_at timestamp with time zone,
    succeeded_tasks bigint not null default 0,
    failed_tasks bigint not null default 0,
    canceled_tasks bigint not null default 0,
    awaiting_input_tasks bigint not null default 0,
    deleted_at timestamp with time zone,
    used_tasks bigint not null default 0,
    used_runs bigint not null default 0,
    used_cpu_ms bigint not null default 0,
    used_max_rss_bytes bigint not null default 0,
    constraint session_awaiting_input_tasks_check CHECK ((awaiting_input_tasks >= 0)),
    constraint session_canceled_tasks_check CHECK ((canceled_tasks >= 0)),
    constraint session_check CHECK ((used_runs >= used_tasks)),
    constraint session_failed_tasks_check CHECK ((failed_tasks >= 0)),
    constraint session_id_check CHECK (((octet_length(id) >= 1) AND (octet_length(id) <= 256))),
    constraint session_namespace_id_fkey FOREIGN KEY (namespace_id) REFERENCES namespace(id),
    constraint session_next_ordinal_check CHECK ((next_ordinal >= 1)),
    constraint session_next_seq_check CHECK ((next_seq >= 1)),
    constraint session_open_tasks_check CHECK ((open_tasks >= 0)),
    constraint session_pkey PRIMARY KEY (uid),
    constraint session_succeeded_tasks_check CHECK ((succeeded_tasks >= 0)),
    constraint session_used_cpu_ms_check CHECK ((used_cpu_ms >= 0)),
    constraint session_used_max_rss_bytes_check CHECK ((used_max_rss_bytes >= 0)),
    constraint session_used_tasks_check CHECK ((used_tasks >= 0))
) with (fillfactor=50);
create table session_log (
    session_uid bigint not null,
    last_seq bigint not null,
    first_seq bigint not null,
    at timestamp with time zone not null,
    body bytea not null,
    constraint session_log_check CHECK (((first_seq >= 1) AND (first_seq <= last_seq))),
    constraint session_log_pkey PRIMARY KEY (session_uid, last_seq)
);
create table session_usage (
    session_uid bigint not null,
    name text not null,
    total numeric not null,
    constraint session_usage_name_check CHECK ((octet_length(name) <= 128)),
    constraint session_usage_pkey PRIMARY KEY (session_uid, name)
) with (fillfactor=70);
create table store_identity (
    only_row boolean not null default true,
    id uuid not null default gen_random_uuid(),
    constraint store_identity_only_row_check CHECK (only_row),
    constraint store_identity_pkey PRIMARY KEY (only_row)
);
create table task (
    id uuid not null,
    namespace_id integer not null,
    session_uid bigint not null,
    ordinal bigint not null,
    route_id integer not null,
    name text,
    key text,
    display_name text not null,
    spec bytea not null,
    parent_id uuid,
    root_id uuid not null,
    group_name text,
    labels jsonb not null,
    tags text[] not null,
    priority smallint not null,
    not_before timestamp with time zone,
    start_deadline timestamp with time zone,
    timeout_ms bigint,
    max_runs integer not null,
    initial_backoff_ms bigint not null,
    max_backoff_ms bigint not null,
    backoff_multiplier double precision not null,
    wake_policy smallint not null,
    retry_of uuid,
    fingerprint bytea not null,
    created_at timestamp with time zone not null,
    depth smallint not null default 0,
    group_wake smallint not null default 1,
    has_result_schema boolean not null default false,
    secrets bytea,
    traceparent text,
    tracestate text,
    constraint task_backoff_multiplier_check CHECK ((backoff_multiplier >= (1)::double precision)),
    constraint task_depth_check CHECK ((depth >= 0)),
    constraint task_fingerprint_check CHECK ((octet_length(fingerprint) = 32)),
    constraint task_group_wake_check CHECK (((group_wake >= 1) AND (group_wake <= 3))),
    constraint task_initial_backoff_ms_check CHECK ((initial_backoff_ms >= 0)),
    constraint task_labels_check CHECK ((jsonb_typeof(labels) = 'object'::text)),
    constraint task_max_backoff_ms_check CHECK ((max_backoff_ms >= 0)),
    constraint task_max_runs_check CHECK (((max_runs >= 1) AND (max_runs <= 100))),
    constraint task_ordinal_check CHECK ((ordinal >= 1)),
    constraint task_pkey PRIMARY KEY (id),
    constraint task_priority_check CHECK (((priority >= '-100'::integer) AND (priority <= 100))),
    constraint task_timeout_ms_check CHECK ((timeout_ms > 0)),
    constraint task_traceparent_check CHECK ((octet_length(traceparent) <= 64)),
    constraint task_tracestate_check CHECK ((octet_length(tracestate) <= 512)),
    constraint task_wake_policy_check CHECK (((wake_policy >= 1) AND (wake_policy <= 3)))
);
create table task_end (
    id uuid not null,
    state smallint not null,
    run integer not null,
    attempt integer not null,
    generation bigint not null,
    epoch bigint not null,
    lease_id uuid,
    item_no bigint not null,
    worker_name text,
    cancel_requested_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone not null,
    updated_at timestamp with time zone not null,
    state_detail text not null,
    summary text not null,
    progress bytea,
    content bytea,
    error_kind text,
    error_message text,
    error_retryable boolean,
    run_end bytea,
    constraint an_error_is_whole CHECK ((((error_kind IS NULL) = (error_message IS NULL)) AND ((error_kind IS NULL) = (error_retryable IS NULL)))),
    constraint attempts_cover_runs CHECK ((attempt >= run)),
    constraint canceled_was_asked_for CHECK (((state <> 5) OR (cancel_requested_at IS NOT NULL))),
    constraint failed_has_an_error CHECK (((state = 4) = (error_kind IS NOT NULL))),
    constraint runs_have_a_start CHECK (((run = 0) OR (started_at IS NOT NULL))),
    constraint task_end_generation_check CHECK ((generation >= 2)),
    constraint task_end_pkey PRIMARY KEY (id),
    constraint task_end_run_check CHECK ((run >= 0)),
    constraint task_end_state_check CHECK (((state >= 3) AND (state <= 5))),
    constraint task_end_summary_check CHECK ((octet_length(summary) <= 200))
);
create table task_input (
    task_id uuid not null,
    run integer not null,
    accepted bigint not null default 0,
    delivered bigint not null default 0,
    ended boolean not null default false,
    constraint delivered_was_accepted CHECK (((delivered >= 0) AND (delivered <= accepted))),
    constraint task_input_accepted_check CHECK ((accepted >= 0)),
    constraint task_input_pkey PRIMARY KEY (task_id, run),
    constraint task_input_run_check CHECK ((run >= 1))
) with (fillfactor=50);
create table task_input_chunk (
    task_id uuid not null,
    run integer not null,
    start_offset bigint not null,
    data bytea not null,
    constraint task_input_chunk_data_check CHECK ((octet_length(data) > 0)),
    constraint task_input_chunk_pkey PRIMARY KEY (task_id, run, start_offset),
    constraint task_input_chunk_start_offset_check CHECK ((start_offset >= 0))
);
create table task_live (
    id uuid not null,
    session_uid bigint not null,
    route_id integer not null,
    name text,
    priority smallint not null,
    fair_key double precision not null,
    state smallint not null default 0,
    gate smallint not null default 0,
    not_before timestamp with time zone,
    start_deadline timestamp with time zone,
    run integer not null default 0,
    attempt integer not null default 0,
    generation bigint not null default 1,
    epoch bigint not null default 0,
    lease_id uuid,
    item_no bigint not null default 0,
    worker_session bigint,
    attach_no bigint,
    offered_at timestamp with time zone,
    lease_ms bigint not null,
    worker_name text,
    cancel_requested_at timestamp with time zone,
    cancel_grace_ms bigint,
    started_at timestamp with time zone,
    updated_at timestamp with time zone not null,
    state_detail text not null default ''::text,
    summary text not null default ''::text,
    progress bytea,
    progress_at timestamp with time zone,
    content bytea,
    error_kind text,
    error_message text,
    last_exit bytea,
    question_id uuid,
    question bytea,
    question_expires_at timestamp with time zone,
    group_name text,
    messages bigint not null default 0,
    delivered bigint not null default 0,
    delivered_run integer not null default 0,
    is_monitor boolean not null default false,
    cancel_signal smallint,
    forgiven_runs integer not null default 0,
    constraint a_cancel_signal_needs_a_cancel CHECK (((cancel_signal IS NULL) OR (cancel_requested_at IS NOT NULL))),
    constraint a_grace_needs_a_cancel CHECK (((cancel_grace_ms IS NULL) OR (cancel_requested_at IS NOT NULL))),
    constraint a_monitor_is_never_claimed CHECK (((NOT is_monitor) OR ((state = 0) AND (gate = ANY (ARRAY[2, 3]))))),
    constraint a_monitors_gate_is_its_own CHECK (((gate <> 3) OR is_monitor)),
    constraint a_timed_gate_has_its_time CHECK (((gate <> 1) OR (not_before IS NOT NULL))),
    constraint asking_has_a_question CHECK (((state = 2) = (question_id IS NOT NULL))),
    constraint attempts_cover_runs CHECK ((attempt >= run)),
    constraint forgiven_runs_were_run CHECK (((forgiven_runs >= 0) AND (forgiven_runs <= run))),
    constraint gates_are_for_the_unheld CHECK (((gate = 0) OR ((state = 0) AND (worker_session IS NULL)))),
    constraint held_by_a_whole_lease CHECK (((worker_session IS NULL) OR ((lease_id IS NOT NULL) AND (epoch > 0)))),
    constraint no_cancel_waits_in_the_queue CHECK (((state <> 0) OR (cancel_requested_at IS NULL))),
    constraint queued_is_offered_or_free CHECK (((offered_at IS NOT NULL) = ((state = 0) AND (worker_session IS NOT NULL)))),
    constraint running_is_held CHECK (((state <> 1) OR ((worker_session IS NOT NULL) AND (run >= 1) AND (started_at IS NOT NULL)))),
    constraint task_live_cancel_grace_ms_check CHECK ((cancel_grace_ms >= 0)),
    constraint task_live_cancel_signal_check CHECK (((cancel_signal >= 1) AND (cancel_signal <= 64))),
    constraint task_live_check CHECK (((delivered >= 0) AND (delivered <= messages))),
    constraint task_live_delivered_run_check CHECK ((delivered_run >= 0)),
    constraint task_live_epoch_check CHECK ((epoch >= 0)),
    constraint task_live_gate_check CHECK (((gate >= 0) AND (gate <= 3))),
    constraint task_live_generation_check CHECK ((generation >= 1)),
    constraint task_live_item_no_check CHECK ((item_no >= 0)),
    constraint task_live_lease_ms_check CHECK ((lease_ms > 0)),
    constraint task_live_messages_check CHECK ((messages >= 0)),
    constraint task_live_pkey PRIMARY KEY (id),
    constraint task_live_run_check CHECK ((run >= 0)),
    constraint task_live_state_check CHECK (((state >= 0) AND (state <= 2)))
) with (fillfactor=70, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=2000, autovacuum_analyze_scale_factor=0, autovacuum_analyze_threshold=5000, autovacuum_vacuum_cost_delay=0);
create table task_secret (
    task_id uuid not null,
    name text not null,
    key_id bytea not null,
    nonce bytea not null,
    sealed bytea not null,
    constraint task_secret_key_id_check CHECK ((octet_length(key_id) = 8)),
    constraint task_secret_name_check CHECK (((octet_length(name) >= 1) AND (octet_length(name) <= 128))),
    constraint task_secret_nonce_check CHECK ((octet_length(nonce) = 24)),
    constraint task_secret_pkey PRIMARY KEY (task_id, name),
    constraint task_secret_sealed_check CHECK ((octet_length(sealed) > 16))
);
create table task_signal (
    id bigint not null generated always as identity,
    task_id uuid not null,
    run integer not null,
    epoch bigint not null,
    lease_id uuid not null,
    worker_session bigint not null,
    signal smallint not null,
    root_only boolean not null,
    outcome smallint,
    at timestamp with time zone not null default clock_timestamp(),
    constraint task_signal_epoch_check CHECK ((epoch >= 1)),
    constraint task_signal_outcome_check CHECK (((outcome >= 1) AND (outcome <= 2))),
    constraint task_signal_pkey PRIMARY KEY (id),
    constraint task_signal_run_check CHECK ((run >= 1)),
    constraint task_signal_signal_check CHECK (((signal >= 1) AND (signal <= 64)))
);
create table task_terminal (
    task_id uuid not null,
    rows smallint not null,
    columns smallint not null,
    number bigint not null default 1,
    constraint task_terminal_columns_check CHECK (((columns >= 1) AND (columns <= 1000))),
    constraint task_terminal_number_check CHECK ((number >= 1)),
    constraint task_terminal_pkey PRIMARY KEY (task_id),
    constraint task_terminal_rows_check CHECK (((rows >= 1) AND (rows <= 1000)))
) with (fillfactor=50);
create table wake (
    id bigint not null generated always as identity,
    namespace_id integer not null,
    session_uid bigint not null,
    task_id uuid not null,
    body bytea not null,
    created_at timestamp with time zone not null,
    consumer text,
    leased_until timestamp with time zone,
    deliveries integer not null default 0,
    task_deleted_at timestamp with time zone,
    question_id uuid,
    constraint leased_to_somebody CHECK (((consumer IS NULL) = (leased_until IS NULL))),
    constraint wake_deliveries_check CHECK ((deliveries >= 0)),
    constraint wake_pkey PRIMARY KEY (id)
) with (fillfactor=70);
create table webhook (
    id uuid not null,
    namespace_id integer not null,
    session_uid bigint,
    task_id uuid,
    url text not null,
    secret text,
    events smallint not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    constraint a_task_is_of_a_session CHECK (((task_id IS NULL) OR (session_uid IS NOT NULL))),
    constraint webhook_events_check CHECK (((events >= 1) AND (events <= 7))),
    constraint webhook_pkey PRIMARY KEY (id),
    constraint webhook_secret_check CHECK (((octet_length(secret) >= 1) AND (octet_length(secret) <= 256))),
    constraint webhook_url_check CHECK (((octet_length(url) >= 1) AND (octet_length(url) <= 2048)))
);
create table webhook_delivery (
    id bigint not null generated always as identity,
    webhook_id uuid not null,
    task_id uuid not null,
    event smallint not null,
    body text not null,
    session_id text not null,
    display_name text not null,
    kind text not null,
    created_at timestamp with time zone not null,
    state smallint not null default 1,
    attempts integer not null default 0,
    tries_left smallint not null,
    next_attempt_at timestamp with time zone,
    last_status smallint not null default 0,
    last_error text not null default ''::text,
    last_attempt_at timestamp with time zone,
    constraint pending_is_tried_again CHECK (((state = 1) = (next_attempt_at IS NOT NULL))),
    constraint webhook_delivery_attempts_check CHECK ((attempts >= 0)),
    constraint webhook_delivery_event_check CHECK ((event = ANY (ARRAY[1, 2, 4]))),
    constraint webhook_delivery_pkey PRIMARY KEY (id),
    constraint webhook_delivery_state_check CHECK (((state >= 1) AND (state <= 3))),
    constraint webhook_delivery_tries_left_check CHECK ((tries_left >= 0))
) with (fillfactor=80);
create table worker_session (
    id bigint not null generated always as identity,
    name text not null,
    instance_id uuid not null,
    state_id uuid not null,
    status smallint not null,
    attach_no bigint not null,
    slots integer not null,
    queues text[] not null,
    kinds text[] not null,
    executors text[] not null,
    labels jsonb not null,
    version text not null,
    protocol integer not null,
    attached_at timestamp with time zone not null,
    renewed_at timestamp with time zone not null,
    ended_at timestamp with time zone,
    holder text,
    constraint ended_when_over CHECK (((status >= 3) = (ended_at IS NOT NULL))),
    constraint worker_session_attach_no_check CHECK ((attach_no >= 1)),
    constraint worker_session_labels_check CHECK ((jsonb_typeof(labels) = 'object'::text)),
    constraint worker_session_pkey PRIMARY KEY (id),
    constraint worker_session_slots_check CHECK (((slots >= 1) AND (slots <= 10000))),
    constraint worker_session_status_check CHECK (((status >= 1) AND (status <= 4)))
) with (fillfactor=50);

create sequence audit_event_id_seq as bigint start 1 increment 1;
create sequence file_version as bigint start 1 increment 1;
create sequence namespace_id_seq as integer start 1 increment 1;
create sequence route_id_seq as integer start 1 increment 1;
create sequence session_uid_seq as bigint start 1 increment 1;
create sequence task_signal_id_seq as bigint start 1 increment 1;
create sequence wake_id_seq as bigint start 1 increment 1;
create sequence webhook_delivery_id_seq as bigint start 1 increment 1;
create sequence worker_session_id_seq as bigint start 1 increment 1;

CREATE INDEX audit_event_by_namespace ON public.audit_event USING btree (namespace, id);
CREATE INDEX audit_event_by_time ON public.audit_event USING btree (at);
CREATE INDEX audit_event_by_who ON public.audit_event USING btree (who, id);
CREATE INDEX audit_event_denied ON public.audit_event USING btree (id) WHERE (decision = 2);
CREATE UNIQUE INDEX file_object_by_content ON public.file_object USING btree (namespace_id, sha256) WHERE (state = 2);
CREATE INDEX file_object_unused ON public.file_object USING btree (touched_at) WHERE (refs = 0);
CREATE INDEX message_by_id ON public.message USING btree (task_id, id);
CREATE UNIQUE INDEX message_by_request ON public.message USING btree (task_id, direction, request_id) WHERE (request_id IS NOT NULL);
CREATE INDEX monitor_by_namespace ON public.monitor USING btree (namespace_id, task_id);
CREATE INDEX monitor_due ON public.monitor USING btree (next_at) WHERE (next_at IS NOT NULL);
CREATE INDEX question_by_key ON public.question USING btree (task_id, key, id);
CREATE INDEX request_by_age ON public.request USING btree (at);
CREATE UNIQUE INDEX retention_by_scope ON public.retention USING btree (namespace_id, COALESCE(session_uid, (0)::bigint));
CREATE UNIQUE INDEX session_by_id ON public.session USING btree (namespace_id, id) WHERE (deleted_at IS NULL);
CREATE INDEX session_by_namespace ON public.session USING btree (namespace_id, uid) WHERE (deleted_at IS NULL);
CREATE INDEX session_to_remove ON public.session USING btree (uid) WHERE (deleted_at IS NOT NULL);
CREATE INDEX task_by_group ON public.task USING btree (namespace_id, group_name, id) WHERE (group_name IS NOT NULL);
CREATE UNIQUE INDEX task_by_key ON public.task USING btree (session_uid, COALESCE(parent_id, '00000000-0000-0000-0000-000000000000'::uuid), key) WHERE (key IS NOT NULL);
CREATE INDEX task_by_namespace ON public.task USING btree (namespace_id, id);
CREATE UNIQUE INDEX task_by_ordinal ON public.task USING btree (session_uid, ordinal);
CREATE INDEX task_by_parent ON public.task USING btree (parent_id, id) WHERE (parent_id IS NOT NULL);
CREATE INDEX task_by_root ON public.task USING btree (root_id, id) WHERE (parent_id IS NOT NULL);
CREATE INDEX task_by_session_group ON public.task USING btree (session_uid, group_name, ordinal) WHERE (group_name IS NOT NULL);
CREATE INDEX task_end_by_age ON public.task_end USING btree (finished_at);
CREATE INDEX task_end_by_worker ON public.task_end USING btree (worker_name, id) WHERE (worker_name IS NOT NULL);
CREATE INDEX task_end_unsuccessful ON public.task_end USING btree (id) WHERE (state > 3);
CREATE INDEX task_live_busy ON public.task_live USING btree (id) WHERE (state > 0);
CREATE INDEX task_live_busy_by_route ON public.task_live USING btree (route_id, state) WHERE (state > 0);
CREATE INDEX task_live_by_group ON public.task_live USING btree (session_uid, group_name) WHERE (group_name IS NOT NULL);
CREATE UNIQUE INDEX task_live_by_name ON public.task_live USING btree (session_uid, name) WHERE (name IS NOT NULL);
CREATE INDEX task_live_by_question_expiry ON public.task_live USING btree (question_expires_at) WHERE (question_expires_at IS NOT NULL);
CREATE INDEX task_live_by_session ON public.task_live USING btree (session_uid);
CREATE INDEX task_live_by_worker ON public.task_live USING btree (worker_session) WHERE (worker_session IS NOT NULL);
CREATE INDEX task_live_claim ON public.task_live USING btree (route_id, priority DESC, fair_key, id) WHERE ((state = 0) AND (gate = 0) AND (worker_session IS NULL));
CREATE INDEX task_live_due ON public.task_live USING btree (not_before) WHERE (gate = 1);
CREATE INDEX task_live_start_deadline ON public.task_live USING btree (start_deadline) WHERE ((start_deadline IS NOT NULL) AND (state = 0) AND (run = 0));
CREATE INDEX task_live_waiting_by_route ON public.task_live USING btree (route_id) WHERE (gate = ANY (ARRAY[1, 2]));
CREATE INDEX task_signal_by_worker ON public.task_signal USING btree (worker_session) WHERE (outcome IS NULL);
CREATE INDEX wake_by_namespace ON public.wake USING btree (namespace_id, id);
CREATE INDEX wake_by_session ON public.wake USING btree (session_uid, id);
CREATE INDEX wake_to_forget ON public.wake USING btree (task_deleted_at) WHERE (task_deleted_at IS NOT NULL);
CREATE INDEX webhook_by_namespace ON public.webhook USING btree (namespace_id, id);
CREATE INDEX webhook_delivery_by_age ON public.webhook_delivery USING btree (created_at);
CREATE INDEX webhook_delivery_by_webhook ON public.webhook_delivery USING btree (webhook_id, id);
CREATE INDEX webhook_delivery_due ON public.webhook_delivery USING btree (next_attempt_at) WHERE (state = 1);
CREATE INDEX webhook_delivery_due_by_webhook ON public.webhook_delivery USING btree (webhook_id, next_attempt_at) WHERE (state = 1);
CREATE UNIQUE INDEX worker_session_by_instance ON public.worker_session USING btree (instance_id) WHERE (status <= 2);
CREATE INDEX worker_session_by_name ON public.worker_session USING btree (name);
CREATE INDEX worker_session_by_state ON public.worker_session USING btree (state_id) WHERE (status <= 2);

create view task_record as
 SELECT t.id,
    t.namespace_id,
    n.name AS namespace,
    t.session_uid,
    s.id AS session_id,
    t.ordinal,
    t.name,
    t.key,
    r.kind,
    t.display_name,
    t.spec,
    t.parent_id,
    t.root_id,
    t.group_name,
    t.labels::text AS labels,
    t.tags,
    r.queue,
    r.executor,
    t.priority,
    t.start_deadline,
    t.timeout_ms,
    t.max_runs,
    t.initial_backoff_ms,
    t.max_backoff_ms,
    t.backoff_multiplier,
    t.wake_policy,
    t.retry_of,
    t.created_at,
    COALESCE(l.state, e.state) AS state,
    COALESCE(l.not_before, t.not_before) AS not_before,
    COALESCE(l.gate = 2, false) AS hold,
    COALESCE(l.run, e.run) AS run,
    COALESCE(l.attempt, e.attempt) AS attempt,
    COALESCE(l.generation, e.generation) AS generation,
    COALESCE(l.worker_name, e.worker_name) AS worker_name,
    w.renewed_at AS heartbeat_at,
    COALESCE(l.cancel_requested_at, e.cancel_requested_at) AS cancel_requested_at,
    COALESCE(l.started_at, e.started_at) AS started_at,
    e.finished_at,
    COALESCE(l.updated_at, e.updated_at) AS updated_at,
    COALESCE(l.state_detail, e.state_detail) AS state_detail,
    COALESCE(l.summary, e.summary) AS summary,
    COALESCE(l.progress, e.progress) AS progress,
    COALESCE(l.content, e.content) AS content,
    COALESCE(l.error_kind, e.error_kind) AS error_kind,
    COALESCE(l.error_message, e.error_message) AS error_message,
    COALESCE(e.error_retryable, l.error_kind IS NOT NULL) AS error_retryable,
    l.last_exit,
    l.question,
    e.run_end,
    t.group_wake,
    t.secrets
   FROM task t
     JOIN session s ON s.uid = t.session_uid
     JOIN namespace n ON n.id = t.namespace_id
     JOIN route r ON r.id = t.route_id
     LEFT JOIN task_live l ON l.id = t.id
     LEFT JOIN task_end e ON e.id = t.id
     LEFT JOIN worker_session w ON w.id = l.worker_session
  WHERE s.deleted_at IS NULL;

CREATE OR REPLACE FUNCTION public.audit_event_is_append_only()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
    if tg_op = 'DELETE' and old.at < clock_timestamp() - interval '7 days' then
        return old;
    end if;
    raise exception 'the audit log is append-only: entries never change, and stay for at least 7 days'
        using errcode = 'insufficient_privilege';
end
$function$
;
CREATE OR REPLACE FUNCTION public.kept_bytes(of_session bigint, of_task uuid)
 RETURNS bigint
 LANGUAGE sql
 STABLE
AS $function$
    select coalesce((select sum(least(durable_end, head_bytes + tail_bytes)) from output_stream where task_id = of_task), 0)::bigint
        + coalesce((select sum(size) from file
            where session_uid = of_session
                and path > '/.tasks/task_' || replace(of_task::text, '-', '') || '/'
                and path < '/.tasks/task_' || replace(of_task::text, '-', '') || '0'), 0)::bigint
$function$
;
CREATE OR REPLACE FUNCTION public.note_file_changes()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
declare
    sessions bigint[];
    more_files bigint[];
    more_bytes bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(d.uid order by d.uid), array_agg(d.n order by d.uid), array_agg(d.size order by d.uid)
            into sessions, more_files, more_bytes
            from (select session_uid as uid, count(*) as n, sum(size)::bigint as size
                  from new_files group by session_uid) d;
        update file_object o set refs = o.refs + d.n, touched_at = clock_timestamp()
            from (select object_id, count(*) as n from new_files where object_id is not null group by object_id) d
            where o.id = d.object_id;
    elsif tg_op = 'UPDATE' then
        select array_agg(d.uid order by d.uid), array_agg(0::bigint order by d.uid), array_agg(d.size order by d.uid)
            into sessions, more_files, more_bytes
            from (select uid, sum(size)::bigint as size
                  from (select session_uid as uid, size from new_files
                        union all select session_uid, -size from old_files) change
                  group by uid) d;
        update file_object o set refs = o.refs + d.n, touched_at = clock_timestamp()
            from (select object_id, sum(n)::bigint as n
                  from (select object_id, 1 as n from new_files where object_id is not null
                        union all select object_id, -1 from old_files where object_id is not null) change
                  group by object_id having sum(n) <> 0) d
            where o.id = d.object_id;
    else
        select array_agg(d.uid order by d.uid), array_agg(-d.n order by d.uid), array_agg(-d.size order by d.uid)
            into sessions, more_files, more_bytes
            from (select session_uid as uid, count(*) as n, sum(size)::bigint as size
                  from old_files group by session_uid) d;
        update file_object o set refs = o.refs - d.n, touched_at = clock_timestamp()
            from (select object_id, count(*) as n from old_files where object_id is not null group by object_id) d
            where o.id = d.object_id;
    end if;
    if sessions is null then
        return null;
    end if;
    if tg_op = 'INSERT' then
        insert into file_usage (session_uid, namespace_id, files, bytes)
            select s.uid, s.namespace_id, 0, 0 from session s where s.uid = any(sessions) order by s.uid
            on conflict (session_uid) do nothing;
        insert into namespace_file_usage (namespace_id, shard, files, bytes)
            select distinct u.namespace_id, u.session_uid % 16, 0, 0 from file_usage u where u.session_uid = any(sessions)
            on conflict (namespace_id, shard) do nothing;
    end if;
    -- always in this order, sessions before namespaces
    perform 1 from file_usage u where u.session_uid = any(sessions) order by u.session_uid for no key update;
    update file_usage u set files = u.files + d.files, bytes = u.bytes + d.bytes
        from unnest(sessions, more_files, more_bytes) d(uid, files, bytes)
        where u.session_uid = d.uid;
    update namespace_file_usage n set files = n.files + d.files, bytes = n.bytes + d.bytes
        from (select u.namespace_id, u.session_uid % 16 as shard, sum(c.files)::bigint as files, sum(c.bytes)::bigint as bytes
              from unnest(sessions, more_files, more_bytes) c(uid, files, bytes)
              join file_usage u on u.session_uid = c.uid
              group by 1, 2) d
        where n.namespace_id = d.namespace_id and n.shard = d.shard;
    return null;
end
$function$
;
CREATE OR REPLACE FUNCTION public.note_usage_gone()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
    update namespace_file_usage n set files = n.files - old.files, bytes = n.bytes - old.bytes
        where n.namespace_id = old.namespace_id and n.shard = old.session_uid % 16;
    return null;
end
$function$
;

CREATE TRIGGER audit_event_append_only BEFORE DELETE OR UPDATE ON public.audit_event FOR EACH ROW EXECUTE FUNCTION audit_event_is_append_only();
CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON public.audit_event FOR EACH STATEMENT EXECUTE FUNCTION audit_event_is_append_only();
CREATE TRIGGER files_deleted AFTER DELETE ON public.file REFERENCING OLD TABLE AS old_files FOR EACH STATEMENT EXECUTE FUNCTION note_file_changes();
CREATE TRIGGER files_inserted AFTER INSERT ON public.file REFERENCING NEW TABLE AS new_files FOR EACH STATEMENT EXECUTE FUNCTION note_file_changes();
CREATE TRIGGER files_updated AFTER UPDATE ON public.file REFERENCING OLD TABLE AS old_files NEW TABLE AS new_files FOR EACH STATEMENT EXECUTE FUNCTION note_file_changes();
CREATE TRIGGER usage_gone AFTER DELETE ON public.file_usage FOR EACH ROW WHEN (((old.files > 0) OR (old.bytes > 0))) EXECUTE FUNCTION note_usage_gone();
