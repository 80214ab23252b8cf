//! Connections that endanger others are let in where an application says so, and nowhere else.

use nats_callout::policy::{ConnectionContext, ConnectionType, Decision, Grant, Policy, Principal};

use super::*;

#[tokio::test]
async fn leaf_nodes_are_let_in_by_name_alone() {
    let server = FakeServer::new().unwrap();
    let leaf = || Connect::token("any").over(ConnectionType::Leafnode);
    let permit = Permit::user("edge").publish("edge.>");
    let (reason, _) = denial(server.ask(&permitting(&server, permit.clone()), leaf()).await);
    assert_eq!(reason, DenyReason::ConnectionType);
    let callout = permitting(&server, permit.clone().dangerous_leafnode());
    assert!(server.ask(&callout, leaf()).await.granted().may_publish("edge.1"));

    let mqtt = || Connect::token("any").over(ConnectionType::Mqtt);
    for permit in [permit.clone(), permit.clone().dangerous_leafnode()] {
        let (reason, detail) = denial(server.ask(&permitting(&server, permit), mqtt()).await);
        assert_eq!(reason, DenyReason::ConnectionType);
        assert!(detail.contains("mqtt"), "{detail}");
    }
    let callout = permitting(&server, permit.clone().dangerous_mqtt());
    assert!(server.ask(&callout, mqtt()).await.granted().may_publish("edge.1"));
    let callout = permitting(&server, permit);
    let websocket = Connect::token("any").over(ConnectionType::Websocket);
    assert!(server.ask(&callout, websocket).await.granted().may_publish("edge.1"));
}

/// A policy of the application's, which looks at nothing.
#[derive(Debug)]
struct Everything {
    mqtt: bool,
}

impl Policy for Everything {
    fn decide(&self, _: &Principal, _: &ConnectionContext<'_>) -> Decision {
        let publish = vec!["a.>".parse().unwrap()];
        let dangerous_shared_mqtt = self.mqtt;
        Decision::Permit(Grant { publish, dangerous_shared_mqtt, ..Grant::default() })
    }
}

#[tokio::test]
async fn who_endangers_others_of_a_shared_account_is_let_in_by_name_alone() {
    let server = FakeServer::new().unwrap();
    let store = Arc::new(MemoryStore::default());
    store.put_tenant(tenant("acme"));
    store.put_user(&"acme".parse().unwrap(), user("shop", "right")).unwrap();
    let by = |by: ConnectionType| Connect::password("shop", "right").over(by);
    for mqtt in [false, true] {
        let callout = server.callout().table_with(store.clone(), Arc::new(Everything { mqtt }));
        let callout = callout.unwrap();
        assert!(server.ask(&callout, by(ConnectionType::Nats)).await.granted().may_publish("a.b"));
        let (reason, _) = denial(server.ask(&callout, by(ConnectionType::Leafnode)).await);
        assert_eq!(reason, DenyReason::ConnectionType);
        let told = server.ask(&callout, by(ConnectionType::Mqtt)).await;
        assert_eq!(told.is_denied(), !mqtt, "{told:?}");
    }
}
