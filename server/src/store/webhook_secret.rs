//! What is stored of a webhook's secret. Every way of it into its column and out again leads through here.

use std::fmt;

/// The key of a webhook's signatures. It is never shown, not in logs either.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(String);

impl WebhookSecret {
    /// A secret as its owner gave it.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// What signatures are made with.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// What the column holds.
    pub(super) fn to_column(&self) -> &str {
        &self.0
    }

    /// What the column held.
    pub(super) fn from_column(column: String) -> Self {
        Self(column)
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WebhookSecret(..)")
    }
}
