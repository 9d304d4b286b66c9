//! What this server logs, and changing it while it runs.

use super::{refusal::Refusal, wire_time};
use std::time::Duration;
use taskyard_proto::v1::{
    GetLogFilterResponse, LogFilter, SetLogFilterRequest, SetLogFilterResponse,
};
use taskyard_telemetry::log_filter::{self, LogFilterError, MAX_DURATION};

const MIN_DURATION: Duration = Duration::from_secs(1);

/// Tells what is logged.
///
/// # Errors
/// [`Refusal::InvalidField`] where this process logs in a way of its own.
pub fn get_log_filter() -> Result<GetLogFilterResponse, Refusal> {
    let current = log_filter::get().map_err(refused)?;
    Ok(GetLogFilterResponse {
        log_filter: Some(to_wire(current)),
    })
}

/// Changes what is logged.
///
/// # Errors
/// [`Refusal::InvalidField`] for a filter that cannot be read.
pub fn set_log_filter(request: &SetLogFilterRequest) -> Result<SetLogFilterResponse, Refusal> {
    let lasting = wire_time::duration_field(
        "lasting",
        request.lasting.as_ref(),
        MIN_DURATION,
        MAX_DURATION,
    )?;
    let current = log_filter::set(&request.filter, lasting).map_err(refused)?;
    Ok(SetLogFilterResponse {
        log_filter: Some(to_wire(current)),
    })
}

fn refused(error: LogFilterError) -> Refusal {
    Refusal::invalid("filter", error.to_string())
}

fn to_wire(current: log_filter::LogFilter) -> LogFilter {
    LogFilter {
        filter: current.filter,
        at_start: current.at_start,
        reverts_in: current.reverts_in.map(|left| prost_types::Duration {
            seconds: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(left.subsec_nanos()).unwrap_or(0),
        }),
    }
}
