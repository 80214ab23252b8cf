//! Why a login failed, as far as a client can tell.

use std::io;

use strum::{EnumCount, EnumIter, IntoStaticStr};

/// What a client saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Failure {
    Refused,
    ServerTimeout,
    Timeout,
    ConnectionRefused,
    ConnectionReset,
    ConnectionClosed,
    LimitExceeded,
    TlsRequired,
    Tls,
    NoFileDescriptors,
    NoLocalPorts,
    Other,
}

impl Failure {
    pub(super) fn code(self) -> &'static str {
        self.into()
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Refused => {
                "the server said Authorization Violation: a wrong login, or the service gave no \
                 answer in time"
            }
            Self::ServerTimeout => "the server said Authentication Timeout",
            Self::Timeout => "nothing came within --timeout",
            Self::ConnectionRefused => "nobody listens there",
            Self::ConnectionReset => "the connection was reset",
            Self::ConnectionClosed => "the server closed the connection without a word",
            Self::LimitExceeded => "a limit on connections, of the server or of the account",
            Self::TlsRequired => "the server demands TLS: name it as tls://HOST:PORT",
            Self::Tls => "no TLS: the certificate is not trusted, or the server wants another one",
            Self::NoFileDescriptors => "this machine is out of file descriptors: raise ulimit -n",
            Self::NoLocalPorts => "this machine is out of local ports: use fewer connections",
            Self::Other => "something else",
        }
    }

    pub(super) fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::ConnectionReset,
            io::ErrorKind::AddrNotAvailable => Self::NoLocalPorts,
            io::ErrorKind::TimedOut => Self::Timeout,
            // That is how TLS says what it has against it.
            io::ErrorKind::InvalidData => Self::Tls,
            // EMFILE and ENFILE have no kind of their own.
            _ if matches!(error.raw_os_error(), Some(23 | 24)) => Self::NoFileDescriptors,
            _ => Self::Other,
        }
    }

    pub(super) fn of_words(line: &[u8]) -> Self {
        let has = |words: &str| line.windows(words.len()).any(|part| part == words.as_bytes());
        if has("Authorization Violation") {
            Self::Refused
        } else if has("Authentication Timeout") {
            Self::ServerTimeout
        } else if has("maximum ") {
            Self::LimitExceeded
        } else if has("TLS") {
            Self::TlsRequired
        } else {
            Self::Other
        }
    }
}
