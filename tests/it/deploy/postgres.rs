//! The lines of deploy/README.md that set PostgreSQL up, run as they are printed on a new server:
//! only the addresses are the test's own.

use std::process::{Command, Stdio};

use nats_callout::internals::{Coordination as _, PostgresStore};
use nats_callout::store::{CredentialStore as _, Freshness};

use super::{path, read};
use crate::harness::postgres::{PostgresServer, programs, psql};
use crate::harness::service;
use crate::store_contract::logins::STATEMENTS;
use crate::store_contract::patient;

/// The password that the page writes.
const PASSWORD: &str = "...";

/// Lines of the page with the language of their block.
fn blocks(of: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut rest = of;
    while let Some((_, begun)) = rest.split_once("```") {
        let (block, after) = begun.split_once("\n```\n").expect("the end of a block");
        let (language, lines) = block.split_once('\n').expect("lines");
        blocks.push((language.to_owned(), lines.to_owned()));
        rest = after;
    }
    blocks
}

/// A new server, and a folder with a configuration.
struct Host {
    server: PostgresServer,
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        service::cli(folder.path(), &["init", "--dir", "nats-callout"]).success();
        Self { server: PostgresServer::start(), folder }
    }

    /// Runs a block as the page says, in its folder.
    fn run(&self, (language, lines): &(String, String)) {
        let program = service::program();
        let program = std::path::Path::new(program.get_program()).parent().unwrap().to_owned();
        let found = std::env::var("PATH").unwrap();
        let found = format!("{}:{}:{found}", programs().display(), program.display());
        let mut command = match &**language {
            "sql" => Command::new(programs().join("psql")),
            "sh" => Command::new("sh"),
            other => panic!("nobody runs {other}"),
        };
        match &**language {
            "sql" => command.args(["-d", "postgres", "--set=ON_ERROR_STOP=1", "-c"]),
            _ => command.args(["-e", "-c"]),
        };
        let home = self.folder.path().to_str().unwrap();
        let tls = "?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt";
        let lines = lines
            .replace("/var/lib", home)
            .replace("db.example.com", &format!("127.0.0.1:{}", self.server.port()))
            .replace(tls, "");
        let lines: Vec<&str> = match &**language {
            // As somebody types them: each a transaction of its own.
            "sql" => lines.split_inclusive(';').filter(|line| !line.trim().is_empty()).collect(),
            _ => vec![&lines],
        };
        for line in lines {
            let program = command.get_program().to_owned();
            let mut typed = Command::new(program);
            let output = typed
                .args(command.get_args())
                .arg(line)
                .env("PATH", &found)
                .envs(self.server.environment())
                .current_dir(path(""))
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{line}\n{output:?}");
        }
    }

    fn url(&self, role: &str) -> String {
        self.server.url(role, PASSWORD, "nats_callout")
    }

    /// The service works, the license server does what the contract says, and nobody else gets in.
    async fn is_set_up(&self) {
        let store = PostgresStore::open(&self.url("nats_callout"), &patient()).await.unwrap();
        let license_server = self.url("license_server");
        for statement in &STATEMENTS[..5] {
            psql(&license_server, statement).unwrap();
        }
        let alice = store.user("alice", Freshness::Fresh).await.unwrap().unwrap();
        assert_eq!(alice.tenant.id.as_str(), "42");
        store.heartbeat("i").await.unwrap();
        psql(&license_server, STATEMENTS[5]).unwrap();
        assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_none());
        self.server.psql("CREATE ROLE stranger LOGIN PASSWORD '...'");
        let error = psql(&self.url("stranger"), "SELECT 1").unwrap_err();
        assert!(error.contains("permission denied for database"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_the_page_set_it_up() {
    let page = read("README.md");
    let (_, section) = page.split_once("## 2. PostgreSQL\n").unwrap();
    let (section, _) = section.split_once("**Backup**").unwrap();
    let (service, license_server) = section.split_once("### The license server's role\n").unwrap();
    let (service, license_server) = (blocks(service), blocks(license_server));
    let (one, parted) = service.split_first().unwrap();
    let [role @ .., handed_over] = &license_server[..] else { panic!("{license_server:?}") };
    assert_eq!((parted.len(), role.len()), (3, 2), "{service:?}");

    // One role for all.
    let host = Host::new();
    host.run(one);
    PostgresStore::open(&host.url("nats_callout"), &patient()).await.unwrap();
    role.iter().for_each(|block| host.run(block));
    host.is_set_up().await;
    psql(&host.url("nats_callout"), STATEMENTS[0]).unwrap();
    let seen = || psql(&host.url("license_server"), "SELECT id FROM tenants").unwrap();
    assert_eq!(seen(), "");
    psql(&host.url("nats_callout"), &handed_over.1).unwrap();
    assert_eq!(seen(), "42\n");

    // One that makes the tables, and one that the instances log in as.
    let host = Host::new();
    parted.iter().for_each(|block| host.run(block));
    role.iter().for_each(|block| host.run(block));
    host.is_set_up().await;
    let error = psql(&host.url("nats_callout"), "DROP TABLE users").unwrap_err();
    assert!(error.contains("must be owner"), "{error}");
}
