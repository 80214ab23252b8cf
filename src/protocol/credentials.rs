//! What a client offers as proof of who it is, sorted out of CONNECT once.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::claims::{AuthorizationRequestBody, ClientTls};

/// What an opaque token begins with, and nothing else that a client sends.
pub(crate) const TOKEN_PREFIX: &str = "nct_";

/// How many bytes of a CONNECT a server reads, unless its `max_control_line` says otherwise.
pub(crate) const CONTROL_LINE: usize = 4_096;

/// About how long a token may be where a server reads so many bytes of a CONNECT: libraries write some hundreds
/// beside it.
pub(crate) fn fitting(line: usize) -> usize {
    line.saturating_sub(500) / 100 * 100
}

/// A password or token as the client sent it: never shown, wiped when dropped, compared in constant
/// time.
#[derive(Clone, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes what the client sent.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Whether it is this text, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// The text itself, for a verifier alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// What the client offers, in the order in which the kinds are looked for: of a password and a
/// certificate, say, the password alone is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user name and a password, or one of the user's tokens as the password.
    Password {
        /// The login name.
        user: String,
        /// The password or token.
        password: Secret,
    },
    /// A token.
    Token {
        /// The user whose it has to be, where the client names one.
        user: Option<String>,
        /// The token.
        token: Secret,
        /// Whether it stood in the place of a password, without a user name, so that it may be one.
        is_password: bool,
    },
    /// An nkey and its signature over the server's nonce.
    Nkey {
        /// The public user nkey.
        nkey: String,
        /// The signature, base64url.
        signature: String,
        /// What was to be signed.
        nonce: String,
    },
    /// Certificate chains that the server has verified.
    Certificate(ClientTls),
    /// Nothing.
    None,
}

impl Credentials {
    /// A token, of this user where one is named.
    #[must_use]
    pub(crate) fn token(user: Option<String>, token: Secret) -> Self {
        Self::trimmed(user, token, false)
    }

    /// No token ends with white space; what a file is read with often does.
    fn trimmed(user: Option<String>, Secret(mut token): Secret, is_password: bool) -> Self {
        let end = token.trim_end().len();
        token.truncate(end);
        Self::Token { user, token: Secret(token), is_password }
    }

    /// What it is in a word, for the log.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Password { .. } => "password",
            Self::Token { .. } => "token",
            Self::Nkey { .. } => "nkey",
            Self::Certificate(_) => "certificate",
            Self::None => "none",
        }
    }

    /// Sorts out what the client sent. A user name with a token and no password is a token that has to be
    /// that user's: `UserInfo("alice", "")` with `Token(t)` in Go, `{ user, token }` in JavaScript.
    #[must_use]
    pub(crate) fn from_request(request: &mut AuthorizationRequestBody) -> Self {
        let sent = &mut request.connect_opts;
        let password = Secret::new(std::mem::take(&mut sent.password));
        let token = Secret::new(std::mem::take(&mut sent.auth_token));
        let is_empty = |secret: &Secret| secret.expose().is_empty();
        let nkey = std::mem::take(&mut sent.nkey);
        let signature = std::mem::take(&mut sent.signature);
        // A leaf node whose remote has a token sends it as the user as well (nats-server,
        // `server/leafnode.go`).
        let token_twice = is_empty(&password) && sent.user == token.expose();
        let user = (!sent.user.is_empty() && !token_twice).then(|| sent.user.clone());
        if let Some(user) = user {
            if is_empty(&password) && !is_empty(&token) {
                Self::token(Some(user), token)
            } else {
                Self::Password { user, password }
            }
        } else if !is_empty(&token) {
            Self::token(None, token)
        } else if !is_empty(&password) {
            Self::trimmed(None, password, true)
        } else if !nkey.is_empty() {
            Self::Nkey { nkey, signature, nonce: request.client_info.nonce.clone() }
        } else {
            match &request.client_tls {
                Some(tls) if !tls.verified_chains.is_empty() => Self::Certificate(tls.clone()),
                _ => Self::None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::claims::ConnectOptions;

    fn sorted_out(user: &str, password: &str, auth_token: &str) -> Credentials {
        Credentials::from_request(&mut AuthorizationRequestBody {
            connect_opts: ConnectOptions {
                user: user.to_owned(),
                password: password.to_owned(),
                auth_token: auth_token.to_owned(),
                ..ConnectOptions::default()
            },
            ..AuthorizationRequestBody::default()
        })
    }

    #[test]
    fn a_user_comes_first_unless_it_is_the_token() {
        let token_of = |user: Option<&str>, text: &str, is_password| Credentials::Token {
            user: user.map(str::to_owned),
            token: Secret::new(text.to_owned()),
            is_password,
        };
        let token = |text: &str| token_of(None, text, false);
        let lone_password = |text: &str| token_of(None, text, true);
        let password = |user: &str, password: &str| Credentials::Password {
            user: user.to_owned(),
            password: Secret::new(password.to_owned()),
        };
        for (sent, is) in [
            (("alice", "secret", ""), password("alice", "secret")),
            (("alice", "secret", "token"), password("alice", "secret")),
            (("alice", "", "token"), token_of(Some("alice"), "token", false)),
            (("alice", "", "token\n"), token_of(Some("alice"), "token", false)),
            (("alice", "", ""), password("alice", "")),
            (("token", "", "token"), token("token")),
            (("token", "secret", "token"), password("token", "secret")),
            (("", "", "token"), token("token")),
            (("", "", "token\r\n"), token("token")),
            (("", "token ", ""), lone_password("token")),
            (("alice", "secret\n", ""), password("alice", "secret\n")),
            (("", "secret", "token"), token("token")),
            (("", "token", ""), lone_password("token")),
            (("", "", ""), Credentials::None),
        ] {
            assert_eq!(sorted_out(sent.0, sent.1, sent.2), is, "{sent:?}");
        }
    }
}
