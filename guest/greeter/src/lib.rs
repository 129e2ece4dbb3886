//! The service of the gRPC guests (`greeter.proto`), without a line of wasi: what a call is answered with, step by step.
//! `rust-grpc` and `rust-grpc-p3` read requests, wait and send.

mod message;
mod status;

use std::time::Duration;

use message::Ask;
pub use status::{Code, Status};

/// Names and values, as both versions of wasi have them.
pub type Fields = Vec<(String, Vec<u8>)>;

const CONTENT_TYPE: &str = "application/grpc";

/// What the guest does next.
pub enum Step {
    /// Waits so long.
    Wait(Duration),
    /// Sends these bytes of the body, behind the head if that has not left.
    Send(Vec<u8>),
    /// Ends the call with these fields: they are trailers, or the head's fields where no head has left.
    End(Fields),
}

/// A call under way.
pub struct Call {
    name: String,
    messages: u32,
    pause: Duration,
    end: Status,
    deadline: Option<Duration>,
    metadata: Fields,
    sent: u32,
    has_paused: bool,
}

/// Why a request is no call: the status code of HTTP.
pub struct NoCall(pub u16);

impl Call {
    /// The call that a request is, of its method, path, fields and whole body.
    pub fn new(is_post: bool, path: &str, fields: &Fields, body: &[u8]) -> Result<Self, NoCall> {
        if !is_post {
            return Err(NoCall(405));
        }
        let is_grpc = |kind: &str| {
            kind.strip_prefix(CONTENT_TYPE).is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
        };
        if !value(fields, "content-type").is_some_and(is_grpc) {
            return Err(NoCall(415));
        }
        let metadata = fields.iter().filter(|(name, _)| name.starts_with("x-note")).cloned().collect();
        Ok(match Self::asked(path, fields, body) {
            Ok((ask, deadline, messages)) => Self {
                messages,
                pause: Duration::from_millis(ask.pause_ms.into()),
                end: Status::asked_for(ask.code, &ask.name),
                deadline: deadline.filter(|_| !ask.ignores_deadline),
                name: ask.name,
                metadata,
                sent: 0,
                has_paused: false,
            },
            Err(end) => Self {
                name: String::new(),
                messages: 0,
                pause: Duration::ZERO,
                end,
                deadline: None,
                metadata,
                sent: 0,
                has_paused: false,
            },
        })
    }

    /// What is asked for, within which time, and how many messages answer it.
    fn asked(path: &str, fields: &Fields, body: &[u8]) -> Result<(Ask, Option<Duration>, u32), Status> {
        let is_unary = match path {
            "/greeter.Greeter/Greet" => true,
            "/greeter.Greeter/GreetMany" => false,
            _ => return Err(Status::new(Code::Unimplemented, format!("there is no method {path}"))),
        };
        let deadline = match value(fields, "grpc-timeout") {
            None => None,
            Some(text) => Some(
                status::time(text)
                    .ok_or_else(|| Status::new(Code::Internal, format!("{text} is no value of grpc-timeout")))?,
            ),
        };
        let ask = Ask::read(message::only(body)?)?;
        let messages = match (is_unary, ask.code) {
            (true, 0) => 1,
            (true, _) => 0,
            (false, _) => ask.times,
        };
        Ok((ask, deadline, messages))
    }

    /// The head's fields; the metadata `x-note…` of the client is sent back as `echo-x-note…`.
    pub fn head(&self) -> Fields {
        let mut head = vec![("content-type".to_owned(), CONTENT_TYPE.as_bytes().to_vec())];
        head.extend(self.metadata.iter().map(|(name, value)| (format!("echo-{name}"), value.clone())));
        head
    }

