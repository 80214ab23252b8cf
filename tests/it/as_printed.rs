//! The life of a tenant in README.md, run: each command is executed as it stands there, and what
//! it prints has to be what README says, with [`Placeholders`] for what differs each time.
//!
//! With `UPDATE_TRANSCRIPT=1` in the environment the test writes the block into README.md instead.

mod placeholders;

use std::path::{Path, PathBuf};

use serde_json::json;

use self::placeholders::Placeholders;
use crate::harness::client::{self, Login};
use crate::harness::servers::{self, NatsServer};
use crate::harness::service::{self, Service};
use crate::harness::{eventually, loudly, ports};
use crate::within::changes::crowd::Held;

const BEGIN: &str =
    "<!-- transcript: written and checked by tests/it/as_printed.rs -->\n```console\n";
const END: &str = "```\n<!-- end of transcript -->";

/// What has been typed and printed so far.
#[derive(Debug)]
struct Transcript {
    folder: PathBuf,
    placeholders: Placeholders,
    text: String,
    /// What `init` is told beside what is shown: ports of this test.
    ports: [String; 2],
}

impl Transcript {
    fn typed(&mut self, command: &str) {
        self.text.push_str(&format!("$ {command}\n"));
    }

    fn printed(&mut self, output: &str) {
        let output = self.placeholders.put(output);
        self.text.push_str(output.trim_end());
        self.text.push_str("\n\n");
    }

    fn remark(&mut self, remark: &str) {
        self.text.push_str(&format!("# {remark}\n"));
    }

