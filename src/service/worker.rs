//! What is done with a request: a decision, a reply while somebody waits for it, and what is shown of both.

use std::sync::Arc;
use std::time::Instant;

use async_nats::Subject;

use super::queue::Pending;
use super::receipts::{Receipts, Sent};
use super::replies::Replies;
use crate::audit::{Late, Observers};
use crate::authorize::{Authorizer, CalloutMessage, Gate, NotAudited, Outcome, Reply, Verdict};
use crate::protocol::envelope::SERVER_XKEY_HEADER;

/// Decides and replies.
pub(super) struct Worker {
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) replies: Replies,
    pub(super) observers: Observers,
    pub(super) receipts: Receipts,
    pub(super) gate: Option<Arc<dyn Gate>>,
}

impl Worker {
    pub(super) async fn work(&self, pending: Pending, deadline: Instant) {
        let Pending { message, received } = pending;
        let Some(subject) = message.reply else { return };
        let server_xkey =
            message.headers.as_ref().and_then(|headers| headers.get(SERVER_XKEY_HEADER));
        let outcome = self
            .authorizer
            .authorize(CalloutMessage {
                payload: &message.payload,
                server_xkey: server_xkey.map(|value| value.as_str()),
                deadline,
                max_reply: self.replies.max_payload(),
            })
            .await;
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            outcome => return self.observers.observe(&outcome, received.elapsed()),
        };
        let Some(reply) = self.in_time(reply, received).await else { return };
        let reply = match &self.gate {
            None => reply,
            Some(gate) => match admitted(&**gate, reply, received, deadline).await {
                Outcome::Reply(reply) => {
                    let Some(reply) = self.in_time(reply, received).await else { return };
                    reply
                }
                outcome => return self.observers.observe(&outcome, received.elapsed()),
            },
        };
        self.send(subject, reply, received).await;
    }

    /// The reply, if somebody may wait for it.
    async fn in_time(&self, reply: Reply, received: Instant) -> Option<Reply> {
        let Some(why) = self.receipts.too_late(&reply, received).await else { return Some(reply) };
        self.observers.late(&Late::new(reply, why, received.elapsed()));
        None
    }

    async fn send(&self, subject: Subject, mut reply: Reply, received: Instant) {
        let (payload, loads) = (std::mem::take(&mut reply.payload), reply.loads_account);
        let took = received.elapsed();
        let Some(asker) = reply.asker else {
            self.replies.send(subject, payload, loads).await;
            return self.observers.observe(&Outcome::Reply(reply), took);
        };
        let key = (asker.server, reply.connection.id);
        self.receipts.expect(Sent { reply, asker, received, took }).await;
        let line = self.replies.send(subject, payload, loads).await;
        self.receipts.went_out(line, key).await;
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
