//! What is said on `_CALLOUT.alive` closes nothing but a connection of the service's login: whoever
//! comes to publish there cannot have others thrown out, nor an instance that lives.

use serde_json::{Value, json};

use crate::events::login;
use crate::harness::choice::either_mode;
use crate::harness::client::{self, Connected};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::eventually_async;

fn id(of: &Connected) -> Value {
    let info = of.client.server_info();
    json!([info.server_id, info.client_id])
}

async fn closes_its_own_alone(mode: Mode) {
    let deployment = Deployment::start(mode);
    let tenant = deployment.tenant_add("one", &[]);
    let tenant = client::connect(&deployment.url(), &tenant, "_INBOX_one").await.unwrap();
    let bb = login(&deployment, mode, "bb").await;
    let system = login(&deployment, mode, "sys").await;
    let ours = login(&deployment, mode, "auth").await;
    let mut heard = ours.client.subscribe("_CALLOUT.alive").await.unwrap();
    let beat = futures_util::StreamExt::next(&mut heard).await.unwrap();
    let beat: Value = serde_json::from_slice(&beat.payload).unwrap();
    let instance = json!([beat["server"], beat["cid"]]);

    let others = [id(&tenant), id(&bb), id(&system), instance];
    for (at, whose) in others.iter().chain([&id(&ours)]).enumerate() {
        let forged =
            json!({ "instance": format!("evil-{at}"), "server": whose[0], "cid": whose[1] });
        ours.client.publish("_CALLOUT.alive", forged.to_string().into()).await.unwrap();
    }
    ours.client.flush().await.unwrap();
    let log = || deployment.service.log();
    let left_alone = |log: &str| log.matches("is not the service's was named").count();
    eventually_async("the end of the one, and a word about three others", || async {
        let log = log();
        let closed = log.contains("its connection was closed") && log.contains("evil-4");
        (closed && left_alone(&log) == 3).then_some(())
    })
    .await;
    eventually_async("another connection of its own", || async {
        (id(&ours) != Value::Null
            && ours.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed) > 1)
            .then_some(())
    })
    .await;
    for one in [&tenant, &bb, &system] {
        let connects = one.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(connects, 1, "{}", log());
    }
    assert!(!log().contains("connection to NATS lost"), "{}", log());
    assert!(!log().contains("evil-3"), "an instance that is heard: {}", log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_beat_closes_nobodys_connection() {
    for mode in either_mode() {
        closes_its_own_alone(mode).await;
    }
}
