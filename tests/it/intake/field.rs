//! Accounts as the intake needs them, written by hand: INTAKE, BB with the stream, USERS with shared
//! tenants, and tenants with accounts, JetStream and leaf nodes of their own.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Message};
use futures_util::StreamExt as _;
use nats_callout::internals::intake::{Intake, Login, Place, Running, Servers, Settings};
use nats_callout::store::{Isolation, TenantId};
use serde_json::{Value, json};

use crate::harness::client::{self, Connected};
use crate::harness::servers::{self, NatsServer};
use crate::harness::{eventually_async, ports};

/// The most that the server takes in one message.
pub(crate) const MAX_PAYLOAD: usize = 256 << 10;

/// A server with these accounts.
pub(crate) struct Field {
    pub(crate) server: NatsServer,
    pub(crate) leaf_port: u16,
    pub(crate) tenants: Vec<(TenantId, Isolation)>,
    seeds: [String; 2],
    ca: Option<std::path::PathBuf>,
    _dir: tempfile::TempDir,
}

impl Field {
    /// With so many tenants `own1`, `own2` ... and `shared1` ...
    pub(crate) async fn start(own: usize, shared: usize) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self::start_in(dir, [own, shared, 0], "", None).await
    }

    /// [`Self::start`] with more of a configuration, and who vouches for the server. The third
    /// number is that of tenants `direct1` ... who import BB's subject itself, as was done before.
    pub(crate) async fn start_in(
        dir: tempfile::TempDir,
        [own, shared, direct]: [usize; 3],
        extra: &str,
        ca: Option<std::path::PathBuf>,
    ) -> Self {
        let (port, leaf_port) = (ports::free(), ports::free());
        let keys = [nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user()];
        let seeds = keys.each_ref().map(|key| key.seed().expect("a seed"));
        let ids =
            |kind: &str, count| (1..=count).map(|at| format!("{kind}{at}")).collect::<Vec<_>>();
        let (own, shared, direct) = (ids("own", own), ids("shared", shared), ids("direct", direct));

        let (mut accounts, mut users, mut leaves) = (String::new(), String::new(), String::new());
        for id in &own {
            let import = |to: String| {
                format!("{{ service: {{ account: INTAKE, subject: own.{id}.Events }}, to: {to} }}")
            };
            let _ = writeln!(
                accounts,
                "{id} {{ jetstream: enabled, users: [{{ user: {id}, password: {id} }}]\n\
                 imports: [{}, {}] }}",
                import("Events".to_owned()),
                import(format!("user.{id}.Events")),
            );
            let _ = writeln!(leaves, "{{ user: {id}, password: {id}, account: {id} }}");
        }
        for id in &shared {
            let _ = writeln!(
                users,
                "{{ user: {id}, password: {id}, permissions {{\n\
                 publish: [\"user.{id}.>\", \"_R_.>\", \"_INBOX_{id}.>\"]\n\
                 subscribe: [\"user.{id}.>\", \"_INBOX_{id}.>\"] }} }}"
            );
        }
        for id in &direct {
            let _ = writeln!(
                accounts,
                "{id} {{ users: [{{ user: {id}, password: {id} }}], imports: [\n\
                 {{ service: {{ account: BB, subject: user.{id}.Events }}, to: Events }}] }}"
            );
        }
        let takers = [&["INTAKE".to_owned()][..], direct.as_slice()].concat().join(", ");
        let text = format!(
            "listen: 127.0.0.1:{port}\nserver_name: intake\nmax_payload: {MAX_PAYLOAD}\n\
             jetstream {{ store_dir: {store:?}, max_memory_store: 1GB, max_file_store: 8GB }}\n\
             leafnodes {{ listen: 127.0.0.1:{leaf_port}, authorization {{ users: [\n{leaves}] }} }}\n\
             accounts {{\n\
             INTAKE {{ users: [{{ nkey: {intake} }}]\n\
             exports: [{{ service: own.*.Events, response_type: singleton, threshold: \"5s\" }}]\n\
             imports: [{{ service: {{ account: BB, subject: user.*.Events }}, to: bb.*.Events }}] }}\n\
             BB {{ jetstream: enabled, users: [{{ user: bb, password: bb }}]\n\
             exports: [{{ service: user.*.Events, accounts: [{takers}] }}] }}\n\
             USERS {{ users: [{{ nkey: {pool} }}\n{users}] }}\n\
             {accounts}}}\n{extra}",
            store = dir.path().join("jetstream"),
            intake = keys[0].public_key(),
            pool = keys[1].public_key(),
        );
        let conf = dir.path().join("nats.conf");
        std::fs::write(&conf, text).expect("a configuration");
        let server = NatsServer::start(servers::version(), &conf, port, None).expect("starts");
        let tenant = |isolation| move |id: &String| (id.parse().expect("an id"), isolation);
        let tenants = own
            .iter()
            .map(tenant(Isolation::Account))
            .chain(shared.iter().map(tenant(Isolation::Shared)));
        let tenants = tenants.collect();
        let field = Self { server, leaf_port, tenants, seeds, ca, _dir: dir };
        field.make_stream().await;
        field
    }

    async fn make_stream(&self) {
        let bb = self.login("bb").await;
        let stream = json!({ "name": "ReceivedEvents", "subjects": ["user.*.Events"],
            "storage": "file", "max_msg_size": 64 << 10, "duplicate_window": 120_000_000_000_u64 });
        bb.jetstream("$JS.API.STREAM.CREATE.ReceivedEvents", &stream).await;
    }

    /// Logs a tenant in, or `bb`.
    pub(crate) async fn login(&self, id: &str) -> Connected {
        let mut options = ConnectOptions::with_user_and_password(id.to_owned(), id.to_owned());
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone());
        }
        let inbox =
            if id.starts_with("shared") { format!("_INBOX_{id}") } else { "_INBOX".to_owned() };
        client::connect_with(&self.server.url(), options, &inbox).await.expect("connects")
    }

    pub(crate) fn place(&self, isolation: Isolation) -> Place {
        let seed = &self.seeds[usize::from(isolation == Isolation::Shared)];
        Place {
            servers: Servers {
                addresses: vec![self.server.url().parse().expect("an address")],
                ca: self.ca.clone(),
                identity: None,
            },
            login: Login::nkey(seed).expect("a seed"),
        }
    }

    /// An instance that has all tenants.
    pub(crate) async fn intake(&self, settings: Settings) -> Running {
        let intake = Intake::new(self.place(Isolation::Account), settings);
        let intake = intake.with_shared(self.place(Isolation::Shared));
        let running = intake.start(&self.table()).expect("starts");
        // Both connections, and what both have asked for.
        eventually_async("the connections", || async { running.is_connected().then_some(()) })
            .await;
        for (id, isolation) in &self.tenants {
            running.tenants().add(id, *isolation).await;
        }
        running
    }

    /// All tenants, none of them suspended.
    pub(crate) fn table(&self) -> Vec<(TenantId, Isolation, bool)> {
        self.tenants.iter().map(|(id, isolation)| (id.clone(), *isolation, false)).collect()
    }

    /// How many events BB's stream has under each subject.
    pub(crate) async fn stored(&self) -> serde_json::Map<String, Value> {
        let bb = self.login("bb").await;
        let body = json!({ "subjects_filter": ">" });
        let info = bb.jetstream("$JS.API.STREAM.INFO.ReceivedEvents", &body).await;
        info["state"]["subjects"].as_object().cloned().unwrap_or_default()
    }

    /// The same of one tenant.
    pub(crate) async fn stored_of(&self, id: &str) -> u64 {
        let stored = self.stored().await;
        stored.get(&format!("user.{id}.Events")).and_then(Value::as_u64).unwrap_or_default()
    }

    /// The bodies of a tenant's events, in the order of the stream, read by async-nats: a reader
    /// whose connection a malformed header would end.
    pub(crate) async fn bodies(&self, id: &str) -> Vec<String> {
        self.messages(id)
            .await
            .into_iter()
            .map(|message| String::from_utf8_lossy(&message.payload).into_owned())
            .collect()
    }

    pub(crate) async fn messages(&self, id: &str) -> Vec<Message> {
        let count = usize::try_from(self.stored_of(id).await).expect("few");
        let bb = self.login("bb").await;
        let inbox = bb.client.new_inbox();
        let messages = bb.client.subscribe(inbox.clone()).await.expect("subscribes");
        let consumer = json!({ "stream_name": "ReceivedEvents", "config": {
            "deliver_subject": inbox, "ack_policy": "none",
            "filter_subject": format!("user.{id}.Events") } });
        bb.jetstream("$JS.API.CONSUMER.CREATE.ReceivedEvents", &consumer).await;
        let read = messages.take(count).collect();
        tokio::time::timeout(Duration::from_secs(30), read).await.expect("all of them")
    }
}

