//! What came of an order, as the primary hears it.

use serde::{Deserialize, Serialize};

/// What came of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderOutcome {
    /// The certificate is there.
    Issued,
    /// It is not.
    Failed,
}
