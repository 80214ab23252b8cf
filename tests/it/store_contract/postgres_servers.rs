//! What a URL leads to that is no single server: several of them, of which one takes writes, and a
//! pooler.

use std::path::Path;
use std::process::Command;

use nats_callout::internals::PostgresStore;
use nats_callout::internals::ProvisioningStore as _;
use nats_callout::store::{CredentialStore as _, Freshness, PasswordHash, Status};

use super::postgres_open::refusal;
use super::{ALICE, patient};
use crate::harness::postgres::{PostgresServer, database, psql, shared};
use crate::harness::process::Process;
use crate::harness::{PATIENCE, eventually, eventually_async, loudly, ports};

const LOGIN: (&str, &str) = ("postgres", "of-the-tests");

fn url(hosts: &str, database: &str) -> String {
    format!("postgres://{}:{}@{hosts}/{database}", LOGIN.0, LOGIN.1)
}

/// As a standby is, and as it is once it has been promoted.
fn set_read_only(server: &PostgresServer, is_read_only: bool) {
    let value = if is_read_only { "on" } else { "off" };
    server.psql(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
    server.reload();
    eventually("the setting", || {
        (server.psql("SHOW default_transaction_read_only") == format!("{value}\n")).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_servers_the_one_that_takes_writes_is_asked() {
    let (mut first, second) = (PostgresServer::start(), PostgresServer::start());
    let host = |port: u16| format!("127.0.0.1:{port}");
    for server in [&first, &second] {
        let alone = url(&host(server.port()), "postgres");
        PostgresStore::open(&alone, &patient()).await.unwrap();
        psql(&alone, ALICE).unwrap();
    }
    second.psql("UPDATE users SET kind = 'service'");
    set_read_only(&second, true);
    let hosts = [ports::free(), second.port(), first.port()].map(host).join(",");
    let several = format!("{}?target_session_attrs=read-write", url(&hosts, "postgres"));
    let store = PostgresStore::open(&several, &patient()).await.unwrap();
    let status =
        async |status| store.set_user_status(&"42".parse().unwrap(), "alice", status).await;
    status(Status::Suspended).await.unwrap();
    assert_eq!(first.psql("SELECT status, kind FROM users"), "suspended|bb\n");

    first.kill9();
    let text = refusal(&several, PATIENCE).await;
    assert!(text.contains("all that answer are standbys") && text.contains(&hosts), "{text}");
    set_read_only(&second, false);
    eventually_async("writes", async || status(Status::Suspended).await.ok()).await;
    assert_eq!(second.psql("SELECT status, kind FROM users"), "suspended|service\n");
    let alice = store.user("alice", Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!(alice.user.kind, nats_callout::store::UserKind::Service);

    // Back as it was: the first is a standby now.
    first.restart();
    set_read_only(&first, true);
    let hash = PasswordHash::new("$argon2id$new$...");
    store.set_password(&"42".parse().unwrap(), "alice", &hash).await.unwrap();
    assert_eq!(first.psql("SELECT password_hash FROM users"), "$2b$10$...\n");
    assert_eq!(second.psql("SELECT password_hash FROM users"), "$argon2id$new$...\n");
}

/// PgBouncer before the shared server, where it is installed.
fn pooler(folder: &Path, port: u16, settings: &str) -> Option<Process> {
    let (user, password) = LOGIN;
    let database =
        format!("host=127.0.0.1 port={} user={user} password={password}", shared().port());
    let ini = format!(
        "[databases]\n* = {database}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\n{settings}\n"
    );
    let file = folder.join("pgbouncer.ini");
    std::fs::write(&file, ini).unwrap();
    let mut command = Command::new("pgbouncer");
    command.arg(&file);
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        command.args(["--user", "nobody"]);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin"));
    if Command::new("pgbouncer")
        .arg("--version")
        .env("PATH", format!("{path}:/usr/sbin"))
        .output()
        .is_err()
    {
        loudly("SKIPPED: no pgbouncer on PATH; what is said about poolers is not tried");
        return None;
    }
    let process = Process::spawn("pgbouncer", &mut command, &folder.join("pgbouncer.log"));
    eventually("pgbouncer", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    Some(process)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_is_told_from_a_server() {
    let database = database();
    for (settings, words) in [
        ("pool_mode = transaction", "unsupported startup parameter"),
        ("pool_mode = transaction\nignore_startup_parameters = extra_float_digits,options", ""),
        ("pool_mode = session\nignore_startup_parameters = extra_float_digits,options", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let port = ports::free();
        let Some(_pooler) = pooler(folder.path(), port, settings) else { return };
        let text = refusal(&url(&format!("127.0.0.1:{port}"), database.name()), PATIENCE).await;
        for words in ["a pooler such as PgBouncer", "of the server itself in the URL", words] {
            assert!(text.contains(words), "{settings}: {text}");
        }
    }
    PostgresStore::open(&database.url(), &patient()).await.unwrap();
}
