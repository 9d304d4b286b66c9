//! W3C trace context: who asked for something, in two texts that go wherever the work goes.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use std::str::FromStr;

/// Metadata, or variable in capitals, with the trace and the span.
pub const TRACEPARENT: &str = "traceparent";
/// Metadata, or variable in capitals, with what vendors add.
pub const TRACESTATE: &str = "tracestate";
/// Longest `tracestate` that is passed on; a longer one is dropped, as the standard allows.
const MAX_STATE_BYTES: usize = 512;
/// Length of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;

/// The trace that something belongs to; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// `00-<trace>-<span>-<flags>`, or empty.
    parent: String,
    /// `vendor=value,…`, or empty.
    state: String,
}

impl TraceContext {
    /// Belongs to no trace.
    pub const NONE: Self = Self {
        parent: String::new(),
        state: String::new(),
    };

    /// Reads what a caller says; what makes no sense counts as nothing, as the standard wants it.
    #[must_use]
    pub fn read(parent: &str, state: &str) -> Self {
        let parent = parent.trim();
        if span_context(parent, "").is_none() {
            return Self::NONE;
        }
        let is_sound = state.len() <= MAX_STATE_BYTES && TraceState::from_str(state).is_ok();
        Self {
            // of a newer version only what we know is passed on
            parent: format!("00{}", &parent[2..PARENT_BYTES]),
            state: if is_sound {
                state.trim().to_owned()
            } else {
                String::new()
            },
        }
    }

    /// What the variables `TRACEPARENT` and `TRACESTATE` of this process say.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name.to_ascii_uppercase()).unwrap_or_default();
        Self::read(&variable(TRACEPARENT), &variable(TRACESTATE))
    }

    /// Whether it belongs to no trace.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.parent.is_empty()
    }

    /// As `traceparent`; empty: none.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.parent
    }

    /// As `tracestate`; empty: none.
    #[must_use]
    pub fn tracestate(&self) -> &str {
        &self.state
    }

    /// The trace, in hexadecimal, for logs; empty: none.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.parent.get(3..35).unwrap_or_default()
    }

    pub(crate) fn of(context: &SpanContext) -> Self {
        Self {
            parent: format!(
                "00-{:032x}-{:016x}-{:02x}",
                context.trace_id(),
                context.span_id(),
                context.trace_flags()
            ),
            state: context.trace_state().header(),
        }
    }

    pub(crate) fn span_context(&self) -> Option<SpanContext> {
        span_context(&self.parent, &self.state)
    }
}

fn span_context(parent: &str, state: &str) -> Option<SpanContext> {
    let is_readable = parent.is_ascii()
        && parent.len() >= PARENT_BYTES
        && parent
            .bytes()
            .all(|byte| byte == b'-' || !byte.is_ascii_uppercase());
    if !is_readable {
        return None;
    }
    let version = parent.get(..2)?;
    let has_more = parent.len() > PARENT_BYTES;
    let is_known = match version {
        "00" => !has_more,
        "ff" => false,
        _ => !has_more || parent.as_bytes().get(PARENT_BYTES) == Some(&b'-'),
    };
    let mut parts = parent.get(..PARENT_BYTES)?.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_whole = [(version, 2), (trace, 32), (span, 16), (flags, 2)]
        .iter()
        .all(|(part, length)| part.len() == *length && is_hex(part));
    if !is_known || !is_whole || parts.next().is_some() {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::from_str(state).unwrap_or_default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_good_context_survives_the_way() {
        let context = TraceContext::read(GOOD, "vendor=a,other=b");
        assert_eq!(context.traceparent(), GOOD);
        assert_eq!(context.tracestate(), "vendor=a,other=b");
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let span = context.span_context().expect("a span");
        assert_eq!(TraceContext::of(&span), context);
        assert!(span.is_sampled() && span.is_remote());
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known() {
        let newer = format!("cc{}-what-comes", &GOOD[2..]);
        assert_eq!(TraceContext::read(&newer, "").traceparent(), GOOD);
    }

    #[test]
    fn nonsense_is_no_context() {
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47é-00f067aa0ba902b7-01x",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(TraceContext::read(bad, "").is_none(), "{bad}");
        }
        let long = TraceContext::read(GOOD, &format!("a={}", "x".repeat(600)));
        assert_eq!((long.traceparent(), long.tracestate()), (GOOD, ""));
    }
}
