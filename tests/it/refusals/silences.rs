//! Logins that get no answer: what is seen of those that a deployment can have, and how the others come about.

use nats_callout::callout::hash_password;
use nats_callout::keys::XKey;
use serde_json::{Value, json};

use super::cases::Row;
use super::settled::{replaced, settled, without_time};
use super::site::PASSWORD;
use crate::events::{login, max_message_size};
use crate::harness::choice::lacks;
use crate::harness::deployment::{Initialised, Mode, Table};
use crate::harness::servers::{self, NatsServer};
use crate::harness::service::Service;
use crate::harness::{eventually, raw, write_private};

/// Longer than a decision may take, as an import may bring it along.
const TOO_LONG: &str = "$pbkdf2-sha512$i=10000000,l=64$c2l4dGVlbiBieXRlcyBvaw$CRN7wWhgnsI9j5Hv0C0nWzFkW88U4D1c/bNqrbDZCyTCAmOVrQlZIcFPTR63ZXehnzXub9kcYIyfI0EYEcMF/A";

/// How the others come about, and which test has each.
pub(super) const OTHERS: [(&str, &str, &str); 6] = [
    (
        "overloaded",
        "more passwords wait to be hashed than can be in the time that their logins have",
        "authn::password::tests::a_hash_that_takes_too_long_is_no_overload",
    ),
    (
        "request",
        "what asks is no server, or asks again: nobody can but who has the service's own login",
        "forgery::table::a_request_that_says_what_it_must_not_gets_no_answer",
    ),
    (
        "uncounted",
        "nobody can say how many connections a tenant with `max_connections` has",
        "login::room::nobody_is_refused_for_want_of_a_count",
    ),
    (
        "mint",
        "an application's own policy grants answers in a shared account",
        "mint::tests::no_response_permission_in_a_shared_account",
    ),
    (
        "response",
        "an answer cannot be signed or sealed: nothing that a client sends brings that about, and the test shows that \
         what is sealed opens again",
        "protocol::envelope::tests::opens_and_seals_what_nkeys_seals_and_opens",
    ),
    (
        "shed",
        "more wait for their turn than can be served while their servers wait",
        "service::turns::tests::too_many_are_dropped_who_waited_longest_first",
    ),
];

/// Whose password is guessed, and how often at once: more than may wait.
const GUESSED: &str = "bob";
const GUESSES: usize = 64;

/// A server and a service that leaves some without an answer.
struct Quiet {
    _server: NatsServer,
    service: Service,
    init: Initialised,
}

impl Quiet {
    fn start(mode: Mode, format: &str, prepare: impl Fn(&Initialised)) -> Self {
        let init = Initialised::on(mode, Table::Default);
        init.set("format", &format!("{format:?}"));
        let server = NatsServer::start(servers::version(), &init.server_conf(), init.port, None)
            .unwrap_or_else(|log| panic!("{log}"));
        prepare(&init);
        let service = init.launch_service();
        eventually("the service", || service.log().contains("connected to NATS").then_some(()));
        let hash = hash_password(PASSWORD).expect("a hash");
        init.sql(&format!(
            "INSERT INTO tenants (id, name) VALUES ('one', 'one');
             INSERT INTO users (tenant_id, name, password_hash) VALUES ('one', 'alice', '{}');
             INSERT INTO users (tenant_id, name, password_hash) VALUES ('one', 'bob', '{}');
             INSERT INTO users (tenant_id, name, password_hash) VALUES ('one', 'slow', '{TOO_LONG}');",
            hash.expose(),
            hash.expose()
        ));
        Self { _server: server, service, init }
    }

    /// The client's view and the line of the log, once there is one with this reason.
    fn seen(&self, user: &str, reason: &str) -> (String, String) {
        let password = if user == GUESSED { "wrong" } else { PASSWORD };
        let fields = json!({ "user": user, "pass": password });
        let is_it = |line: &&str| line.contains("no reply") && line.contains(reason);
        eventually(reason, || {
            let (verdict, _) = raw::connect(self.init.port, &fields);
            let raw::Verdict::Refused(words) = verdict else { return None };
            let log = self.service.log();
            Some((words.trim().to_owned(), log.lines().find(is_it)?.to_owned()))
        })
    }

