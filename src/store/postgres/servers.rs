//! The servers that a URL names. Where it names several, one of them takes writes, and it may become
//! another one at any time: a connection is made to whichever does now.

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::select_ok;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use crate::spelling::nearest;

/// How long the server that was right last is asked alone.
const HEAD_START: Duration = Duration::from_millis(200);

const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only')::BOOLEAN";

/// The parameter by which libpq chooses among several.
const ATTRIBUTES: &str = "target_session_attrs";

/// How to connect to each of them, in the URL's order.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    first: PgConnectOptions,
    others: Vec<PgConnectOptions>,
    right: Arc<AtomicUsize>,
}

impl Servers {
    /// Reads a URL, in which several hosts stand as libpq has them: `HOST:PORT,HOST:PORT`. No reason
    /// holds a password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (before, hosts, after) = parts(url);
        if after.split(['?', '#']).next().is_some_and(|path| path.contains('@')) {
            return Err("an `@` stands behind a `/`".to_owned());
        }
        check_parameters(after)?;
        let after = for_the_driver(after)?;
        let mut all = hosts.split(',').map(|host| parse_one(&format!("{before}{host}{after}")));
        let first = all.next().ok_or("it names no host")??;
        let others: Vec<PgConnectOptions> = all.collect::<Result<_, _>>()?;
        if !others.is_empty() && first.get_socket().is_some() {
            return Err("`host` stands for one server, beside several".to_owned());
        }
        Ok(Self { first, others, right: Arc::default() })
    }

    /// The same servers, of which `change` says how they are connected to.
    pub(super) fn with(&self, change: impl Fn(PgConnectOptions) -> PgConnectOptions) -> Self {
        let first = change(self.first.clone());
        let others = self.others.iter().cloned().map(&change).collect();
        Self { first, others, right: Arc::clone(&self.right) }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PgConnectOptions> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The one that took writes when somebody last connected.
    pub(super) fn right(&self) -> &PgConnectOptions {
        self.all().nth(self.right.load(Ordering::Relaxed)).unwrap_or(&self.first)
    }

    /// Connects to the one that takes writes. Where there is one alone, it is taken as it is.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        if self.others.is_empty() {
            return self.first.connect().await;
        }
        if let Ok(Ok(connection)) = timeout(HEAD_START, writable(self.right())).await {
            return Ok(connection);
        }
        let attempts = self.all().enumerate().map(|(number, one)| {
            Box::pin(async move { writable(one).await.map(|connection| (number, one, connection)) })
        });
        let ((number, one, connection), _) = select_ok(attempts).await?;
        if self.right.swap(number, Ordering::Relaxed) != number {
            tracing::info!(
                server = format!("{}:{}", one.get_host(), one.get_port()),
                "this database server takes writes"
            );
        }
        Ok(connection)
    }
}

async fn writable(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    let is_read_only: bool = sqlx::query_scalar(IS_READ_ONLY).fetch_one(&mut connection).await?;
    if is_read_only {
        // A connection that cannot be closed in order is closed all the same.
        let _ = connection.close().await;
        let why = "none of the servers takes writes: all that answer are standbys";
        return Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::NotConnected, why)));
    }
    Ok(connection)
}

/// What stands before the hosts, the hosts, and what stands behind them.
fn parts(url: &str) -> (&str, &str, &str) {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let authority = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    let hosts = url[begin..authority].rfind('@').map_or(begin, |at| begin + at + 1);
    (&url[..hosts], &url[hosts..authority], &url[authority..])
}

/// Parameters that mean something here. The driver leaves out others with a word in the log, and a
/// misspelt `sslmode` would mean a connection without TLS.
const PARAMETERS: [&str; 14] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    ATTRIBUTES,
    "user",
];

/// Other names of some of them.
const ALIASES: [&str; 5] = ["ssl-mode", "ssl-root-cert", "ssl-ca", "ssl-cert", "ssl-key"];

/// Parameters of libpq that others write for it and that have no meaning here: `[database] timeout` bounds all
/// waits, and nothing of them is a matter of safety.
const WITHOUT_EFFECT: [&str; 9] = [
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "tcp_user_timeout",
];

/// Refuses what would be left out without a word.
fn check_parameters(after: &str) -> Result<(), String> {
    let Some((_, query)) = after.split_once('?') else { return Ok(()) };
    let query = query.split('#').next().unwrap_or_default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let key = pair.split('=').next().unwrap_or_default();
        let plain =
            key.replace("%5B", "[").replace("%5b", "[").replace("%5D", "]").replace("%5d", "]");
        let is_option = plain.starts_with("options[") && plain.ends_with(']');
        let is_known = PARAMETERS.contains(&key) || ALIASES.contains(&key);
        if is_option || is_known || WITHOUT_EFFECT.contains(&key) {
            continue;
        }
        let known = || format!("the parameters are {}", PARAMETERS.join(", "));
        // Behind a `?` within a password the rest of it would stand here.
        if query.contains('@') {
            return Err(format!("a parameter that is not known; {}", known()));
        }
        let remedy = match nearest(key, PARAMETERS) {
            Some(near) => format!("did you mean {near}?"),
            None => known(),
        };
        return Err(format!("the parameter {key} is not known; {remedy}"));
    }
    Ok(())
}