    /// What to do next, so long after the call began.
    pub fn next(&mut self, elapsed: Duration) -> Step {
        let left = self.deadline.map(|deadline| deadline.saturating_sub(elapsed));
        if left.is_some_and(|left| left.is_zero()) {
            return self.end(&Status::new(Code::DeadlineExceeded, "the greeter's time is over".to_owned()));
        }
        if self.sent == self.messages {
            return self.end(&self.end);
        }
        if !self.has_paused && !self.pause.is_zero() {
            self.has_paused = true;
            return Step::Wait(left.map_or(self.pause, |left| left.min(self.pause)));
        }
        self.has_paused = false;
        self.sent += 1;
        Step::Send(message::framed(&message::greeting(&format!("Hello, {}!", self.name), self.sent)))
    }

    fn end(&self, status: &Status) -> Step {
        let mut fields = status.fields();
        fields.push(("x-sent".to_owned(), self.sent.to_string().into_bytes()));
        Step::End(fields)
    }
}

fn value<'a>(fields: &'a Fields, wanted: &str) -> Option<&'a str> {
    fields.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| std::str::from_utf8(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, numbers: &[(u8, u8)]) -> Vec<u8> {
        let mut bytes = vec![0x0a, u8::try_from(name.len()).unwrap()];
        bytes.extend(name.bytes());
        bytes.extend(numbers.iter().flat_map(|(field, number)| [field << 3, *number]));
        message::framed(&bytes)
    }

    fn call(method: &str, timeout: &str, body: &[u8]) -> Call {
        let fields = vec![
            ("content-type".to_owned(), b"application/grpc+proto".to_vec()),
            ("grpc-timeout".to_owned(), timeout.as_bytes().to_vec()),
        ];
        Call::new(true, &format!("/greeter.Greeter/{method}"), &fields, body).ok().expect("a call")
    }

    fn ended(step: Step) -> String {
        let Step::End(fields) = step else { panic!("not the end") };
        fields.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value))).collect()
    }

    #[test]
    fn each_greeting_has_its_pause_and_the_deadline_ends_the_call() {
        let mut call = call("GreetMany", "250m", &ask("Ann", &[(2, 3), (3, 100)]));
        for number in 1..=2 {
            let began = Duration::from_millis(100 * (number - 1));
            assert!(matches!(call.next(began), Step::Wait(time) if time == Duration::from_millis(100)));
            let Step::Send(bytes) = call.next(began + Duration::from_millis(100)) else { panic!("no greeting") };
            assert_eq!(bytes, message::framed(&message::greeting("Hello, Ann!", number as u32)));
        }
        assert!(matches!(call.next(Duration::from_millis(200)), Step::Wait(time) if time == Duration::from_millis(50)));
        let end = ended(call.next(Duration::from_millis(250)));
        assert!(end.starts_with("grpc-status: 4\n") && end.ends_with("x-sent: 2\n"), "{end}");
    }

    #[test]
    fn what_is_no_call_and_what_cannot_be_answered_are_told_apart() {
        let none = |is_post, kind: &str| {
            let fields = vec![("content-type".to_owned(), kind.as_bytes().to_vec())];
            Call::new(is_post, "/", &fields, b"").err().map_or(0, |NoCall(status)| status)
        };
        assert_eq!(none(false, "application/grpc"), 405);
        assert_eq!([none(true, "application/grpc-web"), none(true, "text/plain")], [415, 415]);
        for (method, timeout, body, status) in [
            ("Other", "1S", ask("", &[]), 12),
            ("Greet", "1s", ask("", &[]), 13),
            ("Greet", "123456789S", ask("", &[]), 13),
            ("Greet", "1H", vec![], 13),
            ("Greet", "1H", [ask("a", &[]), ask("b", &[])].concat(), 13),
            ("Greet", "1H", vec![1, 0, 0, 0, 0], 12),
            ("Greet", "1H", message::framed(&[0x0a, 5, b'a']), 3),
            ("Greet", "1H", message::framed(&[0x0a, 1, 0xff]), 3),
            ("Greet", "1H", ask("a", &[(4, 9)]), 9),
            ("GreetMany", "1H", ask("a", &[]), 0),
        ] {
            let end = ended(call(method, timeout, &body).next(Duration::ZERO));
            assert!(end.starts_with(&format!("grpc-status: {status}\n")), "{method} {timeout} {body:?}: {end}");
        }
    }
}