    /// Many guesses at once, until there is no place for one more to wait in.
    fn is_guessed_at(&self) {
        let fields = json!({ "user": GUESSED, "pass": "wrong" });
        std::thread::scope(|scope| {
            for _ in 0..GUESSES {
                scope.spawn(|| {
                    while !self.service.log().contains("throttled") {
                        raw::connect(self.init.port, &fields);
                    }
                });
            }
        });
    }

    /// What `test` says of alice, who has no answer either.
    fn test(&self) -> String {
        let said = self.init.cli(&["--json", "test", "one", "alice"]);
        let said: Value = serde_json::from_str(&said.stdout).expect("a document");
        let text = |key: &str| said[key].as_str().expect("a text");
        let words = replaced(text("message"), "within ", |c| c == ' ', "N");
        format!("{}: {words}", text("reason"))
    }
}

type Shown = (&'static str, Row);

/// What both make, side by side: each waits for a server most of its time.
fn at_once<A: Send, B: Send>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().expect("what stands beside it"), other)
    })
}

/// What two of them show, of which one has a log in JSON.
fn row(what: &'static str, reason: &str, user: &str, [text, as_json]: &[Quiet; 2]) -> Shown {
    let ((client, line), (_, json)) = at_once(
        || text.seen(user, &format!("reason=\"{reason}\"")),
        || as_json.seen(user, &format!("\"reason\":\"{reason}\"")),
    );
    let put = |line: &str, quiet: &Quiet| settled(line, &quiet.init.dir());
    let row = Row {
        reason: format!("no reply: {reason}"),
        client,
        line: put(line.split_once("Z ").map_or("", |(_, rest)| rest.trim_start()), text),
        json: put(&without_time(serde_json::from_str(&json).expect("a line")), as_json),
        event: None,
        test: (user == "alice").then(|| put(&text.test(), text)),
        explain: None,
    };
    (what, row)
}

pub(super) async fn rows() -> Vec<Shown> {
    let pair = |mode, prepare: &(dyn Fn(&Initialised) + Sync)| {
        let start = |format| Quiet::start(mode, format, prepare);
        let (text, json) = at_once(|| start("text"), || start("json"));
        [text, json]
    };
    let recorded = pair(Mode::Config, &|init| init.set("decisions", "\"before-grant\""));
    let slow = "a hash in the row that takes longer than a decision may";
    let mut rows = vec![row(slow, "slow_hash", "slow", &recorded)];
    for quiet in &recorded {
        let auth = login(&quiet.init, Mode::Config, "auth").await;
        max_message_size(&auth, "AUTH_DECISIONS", 10).await;
    }
    let unrecorded = "a grant that has to be recorded first, and is not";
    rows.push(row(unrecorded, "audit", "alice", &recorded));
    at_once(|| recorded[0].is_guessed_at(), || recorded[1].is_guessed_at());
    let guess = "a guess while others at this account or from this source wait already";
    rows.push(row(guess, "throttled", GUESSED, &recorded));

    let strange = pair(Mode::Config, &|init| {
        let (_, seed) = XKey::generate().expect("a key");
        write_private(&init.dir().join("keys/xkey.nk"), &seed);
    });
    let other = "a service with another curve key than its server knows";
    rows.push(row(other, "envelope", "alice", &strange));

    if !lacks(Mode::Operator) {
        let full = pair(Mode::Operator, &|_| {});
        for quiet in &full {
            let conf = std::fs::read_to_string(quiet.init.server_conf()).expect("a configuration");
            let (_, rest) = conf.split_once("    dir: ").expect("a folder of accounts");
            let name: String = serde_json::from_str(rest.lines().next().unwrap()).expect("a text");
            let accounts = quiet.init.dir().join(name);
            std::fs::remove_dir_all(&accounts).expect("a folder of accounts");
            std::fs::write(&accounts, "no folder").expect("a file");
        }
        let unwritten =
            "operator mode: a tenant's first login, and a server that cannot store its account";
        rows.push(row(unwritten, "account", "alice", &full));
    }
    rows
}
