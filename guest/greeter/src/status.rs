//! How calls end, and how long they may take (gRPC over HTTP/2).

use std::time::Duration;

use crate::Fields;

/// The codes that the guests use by themselves.
#[derive(Clone, Copy)]
pub enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    Unimplemented = 12,
    Internal = 13,
}

/// How a call ends.
pub struct Status {
    code: u32,
    message: String,
}

impl Status {
    pub fn new(code: Code, message: String) -> Self {
        Self { code: code as u32, message }
    }

    /// The one that the client has asked for.
    pub fn asked_for(code: u32, name: &str) -> Self {
        Self { code, message: if code == 0 { String::new() } else { format!("as {name} asked") } }
    }

    /// Its fields. The message is percent-encoded but for printable ASCII.
    pub fn fields(&self) -> Fields {
        let mut fields = vec![("grpc-status".to_owned(), self.code.to_string().into_bytes())];
        if !self.message.is_empty() {
            let mut text = String::new();
            for byte in self.message.bytes() {
                match byte {
                    b'%' | 0..0x20 | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
                    _ => text.push(byte.into()),
                }
            }
            fields.push(("grpc-message".to_owned(), text.into_bytes()));
        }
        fields
    }
}

/// The time that a value of `grpc-timeout` means: at most eight digits, and a unit.
pub fn time(text: &str) -> Option<Duration> {
    let (at, unit) = text.char_indices().next_back()?;
    let digits = &text[..at];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3_600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}
