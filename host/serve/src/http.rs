//! Requests and their responses, whatever protocol carries them: what their headers mean, their two bodies, how long they may
//! take, and the host's own answers. `serve` answers one request.

mod broken_off;
mod canary;
mod certified;
mod compress;
mod compressed;
mod deadline;
mod exchange;
mod file_answer;
mod file_transfer;
mod forward;
mod gathered;
mod gzip;
mod head;
mod lines;
mod linger;
mod link;
#[cfg(feature = "fault-injection")]
mod misdeeds;
mod pace;
#[allow(dead_code, reason = "the setting `forwarded-headers` is about to switch it on")]
mod proof;
mod proxied;
mod replayed;
mod request_body;
mod respond;
mod response_body;
mod response_head;
mod schedule_fields;
mod scheduled;
mod serve;
mod service_desk;
mod services;
mod shared;
mod source;
mod streaming;
mod traced;
mod upload;
mod waits;

pub(crate) use self::broken_off::BrokenOff;
pub(crate) use self::forward::connections::{ForwardConnections, GREETING};
pub(crate) use self::forward::introduction::{INTRODUCTION_BYTES_MAX, INTRODUCTION_FIELDS_MAX};
pub(crate) use self::forward::share::{Shares, share_max};
pub(crate) use self::forward::trailers::PACKED_BYTES_MAX;
pub(crate) use self::head::Framing;
pub(crate) use self::lines::Lines;
pub(crate) use self::link::{Carrier, Link, UNSEEN_BYTES};
pub(crate) use self::pace::{Pace, Slow};
pub use self::replayed::{ReplayedAnswer, ReplayedRequest};
pub(crate) use self::response_body::ResponseBody;
pub(crate) use self::response_head::without_connection_fields;
pub use self::scheduled::{RunEnd, RunOutcome, ScheduledRequest};
pub(crate) use self::serve::serve;
pub(crate) use self::service_desk::ServiceDesk;
pub(crate) use self::services::answer_calls;
pub(crate) use self::shared::WorkerShared;
pub(crate) use self::source::Came;
