//! An issuer of JWTs: keys made at run time, and a real HTTP server with a discovery document and a
//! key set, that is asked about tokens too, and that is slow, fails and lies when it is told to. It keeps count
//! of what it is asked.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{eventually, ports};

/// A key that signs JWTs.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) id: String,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Value,
}

impl Signer {
    pub(crate) fn new(id: &str, algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Algorithm::ES384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Algorithm::EdDSA => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            _ => {
                let size = rcgen::RsaKeySize::_2048;
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)
            }
        };
        let pair = pair.expect("a key");
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        let key = key.expect("a key that signs");
        let mut public = if algorithm == Algorithm::EdDSA {
            let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
            json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x })
        } else {
            let public = Jwk::from_encoding_key(&key, algorithm).expect("its public half");
            serde_json::to_value(public).expect("json")
        };
        public["kid"] = json!(id);
        public["use"] = json!("sig");
        Self { id: id.to_owned(), algorithm, key, public }
    }

    /// The public half, as in a key set.
    pub(crate) fn jwk(&self) -> Value {
        self.public.clone()
    }

    /// A JWT with a sound header.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": format!("{:?}", self.algorithm), "kid": self.id })
    }

    /// A JWT with a header of any kind, whose signature is right.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm);
        format!("{message}.{}", signature.expect("a signature"))
    }
}

/// The first two parts of a JWT.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A JWT signed with a shared secret.
pub(crate) fn sign_with_secret(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = unsigned(header, claims);
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.expect("a signature"))
}

/// Seconds since 1970, so many from now.
pub(crate) fn seconds_from_now(seconds: i64) -> i64 {
    Timestamp::now().as_second() + seconds
}

/// How it answers questions for its keys.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Keys(Vec<Value>),
    /// The keys, after this time.
    Slow(Duration, Vec<Value>),
    /// A status and a body.
    Status(u16, Vec<u8>),
    /// The way to another address.
    Redirect(String),
    /// A body that never ends by itself.
    Endless,
    /// Nothing.
    Silence,
}

#[derive(Debug)]
struct Script {
    answer: Answer,
    /// What the discovery document says instead of the truth.
    discovery: Option<Value>,
    /// Whoever shows another token than this gets a 403.
    bearer: Option<String>,
    asked: Vec<String>,
    tokens: Tokens,
}

/// What it says of tokens.
#[derive(Debug, Default)]
struct Tokens {
    /// What is said of each; the others are not active.
    known: HashMap<String, Value>,
    /// What is said instead.
    instead: Option<(u16, Vec<u8>)>,
    /// How long it takes.
    takes: Duration,
    /// Who has to ask.
    login: Option<String>,
    /// The tokens that it was asked about, and those under way: now, and at most.
    asked: Vec<String>,
    under_way: (usize, usize),
}

/// The server, which ends with this value.
#[derive(Debug)]
pub(crate) struct Issuer {
    port: u16,
    script: Arc<Mutex<Script>>,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Issuer {
    /// Serves these keys.
    pub(crate) fn start(signers: &[&Signer]) -> Self {
        let keys = signers.iter().map(|signer| signer.jwk()).collect();
        let answer = Answer::Keys(keys);
        let script = Script {
            answer,
            discovery: None,
            bearer: None,
            asked: Vec::new(),
            tokens: Tokens::default(),
        };
        let mut issuer =
            Self { port: ports::free(), script: Arc::new(Mutex::new(script)), server: None };
        issuer.listen();
        issuer
    }

    /// Listens again after [`Self::go_down`].
    pub(crate) fn listen(&mut self) {
        let listener = eventually("the issuer's port", || {
            TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, script, url) = (Arc::clone(&stop), Arc::clone(&self.script), self.url());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                let (script, stopped, url) = (Arc::clone(&script), stopped.clone(), url.clone());
                if let Ok(stream) = stream {
                    // A client that has gone is its own affair.
                    std::thread::spawn(move || drop(serve(stream, &script, &stopped, &url)));
                }
            }
        });
        self.server = Some(Server { stop, thread });
    }

    /// Refuses connections.
    pub(crate) fn go_down(&mut self) {
        if let Some(Server { stop, thread }) = self.server.take() {
            stop.store(true, SeqCst);
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
            thread.join().expect("the issuer's thread");
        }
    }

    /// Its `iss`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/realms/shop", self.port)
    }

    pub(crate) fn jwks_url(&self) -> String {
        format!("{}/certs", self.url())
    }

    pub(crate) fn serve(&self, signers: &[&Signer]) {
        self.answer(Answer::Keys(signers.iter().map(|signer| signer.jwk()).collect()));
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.script.lock().expect("no panic").answer = answer;
    }

    pub(crate) fn lie(&self, discovery: Value) {
        self.script.lock().expect("no panic").discovery = Some(discovery);
    }

    /// Gives its keys to those alone who show this token.
    pub(crate) fn only_for(&self, bearer: &str) {
        self.script.lock().expect("no panic").bearer = Some(format!("Bearer {bearer}"));
    }

    /// Where it is asked about tokens.
    pub(crate) fn introspection_url(&self) -> String {
        format!("{}/introspect", self.url())
    }

    /// Says this of a token from now on.
    pub(crate) fn says_of(&self, token: &str, said: Value) {
        let known = &mut self.script.lock().expect("no panic").tokens.known;
        known.insert(token.to_owned(), said);
    }

    /// Says this of whatever token, or the truth again.
    pub(crate) fn says_instead(&self, said: Option<(u16, &str)>) {
        let said = said.map(|(status, body)| (status, body.as_bytes().to_vec()));
        self.script.lock().expect("no panic").tokens.instead = said;
    }

    /// Takes so long to say something of a token.
    pub(crate) fn takes(&self, time: Duration) {
        self.script.lock().expect("no panic").tokens.takes = time;
    }

    /// Answers questions about tokens to those alone who come with this `Authorization`.
    pub(crate) fn answers_only(&self, login: &str) {
        self.script.lock().expect("no panic").tokens.login = Some(login.to_owned());
    }

    /// How often it was asked about a token.
    pub(crate) fn questions(&self, token: &str) -> usize {
        let asked = &self.script.lock().expect("no panic").tokens.asked;
        asked.iter().filter(|it| *it == token).count()
    }

    /// How many questions about tokens were under way at once.
    pub(crate) fn most_questions(&self) -> usize {
        self.script.lock().expect("no panic").tokens.under_way.1
    }

    /// Where it takes questions for other hosts: it answers them itself.
    pub(crate) fn as_proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How often its keys were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.asked().iter().filter(|path| path.ends_with("/certs")).count()
    }

    /// All paths that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.script.lock().expect("no panic").asked.clone()
    }

    /// Claims of a user that hold for five minutes.
    pub(crate) fn claims(&self, user: &str) -> Value {
        json!({
            "iss": self.url(), "aud": ["account", "nats"], "sub": user, "typ": "Bearer",
            "iat": seconds_from_now(0), "exp": seconds_from_now(300),
            "realm_access": { "roles": ["offline_access", "seller"] },
        })
    }

    /// A table of the configuration, which these lines end.
    pub(crate) fn table(&self, name: &str, more: &str) -> String {
        format!("\n[issuers.{name}]\nissuer = \"{}\"\naudience = [\"nats\"]\n{more}\n", self.url())
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.go_down();
    }
}