/// Takes off what says the same as is done here, and what the driver would warn of.
fn for_the_driver(after: &str) -> Result<String, String> {
    let Some((path, query)) = after.split_once('?') else { return Ok(after.to_owned()) };
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            (ATTRIBUTES, "read-write" | "primary") => {}
            (ATTRIBUTES, _) => {
                return Err(format!("{ATTRIBUTES} can be read-write or primary"));
            }
            (key, _) if WITHOUT_EFFECT.contains(&key) => {}
            _ => kept.push(pair),
        }
    }
    let mark = if kept.is_empty() { "" } else { "?" };
    Ok(format!("{path}{mark}{}", kept.join("&")))
}

fn parse_one(url: &str) -> Result<PgConnectOptions, String> {
    let connect = PgConnectOptions::from_str(url).map_err(|error| match error {
        sqlx::Error::Configuration(reason) => reason.to_string(),
        other => other.to_string(),
    })?;
    // An IPv6 address, which has its brackets in URLs alone.
    let host = connect.get_host().to_owned();
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => Ok(connect.host(address)),
        None => Ok(connect),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<String> {
        let servers = Servers::parse(url).unwrap();
        servers.all().map(|one| format!("{} {}", one.get_host(), one.get_port())).collect()
    }

    /// All that the driver reads, or the like of libpq would be refused.
    #[test]
    fn parameters_of_the_driver_are_taken() {
        let url = "postgres://u:p@h/d?ssl-mode=prefer&ssl-ca=a&ssl-root-cert=a&ssl-cert=a&ssl-key=a\
                   &sslmode=prefer&sslrootcert=a&sslcert=a&sslkey=a&statement-cache-capacity=9\
                   &hostaddr=127.0.0.1&host=h&port=1&dbname=e&user=v&password=p%40s&application_name=x\
                   &options=-c%20a=b&options[c]=d&options%5Be%5D=f&target_session_attrs=primary\
                   &connect_timeout=5&keepalives=1&";
        let servers = Servers::parse(url).unwrap();
        let one = servers.right();
        assert_eq!((one.get_database(), one.get_port()), (Some("e"), 1));
        assert_eq!(one.get_options(), Some("-c a=b -c c=d -c e=f"));
        let left = for_the_driver("/d?connect_timeout=5&sslmode=prefer&keepalives").unwrap();
        assert_eq!(left, "/d?sslmode=prefer");
    }

    #[test]
    fn hosts_are_those_of_the_url() {
        assert_eq!(hosts("postgres://u:p@[::1]:5433/d"), ["::1 5433"]);
        assert_eq!(hosts("postgres://u:p@db.example.com/d"), ["db.example.com 5432"]);
        let several =
            "postgres://u:p%40,x@a:1,b,[::1]:3/d?target_session_attrs=primary&sslmode=prefer";
        assert_eq!(hosts(several), ["a 1", "b 5432", "::1 3"]);
        let servers = Servers::parse(several).unwrap();
        assert!(servers.all().all(|one| one.get_database() == Some("d")));
        assert!(servers.all().all(|one| one.get_username() == "u"));
        for (url, words) in [
            ("postgres://u:s3cret@h:port/d", "port"),
            ("postgres://u:s3@cret/3@h:1/d", "an `@` stands behind a `/`"),
            ("postgres://u:s3@12/cret@h/d", "an `@` stands behind a `/`"),
            ("postgres://u:s3cret@h,g:port/d", "port"),
            ("postgres://u:s3cret@h,g/d?target_session_attrs=any", "read-write or primary"),
            ("postgres://u:s3cret@h,g/d?host=/run", "stands for one"),
            (
                "postgres://u:s3cret@h/d?sslmod=verify-full",
                "sslmod is not known; did you mean sslmode?",
            ),
            (
                "postgres://u:s3cret@h/d?sslmode=require&foo=bar",
                "foo is not known; the parameters are",
            ),
            ("postgres://u:s3cret@h/d?SSLMODE=require", "SSLMODE is not known"),
            ("postgres://u:s3cret@h/d?options[x=1", "options[x is not known"),
            ("postgres://u:p?s3cret@h/d", "a parameter that is not known"),
            ("postgres://u:p?s3cret=x@h/d", "a parameter that is not known"),
        ] {
            let reason = Servers::parse(url).unwrap_err();
            assert!(reason.contains(words) && !reason.contains("s3cret"), "{reason}");
        }
    }
}
