//! A step of a trace. Where nothing is exported a span costs nothing, and hands on the context that it was given.

use super::context::TraceContext;
use crate::pipeline;
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Span as _, SpanBuilder, Status, TraceContextExt, Tracer},
};
use std::time::SystemTime;

pub use opentelemetry::trace::SpanKind;

/// A step that is under way; it ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    inner: Option<opentelemetry_sdk::trace::Span>,
    context: TraceContext,
}

impl Span {
    /// Begins a step below another; without one, and with `may_begin`, it begins a trace.
    #[must_use]
    pub fn begin(
        name: impl Into<String>,
        kind: SpanKind,
        parent: &TraceContext,
        may_begin: bool,
    ) -> Self {
        Self::begin_at(name, kind, parent, may_begin, None)
    }

    /// As [`Span::begin`], for a step that began before.
    #[must_use]
    pub fn begin_at(
        name: impl Into<String>,
        kind: SpanKind,
        parent: &TraceContext,
        may_begin: bool,
        began_at: Option<SystemTime>,
    ) -> Self {
        let nothing = || Self {
            inner: None,
            context: parent.clone(),
        };
        let Some(tracer) = pipeline::tracer() else {
            return nothing();
        };
        let above = match parent.span_context() {
            Some(above) => Context::new().with_remote_span_context(above),
            None if may_begin => Context::new(),
            None => return nothing(),
        };
        let mut builder = SpanBuilder::from_name(name.into()).with_kind(kind);
        if let Some(began_at) = began_at {
            builder = builder.with_start_time(began_at);
        }
        let inner = tracer.build_with_context(builder, &above);
        Self {
            context: TraceContext::of(inner.span_context()),
            inner: Some(inner),
        }
    }

    /// What steps below this one, here or elsewhere, are given.
    #[must_use]
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Says something of the step.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) -> &mut Self {
        if let Some(inner) = &mut self.inner {
            inner.set_attribute(KeyValue::new(key, value));
        }
        self
    }

    /// The step failed.
    pub fn fail(&mut self, kind: &str, message: &str) -> &mut Self {
        self.set("error.type", kind.to_owned());
        if let Some(inner) = &mut self.inner {
            inner.set_status(Status::error(message.to_owned()));
        }
        self
    }

    /// It ended then.
    pub fn end_at(mut self, ended_at: SystemTime) {
        if let Some(inner) = &mut self.inner {
            inner.end_with_timestamp(ended_at);
        }
    }
}
