//! Secrets are shown where that is the point, and nowhere else: unique ones are put into every place
//! that takes one, and into some that do not, and everything that comes out anywhere is searched.

mod config;
mod panics;
mod transports;
mod types;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use data_encoding::{BASE64, BASE64URL};
use memchr::memmem;
use nats_callout::callout::Token;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::events::{CONSUMERS, login, read, stored};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::issuer::{seconds_from_now, sign_with_secret};
use crate::harness::service::{self, Output};
use crate::harness::{eventually, eventually_async, http, raw};
use crate::jwt::add_to_config;

/// A random secret whose characters look different in a URL.
fn canary(of: &str) -> String {
    let random: String = Token::generate().expect("a token").expose().chars().skip(4).collect();
    format!("canary/{of}@{random}%")
}

/// What must not be seen, by name, and everything that was seen, by where.
#[derive(Default)]
struct Watch {
    secrets: Mutex<Vec<(String, String)>>,
    seen: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Watch {
    fn secret(&self, name: &str, secret: &str) -> String {
        self.secrets.lock().expect("no panic").push((name.to_owned(), secret.to_owned()));
        secret.to_owned()
    }

    fn see(&self, place: &str, bytes: impl Into<Vec<u8>>) {
        self.seen.lock().expect("no panic").push((place.to_owned(), bytes.into()));
    }

    fn see_output(&self, place: &str, output: &Output) {
        self.see(&format!("stdout of {place}"), output.stdout.clone());
        self.see(&format!("stderr of {place}"), output.stderr.clone());
    }

    /// Looks at both streams of events, and what their reader is given, once there is something in each.
    async fn see_events(&self, init: &Initialised, mode: Mode) {
        let auth = login(init, mode, "auth").await;
        let reader = login(init, mode, "events").await;
        for (stream, _) in CONSUMERS {
            let events = eventually_async("events", || async {
                Some(stored(&auth, stream).await).filter(|events| !events.is_empty())
            });
            let events = events.await;
            self.see(stream, format!("{events:?}"));
            let given = read(&reader, stream, events.len()).await;
            self.see(&format!("{stream} as it is read"), format!("{given:?}"));
        }
    }

    /// Panics with every secret that was seen anywhere, in any form.
    fn judge(&self) {
        let mut found = BTreeSet::new();
        for (name, secret) in &*self.secrets.lock().expect("no panic") {
            assert!(secret.len() >= 12, "{name} would be found by chance");
            let forms = forms(secret);
            for (place, bytes) in &*self.seen.lock().expect("no panic") {
                let has = |form: &&(&str, Vec<u8>)| memmem::find(bytes, &form.1).is_some();
                if let Some((form, _)) = forms.iter().find(has) {
                    found.insert(format!("{name} ({form}) in {place}"));
                }
            }
        }
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// How a secret may look in an output: as it is, escaped for a URL, in a list of bytes, or in
/// base64, which has three forms by where it begins.
fn forms(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let escaped: String = secret
        .bytes()
        .map(|byte| match byte {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    let bytes: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
    let mut forms = vec![
        ("plain", secret.as_bytes().to_vec()),
        ("URL", escaped.into_bytes()),
        ("bytes", bytes.join(", ").into_bytes()),
        ("hex", data_encoding::HEXLOWER.encode(secret.as_bytes()).into_bytes()),
    ];
    for (name, encoding) in [("base64", &BASE64), ("base64url", &BASE64URL)] {
        for shift in 0..3 {
            let shifted = [&b"xxx"[..shift], secret.as_bytes()].concat();
            let whole = shifted.len() / 3 * 3;
            // The first characters mix with what stands before.
            let text = encoding.encode(&shifted[..whole]).split_off(if shift == 0 { 0 } else { 4 });
            forms.push((name, text.into_bytes()));
        }
    }
    forms
}

/// Every seed in the files below a folder, those inside creds files included.
fn seeds(folder: &Path) -> Vec<(String, String)> {
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            seeds.extend(self::seeds(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let found = words.filter(|word| word.len() == 58 && word.starts_with('S'));
        seeds.extend(found.map(|seed| (path.display().to_string(), seed.to_owned())));
    }
    seeds
}

struct Scene {
    watch: Watch,
    deployment: Deployment,
}

impl Scene {
    /// A service that logs all it can, with every seed in its files watched for.
    fn start(mode: Mode) -> Self {
        let settings = [("NATS_CALLOUT_LOG_LEVEL", "trace")];
        let deployment = Deployment::start_set(mode, &settings);
        let watch = Watch::default();
        for (file, seed) in seeds(&deployment.dir().join("keys")) {
            watch.secret(&file, &seed);
        }
        Self { watch, deployment }
    }

    /// Runs a command; what it prints is watched.
    fn cli(&self, args: &[&str], stdin: &str) -> Output {
        let config = self.deployment.config();
        let mut all = vec!["--config", config.to_str().expect("utf-8")];
        all.extend(args);
        let output = service::cli_with_stdin(&self.deployment.dir(), &all, stdin);
        self.watch.see_output(&args.join(" "), &output);
        output
    }

    /// Runs a command whose point is to show a secret, which is watched for from now on.
    fn shows(&self, name: &str, args: &[&str], key: &str) -> String {
        let config = self.deployment.config();
        let mut all = vec!["--config", config.to_str().expect("utf-8"), "--json"];
        all.extend(args);
        let output = service::cli(&self.deployment.dir(), &all).success();
        let shown = output.json()[key].as_str().expect("a secret").to_owned();
        assert_eq!(output.stdout.matches(&shown).count(), 1 + usize::from(key == "password"));
        self.watch.see(&format!("stderr of {name}"), output.stderr);
        self.watch.secret(name, &shown)
    }

    fn connect(&self, credentials: &Value) -> bool {
        let (verdict, _) = raw::connect(self.deployment.server.port(), credentials);
        if let raw::Verdict::Refused(words) = &verdict {
            self.watch.see("what the server says", words.clone());
        }
        verdict == raw::Verdict::Admitted
    }

    /// Looks at what the service and the server tell of themselves, and at what came before.
    async fn judge(&self) {
        let Self { watch, deployment } = self;
        let service = format!("/proc/{}", deployment.service.pid());
        for file in ["environ", "cmdline"] {
            // Where there is no /proc, there is nothing to be seen in it.
            watch.see(file, std::fs::read(format!("{service}/{file}")).unwrap_or_default());
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            watch.see(path, http::get(deployment.http(), path).expect("an answer").body);
        }
        watch.see_events(deployment, deployment.mode).await;
        watch.see("the service's log", deployment.service.log());
        watch.see("nats-server's log", deployment.server.log());
        watch.judge();
    }
}

async fn shown_nowhere(mode: Mode) {
    let mut scene = Scene::start(mode);
    let shared = canary("license");
    let file = scene.deployment.dir().join("keys/license.secret");
    std::fs::write(&file, &shared).expect("a file");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a mode");
    add_to_config(
        &scene.deployment,
        "\n[issuers.license]\nissuer = \"license-server\"\naudience = [\"nats\"]\n\
         secret = [\"keys/license.secret\"]\n",
    );
    scene.deployment.service.restart();
    scene.watch.secret("an issuer's secret", &shared);
    let (watch, deployment) = (&scene.watch, &scene.deployment);

    let admin = scene.shows("the admin's password", &["tenant", "add", "shop"], "password");
    scene.shows("a user's password", &["user", "add", "shop", "orders"], "password");
    let alice = watch.secret("alice's password", &canary("alice"));
    scene
        .cli(&["user", "add", "shop", "alice", "--kind", "bb", "--password-stdin"], &alice)
        .success();
    let token = scene.shows("a token", &["token", "add", "shop", "alice"], "token");
    let wrong = watch.secret("a wrong password", &canary("wrong"));
    let unknown = Token::generate().expect("a token");
    let unknown = watch.secret("an unknown token", unknown.expose());
    let seed = watch.secret("a user's seed", &KeyPair::new_user().seed().expect("a seed"));
    let jwt = watch.secret(
        "a JWT",
        &format!("eyJhbGciOiJIUzI1NiJ9.{}.c2ln", BASE64URL.encode(canary("jwt").as_bytes())),
    );

    let signed = |name: &str, audience: &str, seconds: i64| {
        let claims = json!({
            "iss": "license-server", "sub": "alice", "aud": audience,
            "exp": seconds_from_now(seconds), "jti": canary(name),
        });
        let header = json!({"alg": "HS256", "typ": "JWT"});
        watch.secret(name, &sign_with_secret(shared.as_bytes(), &header, &claims))
    };
    let sound = signed("a sound JWT", "nats", 600);
    let ended = signed("an expired JWT", "nats", -600);
    let others = signed("a JWT for others", "others", 600);
    for credentials in [json!({"auth_token": ended}), json!({"user": "alice", "pass": others})] {
        assert!(!scene.connect(&credentials));
    }
    for credentials in [
        json!({"auth_token": sound}),
        json!({"user": "alice", "pass": sound}),
        json!({"user": "shop", "pass": admin}),
        json!({"user": "alice", "pass": alice}),
        json!({"user": "alice", "pass": token}),
        json!({"auth_token": token}),
    ] {
        assert!(scene.connect(&credentials), "{}", deployment.service.log());
    }
    let refused = |scene: &Scene| {
        for secret in [&wrong, &unknown, &seed, &jwt, &alice] {
            for credentials in [
                json!({"user": "alice", "pass": format!("{secret}x")}),
                json!({"user": "nobody", "pass": secret}),
                json!({"auth_token": secret}),
                json!({"pass": secret}),
            ] {
                assert!(!scene.connect(&credentials));
            }
        }
    };
    refused(&scene);

    for args in [
        &["list"][..],
        &["--json", "list"],
        &["show", "shop"],
        &["--json", "show", "shop", "alice"],
        &["token", "list", "shop"],
        &["--json", "token", "list", "shop"],
        &["doctor"],
        &["--json", "doctor"],
        &["test", "shop", "alice"],
        &["--json", "test", "shop"],
        &["--json", "policy", "explain", "alice", "--claim", &format!("role={sound}")],
        &["policy", "check"],
        &["keys", "list"],
        &["--json", "keys", "list"],
        &["keys", "rotate", "--dry-run"],
        &["--json", "bench", "--kind", "password", "--create", "2", "--count", "4", "-c", "2"],
        &["bench", "--kind", "token", "--create", "2", "--count", "4", "-c", "2"],
    ] {
        scene.cli(args, "");
    }
    for (kind, secret) in [
        ("--password-stdin", &alice),
        ("--password-stdin", &wrong),
        ("--password-stdin", &unknown),
        ("--token-stdin", &token),
        ("--token-stdin", &sound),
        ("--token-stdin", &ended),
        ("--token-stdin", &unknown),
        ("--token-stdin", &wrong),
    ] {
        scene.cli(&["test", "shop", "alice", kind], secret);
        scene.cli(&["--json", "test", "shop", kind], secret);
    }
    // In the place of an id, and on stdin in the place of a password.
    scene.cli(&["token", "remove", &token, "--yes"], "");
    scene.cli(&["--json", "token", "remove", &unknown, "--yes"], "");
    scene.cli(&["user", "passwd", "shop", "alice", "--password-stdin"], &unknown);
    scene.cli(&["user", "passwd", "shop", "orders", "--password-stdin"], &wrong).success();

    // A database that cannot be read is a fault of another kind.
    let view = deployment.drop_view("login_records");
    std::thread::scope(|scope| {
        for secret in [&wrong, &unknown, &seed, &jwt, &alice] {
            for user in ["alice", "nobody"] {
                let credentials = json!({"user": user, "pass": format!("{secret}x")});
                let scene = &scene;
                scope.spawn(move || assert!(!scene.connect(&credentials)));
            }
        }
    });
    eventually("the fault in the log", || {
        deployment.service.log().contains("is impossible at the moment").then_some(())
    });
    deployment.sql(&view);
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_seen_anywhere() {
    for mode in either_mode() {
        shown_nowhere(mode).await;
    }
}

/// Operator mode has other keys, and keeps some of them in creds files.
#[tokio::test(flavor = "multi_thread")]
async fn no_key_of_operator_mode_is_seen_anywhere() {
    let scene = Scene::start(Mode::Operator);
    let admin = scene.shows("the admin's password", &["tenant", "add", "shop"], "password");
    assert!(scene.connect(&json!({"user": "shop", "pass": admin})));
    assert!(!scene.connect(&json!({"user": "shop", "pass": "wrong"})));
    for args in [
        &["keys", "list"][..],
        &["--json", "keys", "list"],
        &["keys", "rotate", "--dry-run"],
        &["--json", "keys", "rotate", "--dry-run"],
        &["--json", "doctor"],
        &["test", "shop"],
    ] {
        scene.cli(args, "");
    }
    scene.judge().await;
}

/// A server writes the name that a client claims into its own log, whoever it asks; what we write
/// and publish shows no token there.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_the_place_of_the_name_is_not_repeated() {
    let scene = Scene::start(Mode::Operator);
    let (watch, deployment) = (&scene.watch, &scene.deployment);
    let token = Token::generate().expect("a token");
    let token = watch.secret("a token", token.expose());
    let seed = watch.secret("a seed", &KeyPair::new_user().seed().expect("a seed"));
    let jwt = watch.secret("a JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl");
    let hash =
        watch.secret("a hash", "$2b$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234");
    let mut claimed = 0;
    for name in [&token, &seed, &jwt, &hash] {
        // More than are free, so that the account counts as guessed.
        for _ in 0..12 {
            assert!(!scene.connect(&json!({"user": name, "pass": "x"})));
            claimed += 1;
        }
    }
    let of = login(deployment, Mode::Operator, "auth").await;
    let rejected = eventually_async("a rejection", || async {
        Some(stored(&of, "AUTH_DECISIONS").await).filter(|events| !events.is_empty())
    });
    watch.see("AUTH_DECISIONS", format!("{:?}", rejected.await));
    assert!(claimed > 0);
    let log = eventually("the refusals in the log", || {
        let log = deployment.service.log();
        log.contains("being guessed").then_some(log)
    });
    watch.see("the service's log", log);
    watch.judge();
}

#[test]
fn a_watch_finds_every_form() {
    let secret = canary("form");
    let begins = |text: String| -> Vec<u8> { text.into_bytes() };
    for leak in [
        begins(format!("password={secret}, more")),
        begins(format!("{:?}", secret.as_bytes())),
        begins(BASE64.encode(format!("{{\"pass\":\"{secret}\"}}").as_bytes())),
        begins(BASE64URL.encode(format!("{{\"pass\": \"{secret}\"}}").as_bytes())),
        begins(BASE64.encode(format!("{{ \"pass\": \"{secret}\"}}").as_bytes())),
        begins(
            secret
                .replace('/', "%2F")
                .replace('@', "%40")
                .replace('%', "%25")
                .replace("%252F", "%2F")
                .replace("%2540", "%40"),
        ),
    ] {
        let watch = Watch::default();
        watch.secret("it", &secret);
        watch.see("leak", leak.clone());
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch.judge()));
        assert!(judged.is_err(), "{}", String::from_utf8_lossy(&leak));
    }
}
