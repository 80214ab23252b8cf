//! A tenant's JetStream limits, and the words in which the server says that they are reached.

use serde_json::{Value, json};

use super::{connect, tenant};
use crate::harness::client::Connected;
use crate::harness::deployment::{Deployment, Mode};

/// The error in JetStream's answer, if there is one: its number and its words.
async fn error(connected: &Connected, subject: &str, body: Vec<u8>) -> Option<(u64, String)> {
    let answer = connected
        .client
        .request(subject.to_owned(), body.into())
        .await
        .unwrap_or_else(|error| panic!("{subject}: {error}"));
    let answer: Value = serde_json::from_slice(&answer.payload).expect("json");
    let error = answer.get("error")?;
    let words = error["description"].as_str().expect("words").to_owned();
    Some((error["err_code"].as_u64().expect("a number"), words))
}

async fn create(connected: &Connected, stream: Value) -> Option<(u64, String)> {
    let name = stream["name"].as_str().expect("a name");
    error(connected, &format!("$JS.API.STREAM.CREATE.{name}"), stream.to_string().into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_beyond_the_limit_is_refused() {
    let deployment = Deployment::start(Mode::Operator);
    let shop = tenant(&deployment, "SHOP", "shop", &["--memory", "0", "--storage", "1MB"]);
    let blog = tenant(&deployment, "BLOG", "blog", &["--memory", "0", "--storage", "1MB"]);
    let shop = connect(&deployment, &shop).await;
    let blog = connect(&deployment, &blog).await;

    let info = shop.jetstream("$JS.API.INFO", &json!({})).await;
    assert_eq!(info["limits"]["max_storage"], 1 << 20, "{info}");
    assert_eq!(info["limits"]["max_memory"], 0, "{info}");

    // Reserved before anything is stored: more than there is, and memory where there is none.
    let reserved = json!({
        "name": "TOO_BIG", "subjects": ["big.*"], "storage": "file", "max_bytes": 2 << 20,
    });
    let (code, words) = create(&shop, reserved).await.expect("refused");
    assert_eq!((code, words.as_str()), (10047, "insufficient storage resources available"));
    let memory = json!({ "name": "MEMORY", "subjects": ["memory.*"], "storage": "memory" });
    let refused = create(&shop, memory).await.expect("refused");
    assert_eq!(refused, (10028, "insufficient memory resources available".to_owned()));

    // Filled up: what is over the limit is not acknowledged.
    let stream = json!({ "name": "ORDERS", "subjects": ["orders.*"], "storage": "file" });
    for admin in [&shop, &blog] {
        assert_eq!(create(admin, stream.clone()).await, None);
    }
    let payload = vec![b'x'; 100_000];
    let mut stored = 0;
    let refused = loop {
        match error(&shop, "orders.created", payload.clone()).await {
            None => stored += 1,
            Some(refused) => break refused,
        }
        assert!(stored < 20, "the limit is not enforced");
    };
    assert_eq!(refused, (10002, "resource limits exceeded for account".to_owned()));
    assert_eq!(stored, 10);
    let info = shop.jetstream("$JS.API.STREAM.INFO.ORDERS", &json!({})).await;
    assert_eq!(info["state"]["messages"], stored, "{info}");

    // The other tenant has its own megabyte, and room made is room again.
    assert_eq!(error(&blog, "orders.created", payload.clone()).await, None);
    shop.jetstream("$JS.API.STREAM.PURGE.ORDERS", &json!({})).await;
    assert_eq!(error(&shop, "orders.created", payload).await, None);
}
