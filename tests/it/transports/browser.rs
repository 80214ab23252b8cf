//! A page that logs in over WebSocket with a token and exchanges messages with a client on TCP, in
//! headless Chromium.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Open;
use crate::harness::process::Process;
use crate::harness::{PATIENCE, client, clients, loudly};
use crate::login::{echo, inbox_prefix};

/// What of Chromium's own doings would reach beyond this machine, or wait for a person.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
];

/// Serves the page's files, its session, and takes its report.
struct Site {
    address: String,
    reports: mpsc::UnboundedReceiver<Value>,
}

impl Site {
    fn serve(folder: PathBuf, session: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let (sender, reports) = mpsc::unbounded_channel();
        let session = session.to_string();
        // Ends with the test's process, as all that serve no one any more.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, session, sender) = (folder.clone(), session.clone(), sender.clone());
                std::thread::spawn(move || answer(&stream, &folder, &session, &sender));
            }
        });
        Self { address, reports }
    }
}

fn answer(
    mut stream: &TcpStream,
    folder: &std::path::Path,
    session: &str,
    reports: &mpsc::UnboundedSender<Value>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (kind, content) = match path {
        "/" => ("text/html", std::fs::read(folder.join("index.html"))?),
        "/page.js" => ("text/javascript", std::fs::read(folder.join("page.js"))?),
        "/session.json" => ("application/json", session.as_bytes().to_vec()),
        "/report" => {
            let _ = reports.send(serde_json::from_slice(&body).unwrap_or_default());
            ("text/plain", Vec::new())
        }
        _ => ("text/plain", b"nothing here".to_vec()),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&content)
}

fn chromium() -> Option<&'static str> {
    let is_there = |program: &&str| {
        Command::new(program).arg("--version").output().is_ok_and(|it| it.status.success())
    };
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there);
    if found.is_none() {
        loudly("SKIPPED: there is no Chromium on this machine, the page is not tested");
    }
    found
}

pub(super) async fn a_page_logs_in_with_a_token_and_exchanges_messages(open: &Open) {
    let Some(chromium) = chromium() else { return };
    let Some(page) = clients::page() else { return };
    let mode = open.mode;
    let admin = open.tenant_add("page", &[]);
    let token = open.token_add("page", "page");
    let prefix = inbox_prefix(mode, "page").unwrap_or_else(|| "_INBOX".to_owned());
    let app = client::connect(&open.url(), &admin, &prefix).await.expect("logs in");
    let (to_app, to_page) = (echo(mode, "page"), format!("{}.page", echo(mode, "page")));
    let mut heard = app.client.subscribe(to_app.clone()).await.expect("subscribes");
    app.round_trip(&format!("{to_app}.settled")).await;

    let mut site = Site::serve(
        page.clone(),
        &json!({
            "url": format!("ws://127.0.0.1:{}", open.websocket),
            "token": token, "wrong": format!("{token}x"),
            "publish": to_app, "subscribe": to_page,
        }),
    );
    let profile = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(chromium);
    command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display()));
    command.env("HOME", profile.path()).arg(format!("http://{}/", site.address));
    let browser = Process::spawn("chromium", &mut command, &profile.path().join("log"));

    let message = tokio::time::timeout(2 * PATIENCE, heard.next()).await;
    let message =
        message.unwrap_or_else(|_| panic!("nothing heard: {:?}", site.reports.try_recv()));
    assert_eq!(message.expect("the connection is open").payload, "hello from the page");
    app.client.publish(to_page, "hello from the app".into()).await.expect("publishes");
    let report = tokio::time::timeout(PATIENCE, site.reports.recv()).await.expect("a report");
    drop(browser);
    let report = report.expect("a report");
    assert_eq!(report["error"], Value::Null, "{report}");
    assert_eq!(report["received"], json!(["hello from the app"]), "{report}");
    let refused = report["refused"].as_str().expect("a refusal").to_lowercase();
    assert!(refused.contains("authorization"), "{report}");
    assert!(report["agent"].as_str().expect("an agent").contains("Chrome"), "{report}");
}
