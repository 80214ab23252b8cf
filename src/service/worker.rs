//! What is done with a request: a decision, a reply while somebody waits for it, and what is shown of both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Message, Subject};

use super::LONGEST_DEADLINE;
use super::decisions::Decisions;
use super::patience;
use super::receipts::{Receipts, Sent};
use super::replies::{Replies, Via};
use super::turns::{Turn, Turns};
use crate::audit::{Late, Observers};
use crate::authorize::{Authorizer, CalloutMessage, Gate, NotAudited, Outcome, Reply, Verdict};
use crate::protocol::envelope::SERVER_XKEY_HEADER;
use crate::protocol::request::VerifiedRequest;

/// Decides and replies.
pub(super) struct Worker {
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) replies: Replies,
    pub(super) observers: Observers,
    pub(super) receipts: Receipts,
    pub(super) gate: Option<Arc<dyn Gate>>,
    pub(super) turns: Turns,
    pub(super) decisions: Decisions,
    /// For how long one is decided about at most.
    pub(super) time: Duration,
}

impl Worker {
    pub(super) async fn work(&self, message: Message, received: Instant, via: Via) {
        let Some(subject) = message.reply else { return };
        let server_xkey =
            message.headers.as_ref().and_then(|headers| headers.get(SERVER_XKEY_HEADER));
        let message = CalloutMessage {
            payload: &message.payload,
            server_xkey: server_xkey.map(|value| value.as_str()),
            deadline: received + LONGEST_DEADLINE,
            max_reply: self.replies.max_payload(),
        };
        let (mut turn, mut deadline, mut decision) = (None, received, None);
        let takes = async |request: &VerifiedRequest| {
            turn = self.turns.wait(received, patience::of(request)).await;
            decision = Some(self.decisions.begin());
            deadline = (Instant::now() + self.time).min(received + request.time_to_decide());
            turn.is_some().then_some(deadline)
        };
        let outcome = self.authorizer.authorize_in_turn(message, takes).await;
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            outcome => return self.observers.observe(&outcome, received.elapsed()),
        };
        let Some(reply) = self.in_time(reply, received) else { return };
        let reply = match &self.gate {
            None => reply,
            Some(gate) => match admitted(&**gate, reply, received, deadline).await {
                Outcome::Reply(reply) => {
                    let Some(reply) = self.in_time(reply, received) else { return };
                    reply
                }
                outcome => return self.observers.observe(&outcome, received.elapsed()),
            },
        };
        self.send(subject, (reply, via), received, turn).await;
        drop(decision);
    }

    /// The reply, if somebody may wait for it.
    fn in_time(&self, reply: Reply, received: Instant) -> Option<Reply> {
        let Some(why) = self.receipts.too_late(&reply, received) else { return Some(reply) };
        self.observers.late(&Late::new(reply, why, received.elapsed()));
        None
    }

    /// The turn lasts until the server has read the reply, which is measured on the main connection; but for one
    /// that makes it load an account: that goes a way of its own, and slowly.
    async fn send(
        &self,
        subject: Subject,
        (mut reply, via): (Reply, Via),
        received: Instant,
        turn: Option<Turn>,
    ) {
        let (payload, loads) = (std::mem::take(&mut reply.payload), reply.loads_account);
        let took = received.elapsed();
        if let Some(turn) = &turn {
            turn.is_decided();
        }
        let turn = turn.filter(|_| !loads && via == Via::Main);
        let Some(asker) = reply.asker else {
            self.replies.send(subject, payload, loads, via).await;
            return self.observers.observe(&Outcome::Reply(reply), took);
        };
        let key = (asker.server, reply.connection.id);
        self.receipts.expect(Sent { reply, asker, received, took });
        let line = self.replies.send(subject, payload, loads, via).await;
        self.receipts.went_out(line, key, turn);
    }
}

/// The outcome once the gate has recorded it. A refusal needs no leave.
async fn admitted(gate: &dyn Gate, reply: Reply, received: Instant, deadline: Instant) -> Outcome {
    if matches!(reply.verdict, Verdict::Denied { .. }) {
        return Outcome::Reply(reply);
    }
    let deadline = tokio::time::Instant::from_std(deadline);
    let admitted = tokio::time::timeout_at(deadline, gate.admit(&reply, received.elapsed())).await;
    let late = |_| Err(NotAudited("no acknowledgement before the deadline".into()));
    match admitted.unwrap_or_else(late) {
        Ok(()) => Outcome::Reply(reply),
        Err(error) => Outcome::NoReply(reply.withheld(error.into())),
    }
}
