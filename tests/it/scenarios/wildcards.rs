//! `*` is one token and `>` is one or more, at the end: in what a service may publish and in what
//! it may subscribe, as the real server sees it. One exception is the server's own: who may
//! subscribe `orders.*` may subscribe `orders.>` too, and hears what that matches.

use super::{
    Market, connect, publish, refused_publish, refused_subscribe, settled, subscribe, until,
};
use crate::harness::client::Connected;
use crate::harness::deployment::Deployment;

/// Subjects, and whether `orders.*` and `orders.>` match them.
const SUBJECTS: [(&str, bool, bool); 7] = [
    ("orders", false, false),
    ("orders.created", true, true),
    ("orders.item.added", false, true),
    ("orders.item.added.twice", false, true),
    ("Orders.created", false, false),
    ("orders2.created", false, false),
    ("old.orders.created", false, false),
];

async fn service(deployment: &Deployment, name: &str, subjects: &str) -> Connected {
    let login = deployment.user_add("shop", name, &["-p", subjects, "-s", subjects]);
    connect(deployment, &login).await
}

fn matched(narrow: bool) -> Vec<&'static str> {
    SUBJECTS
        .iter()
        .filter(|(_, star, tail)| if narrow { *star } else { *tail })
        .map(|(subject, ..)| *subject)
        .collect()
}

async fn what_may_be_published(market: &Market) {
    let admin = market.connect(&market.shop).await;
    for (name, subjects, narrow) in [("narrow", "orders.*", true), ("wide", "orders.>", false)] {
        let mut ear = subscribe(&admin, ">").await;
        settled(&admin).await;
        let service = service(&market.deployment, name, subjects).await;
        for (subject, star, tail) in SUBJECTS {
            if if narrow { star } else { tail } {
                publish(&service, subject, name).await;
            } else {
                refused_publish(&service, subject).await;
            }
        }
        // A name with a wildcard in it is a subject to subscribe and none to publish.
        refused_publish(&service, "payments.received").await;
        publish(&admin, "last", "last").await;
        let heard = until(&mut ear, "last").await;
        let heard: Vec<_> = heard
            .iter()
            .filter(|(_, payload)| payload == name)
            .map(|(subject, _)| subject)
            .collect();
        assert_eq!(heard, matched(narrow), "{subjects}");
        assert_eq!(service.errors().len(), SUBJECTS.len() - heard.len() + 1);
    }
}

async fn what_may_be_subscribed(market: &Market) {
    let admin = market.connect(&market.shop).await;
    for (name, subjects, narrow) in
        [("narrow-ear", "orders.*", true), ("wide-ear", "orders.>", false)]
    {
        let service = service(&market.deployment, name, subjects).await;
        let mut all = subscribe(&service, subjects).await;
        let mut one_token = subscribe(&service, "orders.*").await;
        let mut exact = subscribe(&service, "orders.created").await;
        for (subject, star, tail) in SUBJECTS {
            if !if narrow { star } else { tail } {
                refused_subscribe(&service, subject).await;
            }
        }
        // What is wider than what is allowed is refused as a whole, not cut down to it.
        for subject in [">", "*.created", "*.>", "orders.item.*", "orders.*.*", "orders.*.>"] {
            if narrow || !subject.starts_with("orders.") {
                refused_subscribe(&service, subject).await;
            }
        }
        // But nats-server takes the `>` of a subscription for a token that `*` matches.
        let mut tail = subscribe(&service, "orders.>").await;
        refused_publish(&service, "settled").await;

        for (subject, ..) in SUBJECTS {
            publish(&admin, subject, name).await;
        }
        publish(&admin, "orders.created", "last").await;
        for (ear, expected) in [
            (&mut all, matched(narrow)),
            (&mut one_token, matched(true)),
            (&mut tail, matched(false)),
            (&mut exact, vec!["orders.created"]),
        ] {
            let heard = until(ear, "last").await;
            let heard: Vec<_> = heard.iter().map(|(subject, _)| subject.as_str()).collect();
            assert_eq!(heard, expected, "{subjects}");
        }
    }
}

/// The same exception at its widest, which still ends where the tenant ends.
async fn a_star_alone_hears_the_whole_tenant_and_nothing_else(market: &Market) {
    let admin = market.connect(&market.shop).await;
    let blog = market.connect(&market.blog).await;
    let login = market.deployment.user_add("shop", "star", &["-p", "nothing", "-s", "*"]);
    let service = connect(&market.deployment, &login).await;
    let mut everything = subscribe(&service, ">").await;
    refused_publish(&service, "settled").await;
    publish(&blog, "posts.new.today", "said by blog").await;
    settled(&blog).await;
    publish(&admin, "orders.item.added", "said by shop").await;
    publish(&admin, "last", "last").await;
    let heard = until(&mut everything, "last").await;
    assert_eq!(heard, [("orders.item.added".to_owned(), "said by shop".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_star_and_a_tail_let_publish_and_subscribe_within_the_tenant() {
    let market = Market::open();
    what_may_be_published(&market).await;
    what_may_be_subscribed(&market).await;
    a_star_alone_hears_the_whole_tenant_and_nothing_else(&market).await;
}
