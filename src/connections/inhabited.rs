//! Which accounts have connections where, which makes no server load an account.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;

use crate::servers::{Cluster, ClusterError, ServerAnswer};

/// Accounts asked about at once: their ids have to fit into one message.
const ACCOUNTS_AT_ONCE: usize = 1_000;

/// Which accounts have connections, on which server.
#[derive(Default)]
pub(super) struct Inhabited {
    pub(super) accounts: BTreeMap<String, BTreeSet<String>>,
    pub(super) silent: BTreeSet<String>,
}

impl Cluster {
    /// Which of the accounts have connections where.
    pub(super) async fn inhabited(&self, accounts: &[&str]) -> Result<Inhabited, ClusterError> {
        let mut inhabited = Inhabited::default();
        for some in accounts.chunks(ACCOUNTS_AT_ONCE) {
            let question = json!({ "accounts": some, "include_unused": true }).to_string();
            let subject = "$SYS.REQ.ACCOUNT.PING.STATZ";
            let answers = self.ask_all::<ServerAnswer<Stats>>(subject, question.as_bytes()).await?;
            inhabited.silent.extend(answers.silent);
            for (server, answer) in answers.by_server {
                let stats = answer.data.unwrap_or_default().account_statz;
                let used = stats.into_iter().filter(|one| one.conns + one.leafnodes > 0);
                let used: Vec<String> = used.map(|one| one.acc).collect();
                if !used.is_empty() {
                    inhabited.accounts.entry(server).or_default().extend(used);
                }
            }
        }
        Ok(inhabited)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_answer(payload: &[u8]) {
    let _ = serde_json::from_slice::<ServerAnswer<Stats>>(payload);
}

#[derive(Default, Deserialize)]
struct Stats {
    #[serde(default)]
    account_statz: Vec<AccountStat>,
}

#[derive(Deserialize)]
struct AccountStat {
    acc: String,
    #[serde(default)]
    conns: i64,
    #[serde(default)]
    leafnodes: i64,
}
