//! Limits of a tenant's account reach the servers at once, and close nobody.

use std::time::Instant;

use serde_json::{Value, json};

use super::{AT_MOST, Marker, all_alive, cluster, connect_all};
use crate::harness::client::{self, Connected};
use crate::harness::deployment::Mode;
use crate::harness::turn::measured;
use crate::harness::{eventually_async, loudly};

/// Stores a kilobyte; gives the stream's answer.
async fn store(admin: &Connected) -> Value {
    let payload = "x".repeat(1_000);
    match admin.client.request("keep.x", payload.into()).await {
        Ok(answer) => serde_json::from_slice(&answer.payload).expect("json"),
        Err(error) => json!({ "error": { "description": error.to_string() } }),
    }
}

async fn storage(size: usize) {
    measured();
    let cluster = cluster(Mode::Operator, size);
    let init = &cluster.init;
    let login = init.tenant_add("one", &["--memory", "1MB", "--storage", "10MB"]);
    let marker = Marker::new(&cluster);
    let url = cluster.nodes[0].url();
    let admin = client::connect(&url, &login, "_INBOX").await.expect("connects");
    let mut held = connect_all(&cluster.nodes, &[&login], 3);
    let stream = json!({ "name": "KEEP", "subjects": ["keep.>"], "storage": "file" });
    admin.jetstream("$JS.API.STREAM.CREATE.KEEP", &stream).await;
    eventually_async("the stream hears", || async {
        store(&admin).await.get("error").is_none().then_some(())
    })
    .await;
    for _ in 1..20 {
        let stored = store(&admin).await;
        assert!(stored.get("error").is_none(), "{stored}");
    }
    for (bytes, refused) in [(10_000, true), (1_000_000, false), (15_000, true)] {
        let begun = Instant::now();
        init.sql(&format!("UPDATE tenants SET js_storage = {bytes} WHERE id = 'one'"));
        eventually_async("the limit is enforced", || async {
            (store(&admin).await.get("error").is_some() == refused).then_some(())
        })
        .await;
        let took = begun.elapsed();
        loudly(&format!("storage limit of {bytes} bytes on {size} servers after {took:?}"));
        assert!(took < AT_MOST, "{took:?}");
    }
    let info = admin.jetstream("$JS.API.INFO", &json!({})).await;
    assert_eq!(info["limits"]["max_storage"], 15_000, "{info}");

    init.sql("UPDATE tenants SET max_connections = 4 WHERE id = 'one'");
    let port = cluster.nodes[0].port();
    eventually_async("a fifth connection is refused", || async {
        super::Held::try_connect(port, &login).err().map(drop)
    })
    .await;
    marker.wait(init);
    all_alive(&mut held);
    admin.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_limits_are_enforced_at_once_on_one_server() {
    storage(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_limits_are_enforced_at_once_on_three_servers() {
    storage(3).await;
}
