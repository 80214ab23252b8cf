//! The streams and the consumer: made before the service is ready, kept as configured, never
//! emptied.

use std::time::Duration;

use serde_json::{Value, json};

use super::{App, Backend, Isolation};
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::service::Service;
use crate::harness::{
    depth, eventually, eventually_async, eventually_within, loudly, ports, servers,
};

/// The settings that the service owns, as JetStream reports them.
fn settings(info: &Value) -> Value {
    let config = &info["config"];
    json!({
        "subjects": config["subjects"],
        "no_ack": config["no_ack"].as_bool().unwrap_or(false),
        "duplicate_window": config["duplicate_window"],
        "max_msgs_per_subject": config["max_msgs_per_subject"],
        "max_msg_size": config["max_msg_size"],
        "max_bytes": config["max_bytes"],
        "max_age": config["max_age"],
        "discard": config["discard"],
    })
}

async fn there_when_ready(mode: Mode) {
    let deployment = Deployment::start(mode);
    let backend = Backend::connect(&deployment).await;
    let received = backend.stream("ReceivedEvents").await;
    let expected = json!({
        "subjects": ["user.*.Events"],
        "no_ack": false,
        "duplicate_window": 120_000_000_000_u64,
        "max_msgs_per_subject": 10_000,
        "max_msg_size": 65_536,
        "max_bytes": 4_u64 << 30,
        "max_age": 7 * 86_400 * 1_000_000_000_u64,
        "discard": "old",
    });
    assert_eq!(settings(&received), expected);
    assert!(received["config"].get("sources").is_none(), "{received}");
    let consumer = backend
        .connected
        .jetstream("$JS.API.CONSUMER.INFO.ReceivedEvents.ProcessEvents", &json!({}))
        .await;
    assert_eq!(consumer["config"]["ack_policy"], "explicit");
    assert_eq!(consumer["config"]["durable_name"], "ProcessEvents");
    assert!(consumer["config"].get("deliver_subject").is_none(), "{consumer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_there_when_the_service_is_ready_in_operator_mode() {
    there_when_ready(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_there_when_the_service_is_ready_in_config_mode() {
    there_when_ready(Mode::Config).await;
}

/// New limits change the streams in place; what BB has set itself stays, and so do the events.
#[tokio::test(flavor = "multi_thread")]
async fn new_settings_keep_the_events() {
    let mut deployment = Deployment::start(Mode::Operator);
    let backend = Backend::connect(&deployment).await;
    let app = App::add(&deployment, "one", Isolation::Own, &[]).await;
    app.event("kept").await;
    backend.holds("ReceivedEvents", 1).await;
    let consumer = json!({
        "stream_name": "ReceivedEvents",
        "action": "update",
        "config": {
            "durable_name": "ProcessEvents", "name": "ProcessEvents", "ack_policy": "explicit",
            "deliver_policy": "all", "max_ack_pending": 77,
        },
    });
    let subject = "$JS.API.CONSUMER.CREATE.ReceivedEvents.ProcessEvents";
    backend.connected.jetstream(subject, &consumer).await;

    deployment.service.stop();
    let http = format!("127.0.0.1:{}", ports::free());
    let environment = [
        ("NATS_CALLOUT_HTTP_LISTEN", http.as_str()),
        ("NATS_CALLOUT_BB_MESSAGES_PER_TENANT", "7"),
        ("NATS_CALLOUT_BB_MAX_BYTES", "1GB"),
        ("NATS_CALLOUT_BB_MAX_AGE", "1h"),
    ];
    deployment.service = Service::serve(&deployment.config(), &environment).expect("serves");
    let received = backend.stream("ReceivedEvents").await;
    assert_eq!(received["config"]["max_msgs_per_subject"], 7);
    assert_eq!(received["config"]["max_bytes"], 1 << 30);
    assert_eq!(received["config"]["max_age"], 3_600_000_000_000_u64);
    let consumer = "$JS.API.CONSUMER.INFO.ReceivedEvents.ProcessEvents";
    let consumer = backend.connected.jetstream(consumer, &json!({})).await;
    assert_eq!(consumer["config"]["max_ack_pending"], 77);
    assert_eq!(backend.next_event().await, ("user.one.Events".to_owned(), "kept".to_owned()));
    assert!(deployment.service.log().contains("changing a stream"));
}

/// Several instances at once agree on who makes them.
#[test]
fn instances_that_start_together_do_not_mind_each_other() {
    let init = Initialised::new(Mode::Operator);
    let conf = init.server_conf();
    let server =
        servers::NatsServer::start(servers::version(), &conf, init.port, Some(init.monitor))
            .unwrap();
    let mut services: Vec<Service> = (0..4)
        .map(|_| {
            let http = format!("127.0.0.1:{}", ports::free());
            Service::launch(&init.config(), &[("NATS_CALLOUT_HTTP_LISTEN", &http)])
        })
        .collect();
    for service in &mut services {
        service.wait_until_ready().unwrap_or_else(|log| panic!("{log}"));
        assert!(!service.log().contains("cannot be made;"), "{}", service.log());
    }
    drop(services);
    drop(server);
}

/// Without room for them the service answers logins, says why it is not ready, and is ready once
/// there is room.
#[test]
fn without_room_the_service_says_so_and_is_not_ready() {
    let init = Initialised::new(Mode::Config);
    let conf = init.server_conf();
    let text = std::fs::read_to_string(&conf).expect("the configuration");
    let small: String = text
        .lines()
        .map(|line| match line.trim_start().starts_with("jetstream { max_mem: 268435456") {
            true => "        jetstream { max_mem: 268435456, max_file: 1073741824 }\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect();
    assert_ne!(small, text, "BB's share is written otherwise:\n{text}");
    std::fs::write(&conf, &small).expect("writes");
    let mut server =
        servers::NatsServer::start(servers::version(), &conf, init.port, Some(init.monitor))
            .unwrap();
    let mut service = init.launch_service();
    eventually("a line that says why", || {
        service.log().contains("the event streams of AUTH and BB cannot be made").then_some(())
    });
    let login = init.tenant_add("one", &[]);
    let fields = login.connect_fields();
    eventually("a login", || {
        let verdict = crate::harness::raw::connect(init.port, &fields).0;
        (verdict == crate::harness::raw::Verdict::Admitted).then_some(())
    });
    assert!(!service.log().contains("nats-callout: ready"), "{}", service.log());
    assert!(service.log().contains("insufficient"), "{}", service.log());

    std::fs::write(&conf, &text).expect("writes");
    server.stop();
    server.restart();
    service.wait_until_ready().unwrap_or_else(|log| panic!("{log}"));
}

/// Three events, and then a stream of BB's own that republishes a message to the request that deletes
/// BB's stream of events.
async fn deleted_by_republishing(version: &'static str) -> (Deployment, Backend, App) {
    let deployment = Deployment::start_with(Mode::Operator, version);
    let backend = Backend::connect(&deployment).await;
    let app = App::add(&deployment, "one", Isolation::Own, &[]).await;
    for at in 1..=3 {
        assert_eq!(app.asked("old").await["seq"], at);
    }
    let bb = &backend.connected;
    let republish = json!({ "src": "gone", "dest": "$JS.API.STREAM.DELETE.ReceivedEvents" });
    let config = json!({ "name": "GONE", "subjects": ["gone"], "republish": republish });
    bb.jetstream("$JS.API.STREAM.CREATE.GONE", &config).await;
    // Without a body, as such a request has to be.
    bb.client.request("gone", "".into()).await.expect("is stored");
    (deployment, backend, app)
}

/// On a server that republishes whatever it is told to: the service makes the stream again, and its
/// consumer. By itself it looks once a minute, and at once when it starts.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_bb_deletes_by_republishing_is_made_again_and_empty() {
    let (mut deployment, backend, app) = deleted_by_republishing("2.12.8").await;
    eventually_async("its end", || async {
        let info =
            backend.connected.client.request("$JS.API.STREAM.INFO.ReceivedEvents", "".into());
        let info: Value = serde_json::from_slice(&info.await.ok()?.payload).ok()?;
        (info["state"]["messages"] != 3).then_some(())
    })
    .await;
    if depth(true, false) {
        deployment.service.restart();
    }
    eventually_within(Duration::from_secs(90), "the stream that is made again", || async {
        let request = app.connected.client.request("Events", "new".into());
        let answer: Value = serde_json::from_slice(&request.await.ok()?.payload).ok()?;
        (answer["seq"].as_u64() > Some(0)).then_some(())
    })
    .await;
    // The consumer comes after the stream.
    eventually_async("the consumer", || async {
        let asked = "$JS.API.CONSUMER.INFO.ReceivedEvents.ProcessEvents";
        let info = backend.connected.client.request(asked, "".into()).await.ok()?;
        let info: Value = serde_json::from_slice(&info.payload).ok()?;
        info.get("config").is_some().then_some(())
    })
    .await;
    assert_eq!(backend.next_event().await, ("user.one.Events".to_owned(), "new".to_owned()));
}

/// From 2.15.3 on servers send nothing of the kind to JetStream.
#[tokio::test(flavor = "multi_thread")]
async fn newer_servers_do_not_let_bb_delete_it_by_republishing() {
    let version = servers::version();
    let numbers = version.split('.').map(|it| it.parse::<u32>().expect("a number"));
    if numbers.lt([2, 15, 3]) {
        loudly(&format!("SKIPPED: what nats-server {version} does not prevent"));
        return;
    }
    let (deployment, _backend, app) = deleted_by_republishing(version).await;
    eventually("the server's word", || {
        deployment.server.log().contains("suppressing republish").then_some(())
    });
    assert_eq!(app.asked("new").await["seq"], 4);
}
