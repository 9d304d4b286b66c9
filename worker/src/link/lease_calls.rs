//! Calls that the work itself makes, passed on under its lease.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Response, Uri};
use prost::Message;
use tonic::body::Body;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt};
use tower::{Service, ServiceExt};

use super::convert::lease_to_wire;
use super::endpoint::Endpoint;
use crate::access::AuthorizedChannel;
use crate::lease::Lease;

/// Metadata that names the lease in whose name a call is made.
const LEASE_METADATA: &str = "taskyard-lease-bin";
/// When to try again while the control plane is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The way of one attempt's calls. It is a connection of its own, made when it is first used: work that does not read
/// what it asked for holds up nobody else. Clones are the same.
#[derive(Debug, Clone)]
pub struct LeaseCalls {
    endpoint: Endpoint,
    lease: HeaderValue,
    channel: Arc<OnceLock<AuthorizedChannel>>,
}

impl LeaseCalls {
    pub fn new(endpoint: &Endpoint, lease: &Lease) -> LeaseCalls {
        let encoded = BinaryMetadataValue::from_bytes(&lease_to_wire(lease).encode_to_vec());
        let mut metadata = MetadataMap::new();
        metadata.insert_bin(LEASE_METADATA, encoded);
        let lease = metadata.into_headers().remove(LEASE_METADATA);
        LeaseCalls {
            endpoint: endpoint.clone(),
            // It was just inserted; an empty one is refused by every control plane.
            lease: lease.unwrap_or(HeaderValue::from_static("")),
            channel: Arc::default(),
        }
    }

    /// Passes a call on as it is, but for the lease; the answer's body is still to come. Dropped, it is cancelled there.
    ///
    /// # Errors
    /// The control plane is out of reach: UNAVAILABLE, with a time to try again. The deadline of the call passed.
    pub async fn pass_on(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let mut passed = Request::new(body);
        *passed.method_mut() = head.method;
        *passed.version_mut() = head.version;
        let path = head.uri.path_and_query().cloned();
        *passed.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
        *passed.headers_mut() = head.headers;
        // All that the caller may have said in place of the worker.
        passed.headers_mut().remove(LEASE_METADATA);
        let name = HeaderName::from_static(LEASE_METADATA);
        passed.headers_mut().insert(name, self.lease.clone());
        let mut channel = self.channel.get_or_init(|| self.endpoint.connect()).clone();
        let answered = match channel.ready().await {
            Ok(channel) => channel.call(passed).await,
            Err(error) => Err(error),
        };
        answered.map_err(|error| explain(&error))
    }
}

/// The control plane cannot be reached, or went away before its answer was complete.
pub fn unreachable(cause: &str) -> Status {
    let mut details =
        ErrorDetails::with_error_info("SERVER_UNREACHABLE", "taskyard.dev", HashMap::new());
    details.set_retry_info(Some(RETRY_AFTER));
    let message = format!("the server is out of reach ({cause}); try again");
    Status::with_error_details(Code::Unavailable, message, details)
}

fn explain(error: &tonic::transport::Error) -> Status {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut cause = String::new();
    while let Some(current) = source {
        if current.is::<TimeoutExpired>() {
            return Status::deadline_exceeded("the deadline of the call passed");
        }
        cause = current.to_string();
        source = current.source();
    }
    unreachable(&cause)
}