fn serve(
    mut stream: TcpStream,
    script: &Mutex<Script>,
    stop: &AtomicBool,
    url: &str,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut shown, mut length) = (None, 0);
    for line in reader.by_ref().lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => shown = Some(value.to_owned()),
            "content-length" => length = value.parse().expect("a number"),
            _ => {}
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    if path.ends_with("/introspect") {
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8(body).expect("a form");
        return say_of_token(&mut stream, script, shown, &body);
    }
    let (answer, discovery) = {
        let mut script = script.lock().expect("no panic");
        script.asked.push(path.clone());
        if script.bearer.is_some() && script.bearer != shown {
            (Answer::Status(403, b"no".to_vec()), script.discovery.clone())
        } else {
            (script.answer.clone(), script.discovery.clone())
        }
    };
    if path.ends_with("/.well-known/openid-configuration") {
        let sound = json!({ "issuer": url, "jwks_uri": format!("{url}/certs") });
        let document = discovery.unwrap_or(sound).to_string();
        return respond(&mut stream, 200, "", document.as_bytes());
    }
    let set = |keys: Vec<Value>| json!({ "keys": keys }).to_string();
    match answer {
        Answer::Keys(keys) => respond(&mut stream, 200, "", set(keys).as_bytes()),
        Answer::Slow(time, keys) => {
            std::thread::sleep(time);
            respond(&mut stream, 200, "", set(keys).as_bytes())
        }
        Answer::Status(status, body) => respond(&mut stream, status, "", &body),
        Answer::Redirect(to) => {
            respond(&mut stream, 302, &format!("Location: {to}\r\n"), b"elsewhere")
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"keys\":[")?;
            while !stop.load(SeqCst) {
                stream.write_all(&[b' '; 65_536])?;
            }
            Ok(())
        }
        Answer::Silence => {
            while !stop.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
    }
}

fn say_of_token(
    stream: &mut TcpStream,
    script: &Mutex<Script>,
    shown: Option<String>,
    form: &str,
) -> std::io::Result<()> {
    let fields: HashMap<_, _> = form.split('&').filter_map(|field| field.split_once('=')).collect();
    let (takes, status, body) = {
        let tokens = &mut script.lock().expect("no panic").tokens;
        let token = fields["token"].to_owned();
        let (now, most) = (tokens.under_way.0 + 1, tokens.under_way.1);
        tokens.under_way = (now, most.max(now));
        let is_known = tokens.login.is_none() || tokens.login == shown;
        let (status, body) = match (is_known, &tokens.instead, tokens.known.get(&token)) {
            (false, ..) => (401, json!({ "error": "invalid_client" }).to_string().into_bytes()),
            (_, Some(instead), _) => instead.clone(),
            (_, _, Some(said)) => (200, said.to_string().into_bytes()),
            (..) => (200, json!({ "active": false }).to_string().into_bytes()),
        };
        tokens.asked.push(token);
        (tokens.takes, status, body)
    };
    std::thread::sleep(takes);
    script.lock().expect("no panic").tokens.under_way.0 -= 1;
    respond(stream, status, "", &body)
}

fn respond(stream: &mut TcpStream, status: u16, more: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nConnection: close\r\n{more}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
