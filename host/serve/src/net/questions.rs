//! Whether clients may have one more connection, where another process counts them: who waits for the answer, in the order in
//! which it is asked.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::clients::Client;

/// Questions, the first of which have been sent. No more than there are connections.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: VecDeque<(Client, oneshot::Sender<bool>)>,
    sent: usize,
}

impl Questions {
    /// Whether this client may have one more. The answer is lost when this process ends.
    pub(super) fn ask(&mut self, client: Client) -> oneshot::Receiver<bool> {
        let (answer, answered) = oneshot::channel();
        self.open.push_back((client, answer));
        answered
    }

    /// Those to be sent next, `count` of them at most.
    pub(super) fn unsent(&self, count: usize) -> Vec<Client> {
        self.open.iter().skip(self.sent).take(count).map(|(client, _)| *client).collect()
    }

    /// So many more were sent.
    pub(super) fn were_sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.open.len());
    }

    /// The first is answered. The client whose connection is counted in vain, since nobody waits for it any more.
    pub(super) fn answered(&mut self, is_admitted: bool) -> Option<Client> {
        let (client, answer) = self.open.pop_front()?;
        self.sent = self.sent.saturating_sub(1);
        (answer.send(is_admitted).is_err() && is_admitted).then_some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_sent_once_and_answered_in_turn_and_nobody_is_counted_in_vain() {
        let mut questions = Questions::default();
        let client = |number: u8| Client::from([192, 0, 2, number]);
        let mut waiting: Vec<_> = (1..=4).map(|number| questions.ask(client(number))).collect();
        assert_eq!(questions.unsent(3), [client(1), client(2), client(3)]);
        questions.were_sent(3);
        assert_eq!(questions.unsent(3), [client(4)]);
        drop(waiting.remove(1));
        assert_eq!([true, true, false].map(|is| questions.answered(is)), [None, Some(client(2)), None]);
        questions.were_sent(1);
        assert_eq!((questions.answered(true), questions.answered(true)), (None, None));
        assert_eq!(
            waiting.iter_mut().map(|answer| answer.try_recv()).collect::<Vec<_>>(),
            [Ok(true), Ok(false), Ok(true)]
        );
        assert!(questions.unsent(3).is_empty());
    }
}
