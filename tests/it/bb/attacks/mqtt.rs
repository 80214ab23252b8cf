//! MQTT in an account of its own: what is published, retained, or left as a will.

use std::collections::BTreeSet;

use super::features::{Keeper, with_alice};
use super::next;
use super::powers::subjects;
use crate::harness::client::{self, Login};
use crate::harness::deployment::Mode;
use crate::harness::{loudly, servers};
use crate::transports::wire;

/// What servers take for themselves, or refuse.
const RESERVED: [&str; 9] = [
    "$JS/API/STREAM/DELETE/ReceivedEvents",
    "$JS/API/STREAM/DELETE/KEPT",
    "JS/bb/API/STREAM/INFO/ReceivedEvents",
    "$SYS/REQ/CLAIMS/UPDATE",
    "$MQTT/sub/x",
    "$MQTT/msgs/user/v-shared/Events",
    "$MQTT/rmsgs/user/v-shared/Events",
    "$MQTT/deliver/pubrel/x",
    "_R_/x",
];

async fn mqtt_leads_nowhere(mode: Mode) {
    if mode == Mode::Operator && servers::takes_mqtt_passwords_for_jwts(servers::version()) {
        loudly("SKIPPED: MQTT, whose passwords this server takes for JWTs in operator mode");
        return;
    }
    let Some((mut field, login, port)) = with_alice(mode).await else { return };
    let Login::Password(user, password) = &login else { unreachable!("a password") };
    let keeper = match mode {
        Mode::Operator => Some(Keeper::beside(&field, "v-own").await),
        Mode::Config => None,
    };
    let url = field.deployment.url();
    let alice = client::connect(&url, &login, "_INBOX").await.expect("connects");
    let mut heard = alice.client.subscribe(">").await.expect("subscribes");
    alice.settled().await;

    let victims = field.victims.iter().flat_map(subjects);
    let own = ["Events", "user.alice.Events"].map(str::to_owned);
    let topics: Vec<String> = victims.chain(own).map(|it| it.replace('.', "/")).collect();
    let mut missing = BTreeSet::new();
    let all = RESERVED.into_iter().chain(topics.iter().map(String::as_str));
    for (at, topic) in all.enumerate() {
        let will = format!("forged as a will to {topic}");
        let id = format!("device-{at}");
        let by = (user.as_str(), password.as_str());
        let connection = wire::Mqtt::connect(port, &id, by, Some((topic, &will)));
        let is_reserved = RESERVED.contains(&topic);
        // Some wills the server does not take.
        let Some(mut connection) = connection.or_else(|| {
            assert!(is_reserved, "{topic}: {}", field.deployment.server.log());
            wire::Mqtt::connect(port, &id, by, None)
        }) else {
            panic!("{}", field.deployment.service.log())
        };
        let text = format!("forged to {topic}");
        let taken = connection.publish(topic, &text);
        assert!(taken || is_reserved, "{topic}: {}", field.deployment.server.log());
        if !is_reserved {
            missing.extend([text, will]);
        }
        // Without a word of goodbye, so that its will is done.
        drop(connection);
    }
    // In the account itself all of it is heard.
    while !missing.is_empty() {
        let (_, text) = next(&mut heard).await;
        missing.remove(&text);
    }
    if mode == Mode::Operator {
        // The two by either name: published twice, and left as a will.
        field.backend.holds("ReceivedEvents", field.victims.len() as u64 + 2 * 3).await;
    }
    if let Some(keeper) = keeper {
        keeper.unharmed().await;
    }
    field.unharmed_by("alice", alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_leads_to_no_other_tenant_in_operator_mode() {
    mqtt_leads_nowhere(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_leads_to_no_other_tenant_in_config_mode() {
    mqtt_leads_nowhere(Mode::Config).await;
}