/// A request on a tenant's `Events` with headers and what it is answered.
pub(crate) async fn ask(client: &Client, subject: &str, request: async_nats::Request) -> Value {
    let request = request.timeout(Some(Duration::from_secs(6)));
    let answer = client.send_request(subject.to_owned(), request).await;
    let answer = answer.unwrap_or_else(|error| panic!("{subject}: {error}"));
    serde_json::from_slice(&answer.payload).expect("json")
}

/// [`ask`] with a body alone.
pub(crate) async fn event(client: &Client, subject: &str, body: impl Into<String>) -> Value {
    ask(client, subject, async_nats::Request::new().payload(body.into().into())).await
}

/// Panics unless it says that BB has stored the event.
pub(crate) fn is_stored(answer: &Value) -> u64 {
    assert!(answer.get("error").is_none(), "{answer}");
    assert_eq!(answer["stream"], "ReceivedEvents", "{answer}");
    answer["seq"].as_u64().filter(|&seq| seq > 0).expect("a number")
}

/// The error that it says.
pub(crate) fn error(answer: &Value) -> (u64, &str) {
    let error = &answer["error"];
    (error["code"].as_u64().expect("a code"), error["description"].as_str().expect("a text"))
}

/// A client that sends bytes as they are.
pub(crate) struct Raw {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Raw {
    /// Logs a tenant in, as a client or as a leaf node.
    pub(crate) fn connect(port: u16, id: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut raw = Self { stream, reader };
        assert!(raw.line().starts_with("INFO "));
        let connect = json!({ "user": id, "pass": id, "verbose": false, "headers": true,
            "no_responders": true, "server_id": id, "name": id, "echo": true });
        raw.send(format!("CONNECT {connect}\r\n").as_bytes());
        raw.settled();
        raw
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("is sent");
    }

    /// Publishes this header block and this body.
    pub(crate) fn publish(&mut self, subject: &str, block: &[u8], body: &[u8]) {
        let (header, total) = (block.len(), block.len() + body.len());
        self.send(format!("HPUB {subject} {header} {total}\r\n").as_bytes());
        self.send(&[block, body, b"\r\n"].concat());
    }

    /// Returns once the server has read everything.
    pub(crate) fn settled(&mut self) {
        self.send(b"PING\r\n");
        loop {
            let line = self.line();
            assert!(!line.is_empty() && !line.starts_with("-ERR"), "{line}");
            if line.starts_with("PONG") {
                return;
            }
        }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).expect("a line");
        String::from_utf8_lossy(&line).into_owned()
    }
}
