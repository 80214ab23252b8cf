//! The streams and the consumer: made before the service is ready, kept as configured, never
//! emptied.

use serde_json::{Value, json};

use super::{App, Backend, Isolation};
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::service::Service;
use crate::harness::{eventually, ports, servers};

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