    /// Types a command of the program, which ends with `status`.
    #[track_caller]
    fn run(&mut self, status: i32, command: &str) {
        self.typed(command);
        let real = self.placeholders.real(command);
        let mut args = words(&real);
        assert_eq!(args.remove(0), "nats-callout");
        if args[0] == "init" {
            let [listen, monitor] = self.ports.clone();
            args.extend(["--listen".to_owned(), listen, "--monitor".to_owned(), monitor]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = service::cli(&self.folder, &args);
        assert_eq!(output.status, status, "{command}: {output:?}");
        self.printed(&format!("{}{}", output.stdout, output.stderr));
    }

    /// A command whose JSON the test needs and README does not show.
    fn aside(&self, args: &[&str]) -> serde_json::Value {
        service::cli(&self.folder, &[&["--json"], args].concat()).success().json()
    }
}

/// Splits as a shell does: blanks part words, except between single quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in command.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("a word").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The life of a tenant. Gives the transcript.
async fn live(folder: &Path) -> String {
    let [port, monitor] = [ports::free(), ports::free()];
    let placeholders = Placeholders::new(&[
        (folder.to_str().expect("a utf-8 path").to_owned(), "/srv/nats"),
        (format!("127.0.0.1:{port}"), "127.0.0.1:4222"),
        (format!("127.0.0.1:{monitor}"), "127.0.0.1:8222"),
        (servers::version().to_owned(), "2.15.1"),
    ]);
    let mut shell = Transcript {
        folder: folder.to_owned(),
        placeholders,
        text: String::new(),
        ports: [format!("127.0.0.1:{port}"), format!("127.0.0.1:{monitor}")],
    };

    shell.run(0, "nats-callout init --dir prod");
    shell.typed("cd prod");
    shell.folder = folder.join("prod");
    shell.typed("nats-server -c nats-server.conf &");
    let conf = shell.folder.join("nats-server.conf");
    let server = NatsServer::start(servers::version(), &conf, port, Some(monitor)).expect("starts");
    shell.typed("NATS_CALLOUT_LOG_LEVEL=warn nats-callout serve &");
    let http = format!("127.0.0.1:{}", ports::free());
    let environment = [("NATS_CALLOUT_LOG_LEVEL", "warn"), ("NATS_CALLOUT_HTTP_LISTEN", &http)];
    let config = shell.folder.join("nats-callout.toml");
    let service = Service::serve(&config, &environment).expect("serves");
    shell.printed(&service.log());

    shell.run(
        0,
        "nats-callout tenant add SHOP --id shop --memory 64MB --storage 10GB --expires 365d",
    );
    let admin = Login::password("shop", &shell.placeholders.last_password());
    shell.run(
        0,
        "nats-callout user add shop order-service --publish 'orders.*,events.order.*' \
         --subscribe 'payments.*,inventory.*' --env-file",
    );
    shell.run(0, "nats-callout token add shop order-service --expires 30d --label deploy");
    let token = Login::Token(shell.placeholders.last_token());
    shell.run(0, "nats-callout list");
    shell.run(0, "nats-callout show shop");
    shell.run(0, "nats-callout test shop order-service");

    shell.remark("Two instances of order-service connect with the token.");
    let mut instances = [Held::connect(port, &token), Held::connect(port, &token)];
    let account = shell.placeholders.account();
    let only_two = || (server.connections(&account) == 2).then_some(());
    eventually("the end of the test's own connection", only_two);
    shell.run(0, "nats-callout user suspend shop order-service");
    instances.iter_mut().for_each(Held::wait_closed);
    assert!(Held::try_connect(port, &token).is_err(), "a suspended user was let in");
    shell.run(1, "nats-callout test shop order-service");
    shell.run(0, "nats-callout user resume shop order-service");

    shell.remark("They connect again; the admin makes a stream and leaves.");
    let mut instances = [Held::connect(port, &token), Held::connect(port, &token)];
    let maker = client::connect(&server.url(), &admin, "_INBOX").await.expect("connects");
    let stream = json!({ "name": "ORDERS", "subjects": ["orders.*"], "storage": "file" });
    maker.jetstream("$JS.API.STREAM.CREATE.ORDERS", &stream).await;
    maker.client.drain().await.expect("ends");
    eventually("the admin has left", only_two);
    eventually("the last logins are noted", || {
        let shown = shell.aside(&["show", "shop"]);
        let users = shown["users"].as_array()?.clone();
        users.iter().all(|user| user["last_login_at"].is_string()).then_some(())
    });
    shell.run(0, "nats-callout tenant suspend shop");
    instances.iter_mut().for_each(Held::wait_closed);
    shell.run(0, "nats-callout list");
    shell.run(0, "nats-callout tenant resume shop");

    shell.run(0, "nats-callout user passwd shop order-service");
    shell.run(0, "nats-callout token list shop");
    let id = shell.placeholders.id();
    shell.run(0, &format!("nats-callout token remove {id} --yes"));
    assert!(Held::try_connect(port, &token).is_err(), "a removed token was let in");
    shell.remark("One instance connects with the new password.");
    let renewed = Login::password("order-service", &shell.placeholders.last_password());
    let mut instance = Held::connect(port, &renewed);
    shell.run(0, "nats-callout user remove shop order-service --yes");
    instance.wait_closed();
    shell.run(0, "nats-callout tenant remove shop --purge --yes");
    assert!(Held::try_connect(port, &admin).is_err(), "a removed tenant was let in");
    shell.run(0, "nats-callout list");
    format!("{}\n", shell.text.trim_end())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_tenant_is_what_readme_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().canonicalize().expect("a path");
    let transcript = live(&folder).await;
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&readme).expect("README.md");
    let (before, rest) = text.split_once(BEGIN).expect("where the transcript begins");
    let (said, after) = rest.split_once(END).expect("where the transcript ends");
    if said == transcript {
        return;
    }
    if std::env::var_os("UPDATE_TRANSCRIPT").is_some() {
        std::fs::write(&readme, [before, BEGIN, &transcript, END, after].concat()).expect("writes");
        loudly("README.md has a new transcript");
        return;
    }
    let differs = said.lines().zip(transcript.lines()).find(|(said, seen)| said != seen);
    panic!(
        "README.md says otherwise: {differs:?}\nUPDATE_TRANSCRIPT=1 writes this into it:\n\
         {transcript}"
    );
}

#[test]
fn words_are_split_as_a_shell_splits_them() {
    assert_eq!(words("a --b 'c d,e.*'  f"), ["a", "--b", "c d,e.*", "f"]);
}
