-- The trace that asked for a task, as W3C trace context writes it; null: none did.
alter table task add column traceparent text collate "C" check (octet_length(traceparent) <= 64);
alter table task add column tracestate text collate "C" check (octet_length(tracestate) <= 512);
