//! What is sent: the body, and the headers that identify and sign it.

use crate::store::webhook_deliveries::DueDelivery;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use sha2::Sha256;

/// What one try sends.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What is stored of a body.
#[derive(Deserialize)]
struct Stored<'a> {
    task: Map<String, Value>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    question: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Body<'a> {
    event: &'a str,
    delivery_id: String,
    task: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<&'a RawValue>,
}

impl Letter {
    /// The letter of a delivery that is sent at `timestamp`, seconds since 1970. The body is the same at every try.
    ///
    /// # Errors
    /// What is stored of the delivery cannot be read.
    pub(crate) fn write(delivery: &DueDelivery, timestamp: i64) -> Result<Self, serde_json::Error> {
        let stored: Stored<'_> = serde_json::from_str(&delivery.body)?;
        let mut task = stored.task;
        for (name, value) in [
            ("session_id", &delivery.session_id),
            ("display_name", &delivery.display_name),
            ("kind", &delivery.kind),
        ] {
            task.insert(name.to_owned(), Value::from(value.as_str()));
        }
        let body = Bytes::from(serde_json::to_vec(&Body {
            event: delivery.event.as_str(),
            delivery_id: delivery.id.to_string(),
            task,
            message: stored.message,
            question: stored.question,
        })?);
        let timestamp = timestamp.to_string();
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("taskyard/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(
            HeaderName::from_static("taskyard-event"),
            HeaderValue::from_static(delivery.event.as_str()),
        );
        headers.insert(
            HeaderName::from_static("taskyard-delivery"),
            HeaderValue::from(delivery.id),
        );
        let signature = delivery
            .secret
            .as_ref()
            .map(|secret| sign(secret.key(), &timestamp, &body));
        for (name, text) in [
            ("taskyard-timestamp", Some(timestamp)),
            ("taskyard-signature", signature),
        ] {
            if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        Ok(Self { headers, body })
    }
}

/// `sha256=` and the hexadecimal HMAC over timestamp, a point and the body.
fn sign(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    // A key of any length is one; longer ones than a block are hashed.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::webhook_secret::WebhookSecret;
    use taskyard_core::webhook::WebhookEvent;

    #[test]
    fn a_letter_says_what_happened_and_is_signed() {
        let delivery = DueDelivery {
            id: 7,
            webhook: 1,
            attempt: 1,
            tries_left: 11,
            url: "http://a.example/".to_owned(),
            secret: Some(WebhookSecret::new("key".to_owned())),
            event: WebhookEvent::Message,
            body: r#"{"task":{"id":"task_1","generation":3},"message":{"big":12345678901234567890123}}"#
                .to_owned(),
            session_id: "demo".to_owned(),
            display_name: "the build".to_owned(),
            kind: "command".to_owned(),
        };
        let letter = Letter::write(&delivery, 1_700_000_000).expect("readable");
        let body = String::from_utf8(letter.body.to_vec()).expect("text");
        assert_eq!(
            body,
            r#"{"event":"message","delivery_id":"7","task":{"display_name":"the build","generation":3,"id":"task_1","kind":"command","session_id":"demo"},"message":{"big":12345678901234567890123}}"#
        );
        assert_eq!(letter.headers["taskyard-delivery"], "7");
        assert_eq!(letter.headers["taskyard-timestamp"], "1700000000");
        let unsigned = DueDelivery {
            secret: None,
            ..delivery
        };
        let letter = Letter::write(&unsigned, 1).expect("readable");
        assert!(!letter.headers.contains_key("taskyard-signature"));
    }

    #[test]
    fn a_signature_is_the_one_that_receivers_compute() {
        // RFC 4231, test case 2, cut where the point is not
        let signature = sign(b"Jefe", "what do ya want for nothing?", b"");
        assert_eq!(signature.len(), "sha256=".len() + 64);
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").expect("a key");
        mac.update(b"what do ya want for nothing?");
        let known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let hex: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, known);
    }
}
