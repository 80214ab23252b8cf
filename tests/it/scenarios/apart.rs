//! Nothing crosses between SHOP and BLOG, although both use the same subjects, the same stream
//! names and the same inboxes.

use serde_json::json;

use super::{
    Market, connect, publish, refused_publish, refused_subscribe, settled, subscribe, until,
};
use crate::harness::client::Connected;

/// Everything one tenant says: by its admin on its service's subjects, and by its service.
async fn speak(admin: &Connected, service: &Connected, word: &'static str) {
    for subject in ["payments.received", "comments.new", "posts.new", "user.blog.Events"] {
        publish(admin, subject, word).await;
    }
    publish(service, "orders.created", word).await;
    let inbox = admin.client.new_inbox();
    admin.client.publish_with_reply("orders.updated", inbox, word.into()).await.expect("is sent");
    settled(admin).await;
    refused_publish(service, "payments.received").await;
}

async fn shop_and_blog_hear_themselves_alone(market: &Market) {
    let shop = market.connect(&market.shop).await;
    let blog = market.connect(&market.blog).await;
    let order_service = market.connect(&market.order_service).await;
    let post_service = market.connect(&market.post_service).await;

    let mut shop_ear = subscribe(&shop, ">").await;
    let mut blog_ear = subscribe(&blog, ">").await;
    settled(&shop).await;
    settled(&blog).await;
    let mut payments = subscribe(&order_service, "payments.*").await;
    let mut comments = subscribe(&post_service, "comments.*").await;
    refused_subscribe(&order_service, "comments.*").await;
    refused_subscribe(&post_service, "inventory.*").await;

    speak(&shop, &order_service, "said by shop").await;
    speak(&blog, &post_service, "said by blog").await;
    for (admin, own) in [(&shop, "payments.last"), (&blog, "comments.last")] {
        publish(admin, own, "last").await;
    }
    for (ear, word, other) in [
        (&mut shop_ear, "said by shop", "said by blog"),
        (&mut blog_ear, "said by blog", "said by shop"),
    ] {
        let heard = until(ear, "last").await;
        let own: Vec<_> = heard.iter().filter(|(_, payload)| payload == word).collect();
        assert_eq!(own.len(), 6, "{heard:?}");
        assert!(heard.iter().all(|(_, payload)| payload != other), "{heard:?}");
    }
    let heard = until(&mut payments, "last").await;
    assert_eq!(heard, [("payments.received".to_owned(), "said by shop".to_owned())]);
    let heard = until(&mut comments, "last").await;
    assert_eq!(heard, [("comments.new".to_owned(), "said by blog".to_owned())]);
}

/// A request of one tenant is not answered by the other.
async fn shop_is_not_answered_by_blog(market: &Market) {
    let shop = market.connect(&market.shop).await;
    let blog = market.connect(&market.blog).await;
    let mut asked = subscribe(&blog, "inventory.check").await;
    settled(&blog).await;
    let error = shop.client.request("inventory.check", "sku".into()).await.expect_err("nobody");
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders, "{error}");
    publish(&blog, "inventory.check", "last").await;
    assert_eq!(until(&mut asked, "last").await, []);
}

/// Each has streams of its own, of which the other knows nothing.
async fn streams_of_one_name_are_two_streams(market: &Market) {
    let shop = market.connect(&market.shop).await;
    let blog = market.connect(&market.blog).await;
    let stream = json!({ "name": "ORDERS", "subjects": ["orders.*"], "storage": "file" });
    shop.jetstream("$JS.API.STREAM.CREATE.ORDERS", &stream).await;
    let ack = shop.jetstream("orders.created", &json!({ "total": 99.99 })).await;
    assert_eq!((&ack["stream"], &ack["seq"]), (&json!("ORDERS"), &json!(1)));

    let names = blog.jetstream("$JS.API.STREAM.NAMES", &json!({})).await;
    assert_eq!(names["total"], 0, "{names}");
    let asked = blog.client.request("$JS.API.STREAM.INFO.ORDERS", "".into()).await;
    let answer: serde_json::Value =
        serde_json::from_slice(&asked.expect("an answer").payload).expect("json");
    assert_eq!(answer["error"]["description"], "stream not found", "{answer}");

    blog.jetstream("$JS.API.STREAM.CREATE.ORDERS", &stream).await;
    let info = blog.jetstream("$JS.API.STREAM.INFO.ORDERS", &json!({})).await;
    assert_eq!(info["state"]["messages"], 0, "{info}");
    blog.jetstream("$JS.API.STREAM.DELETE.ORDERS", &json!({})).await;
    let info = shop.jetstream("$JS.API.STREAM.INFO.ORDERS", &json!({})).await;
    assert_eq!(info["state"]["messages"], 1, "{info}");

    // A restricted service has no way to streams that is not in its lists.
    let service = connect(&market.deployment, &market.order_service).await;
    for subject in ["$JS.API.STREAM.NAMES", "$JS.API.STREAM.DELETE.ORDERS", "$JS.API.INFO"] {
        refused_publish(&service, subject).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_neither_hear_nor_answer_each_other_nor_share_streams() {
    let market = Market::open();
    // First, while nobody else of SHOP's listens.
    shop_is_not_answered_by_blog(&market).await;
    shop_and_blog_hear_themselves_alone(&market).await;
    streams_of_one_name_are_two_streams(&market).await;
}
