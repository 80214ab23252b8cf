//! The authorization request, verified in full: whoever holds a [`VerifiedRequest`] need not check
//! anything about it again.

use std::time::Duration;

use super::claims::{AuthorizationRequestBody, ClientInfo};
use super::credentials::Credentials;
use super::envelope::{Opened, Sealer};
use super::jwt::{JwtError, Parsed};
use super::replay::SpentKeys;
use crate::causes::quoted;
use crate::clock::UnixSeconds;
use crate::keys::{KeyError, ServerId, UserNkey};

/// The audience of every authorization request.
pub(crate) const REQUEST_AUDIENCE: &str = "nats-authorization-request";

/// How far the clocks of a server and of the service may lie apart, in seconds. An expired request
/// is harmless in itself, since its answer is bound to a key that its server has thrown away.
pub(crate) const CLOCK_LEEWAY: UnixSeconds = 5;

/// No server waits for longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Why a request is not to be trusted. No answer is sent to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The token is malformed or its signature is wrong.
    #[error("request token: {0}")]
    Token(#[from] JwtError),
    /// Another key than the server's own has signed it.
    #[error("request is issued by {issuer}, but names the server {named}")]
    Issuer {
        /// Who signed.
        issuer: ServerId,
        /// Who is named.
        named: String,
    },
    /// It is meant for something else.
    #[error(
        "request has the audience {} instead of `{REQUEST_AUDIENCE}`",
        .0.as_deref().map_or_else(|| "none".to_owned(), quoted)
    )]
    Audience(Option<String>),
    /// It has ended, or never ends.
    #[error(
        "request {} and it is {now} now; if this repeats, the clocks of nats-server and of this machine \
         differ",
        expires.map_or("never expires".to_owned(), |at| format!("expired at {at}"))
    )]
    Expired {
        /// Its end.
        expires: Option<UnixSeconds>,
        /// The time of the check.
        now: UnixSeconds,
    },
    /// It is not to be used yet.
    #[error("request is not valid before {not_before} and it is {now} now")]
    Early {
        /// Its beginning.
        not_before: UnixSeconds,
        /// The time of the check.
        now: UnixSeconds,
    },
    /// The curve key that it was sealed with is not the one that its server has signed.
    #[error("request was sealed with another curve key than the one its server has signed")]
    Xkey,
    /// The key of the connection is none.
    #[error("request names no user nkey: {0}")]
    UserNkey(#[source] KeyError),
    /// A request about the same connection has been taken before.
    #[error("request is a copy: one about the connection key {0} has been taken before")]
    Replayed(UserNkey),
}

/// A request that a nats-server really made, for itself, now.
#[derive(Debug)]
pub(crate) struct VerifiedRequest {
    server: ServerId,
    server_name: String,
    user_nkey: UserNkey,
    client: ClientInfo,
    credentials: Credentials,
    addressee: String,
    patience: Duration,
    lang: String,
    version: String,
}

/// What a decision may take of the time for which a server waits.
pub(crate) fn time_to_decide(patience: Duration) -> Duration {
    patience.max(Duration::from_secs(1)) * 9 / 10
}

impl VerifiedRequest {
    /// Verifies an opened request: signature, issuer = server id, audience, expiry, that the curve
    /// key of the envelope is the one that the server has signed, and that it is the first about
    /// its connection.
    pub(crate) fn verify(
        opened: Opened,
        spent: &SpentKeys,
        now: UnixSeconds,
    ) -> Result<(Self, Sealer), RequestError> {
        let Opened { token, sealer } = opened;
        let (claims, issuer) =
            Parsed::<AuthorizationRequestBody>::parse(&token)?.verify::<ServerId>()?;
        let mut body = claims.body;
        if issuer.as_str() != body.server.id {
            return Err(RequestError::Issuer { issuer, named: body.server.id });
        }
        if claims.audience.as_deref() != Some(REQUEST_AUDIENCE) {
            return Err(RequestError::Audience(claims.audience));
        }
        let end = claims.expires.map(|expires| expires.saturating_add(CLOCK_LEEWAY));
        let Some(end) = end.filter(|end| *end >= now) else {
            return Err(RequestError::Expired { expires: claims.expires, now });
        };
        if let Some(not_before) = claims.not_before
            && not_before > now.saturating_add(CLOCK_LEEWAY)
        {
            return Err(RequestError::Early { not_before, now });
        }
        if sealer.peer().map_or("", |peer| peer.as_str()) != body.server.xkey {
            return Err(RequestError::Xkey);
        }
        let waits = claims.expires.unwrap_or_default().saturating_sub(claims.issued_at);
        let user_nkey = body.user_nkey.parse().map_err(RequestError::UserNkey)?;
        if !spent.spend(&user_nkey, end, now) {
            return Err(RequestError::Replayed(user_nkey));
        }
        let credentials = Credentials::from_request(&mut body);
        let request = Self {
            server: issuer,
            server_name: body.server.name,
            user_nkey,
            client: body.client_info,
            credentials,
            addressee: claims.subject,
            lang: std::mem::take(&mut body.connect_opts.lang),
            version: std::mem::take(&mut body.connect_opts.version),
            patience: Duration::from_secs(u64::try_from(waits).unwrap_or_default()).min(LONGEST),
        };
        Ok((request, sealer))
    }

    /// The server that asks.
    pub(crate) fn server(&self) -> &ServerId {
        &self.server
    }

    /// That server's name.
    pub(crate) fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Whose answer the server expects: in config mode the `issuer` of its `auth_callout` block, in
    /// operator mode the callout account.
    pub(crate) fn addressee(&self) -> &str {
        &self.addressee
    }

    /// For how long the server waits for an answer (`authorization.timeout`), to a second: it says when
    /// it asked and when it gives up, both in whole seconds.
    #[must_use]
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// What the client's library calls its language.
    #[must_use]
    pub(crate) fn lang(&self) -> &str {
        &self.lang
    }

    /// The client's library, by its language and version.
    #[must_use]
    pub(crate) fn library(&self) -> String {
        format!("{} {}", self.lang, self.version).trim().to_owned()
    }

    /// How much of that is there for a decision: a tenth is for the ways there and back.
    #[must_use]
    pub(crate) fn time_to_decide(&self) -> Duration {
        time_to_decide(self.patience)
    }

    /// The key that the server made for this one connection.
    pub(crate) fn user_nkey(&self) -> &UserNkey {
        &self.user_nkey
    }

    /// What the server knows of the client.
    pub(crate) fn client(&self) -> &ClientInfo {
        &self.client
    }

    /// What the client offers.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyKind, SigningKey, XKey};
    use crate::protocol::claims::{ConnectOptions, ServerInfo};
    use crate::protocol::envelope::Envelope;
    use crate::protocol::jwt::Claims;

    const NOW: UnixSeconds = 1_800_000_000;

    fn key(kind: KeyKind) -> SigningKey {
        SigningKey::generate(kind).unwrap().0
    }

    fn claims(server: &SigningKey) -> Claims<AuthorizationRequestBody> {
        Claims {
            audience: Some(REQUEST_AUDIENCE.to_owned()),
            expires: Some(NOW + 2),
            issued_at: NOW,
            subject: key(KeyKind::Account).public_key().to_owned(),
            body: AuthorizationRequestBody {
                server: ServerInfo { id: server.public_key().to_owned(), ..ServerInfo::default() },
                user_nkey: key(KeyKind::User).public_key().to_owned(),
                connect_opts: ConnectOptions { user: "alice".to_owned(), ..Default::default() },
                ..AuthorizationRequestBody::default()
            },
            name: None,
            not_before: None,
        }
    }

    fn verify_plain(token: &str, now: UnixSeconds) -> Result<VerifiedRequest, RequestError> {
        let opened = Envelope::new(Vec::new()).open(token.as_bytes(), None).unwrap();
        VerifiedRequest::verify(opened, &SpentKeys::default(), now).map(|(request, _)| request)
    }

    #[test]
    fn takes_what_a_server_signed_for_itself() {
        let server = key(KeyKind::Server);
        let token = claims(&server).encode_now(&server).unwrap();
        let request = verify_plain(&token, NOW).unwrap();
        assert_eq!(request.server().as_str(), server.public_key());
        assert!(
            matches!(request.credentials(), Credentials::Password { user, .. } if user == "alice")
        );
        assert_eq!(request.patience(), Duration::from_secs(2));
    }

    #[test]
    fn refuses_another_issuer_than_the_server_it_names() {
        let (server, other) = (key(KeyKind::Server), key(KeyKind::Server));
        let token = claims(&server).encode_now(&other).unwrap();
        assert!(matches!(verify_plain(&token, NOW), Err(RequestError::Issuer { .. })));
        let account = key(KeyKind::Account);
        let token = claims(&server).encode_now(&account).unwrap();
        assert!(matches!(verify_plain(&token, NOW), Err(RequestError::Token(JwtError::Issuer(_)))));
    }

    #[test]
    fn refuses_an_altered_token() {
        let server = key(KeyKind::Server);
        let token = claims(&server).encode_now(&server).unwrap();
        let other = claims(&server).encode_now(&server).unwrap();
        let (signed, _) = token.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        let swapped = format!("{signed}.{signature}");
        let refused = verify_plain(&swapped, NOW);
        assert!(matches!(refused, Err(RequestError::Token(JwtError::Signature))));
    }

    #[test]
    fn refuses_another_audience() {
        let server = key(KeyKind::Server);
        for audience in [None, Some("nats-authorization-response".to_owned())] {
            let token = Claims { audience, ..claims(&server) }.encode_now(&server).unwrap();
            assert!(matches!(verify_plain(&token, NOW), Err(RequestError::Audience(_))));
        }
    }

    #[test]
    fn refuses_what_has_expired_or_never_does() {
        let server = key(KeyKind::Server);
        let token = claims(&server).encode_now(&server).unwrap();
        assert!(verify_plain(&token, NOW + 2 + CLOCK_LEEWAY).is_ok());
        let refused = verify_plain(&token, NOW + 3 + CLOCK_LEEWAY);
        assert!(matches!(refused, Err(RequestError::Expired { .. })));
        let token = Claims { expires: None, ..claims(&server) }.encode_now(&server).unwrap();
        assert!(matches!(verify_plain(&token, NOW), Err(RequestError::Expired { .. })));
    }

    #[test]
    fn refuses_a_copy_until_it_has_expired() {
        let server = key(KeyKind::Server);
        let token = claims(&server).encode_now(&server).unwrap();
        let other = claims(&server).encode_now(&server).unwrap();
        let spent = SpentKeys::default();
        let verify = |token: &str, now| {
            let opened = Envelope::new(Vec::new()).open(token.as_bytes(), None).unwrap();
            VerifiedRequest::verify(opened, &spent, now).map(|_| ())
        };
        assert!(matches!(verify(&token, NOW + 60), Err(RequestError::Expired { .. })));
        assert!(verify(&token, NOW).is_ok(), "what was not taken has spent nothing");
        let last = NOW + 2 + CLOCK_LEEWAY;
        for now in [NOW, last] {
            assert!(matches!(verify(&token, now), Err(RequestError::Replayed(_))));
        }
        assert!(matches!(verify(&token, last + 1), Err(RequestError::Expired { .. })));
        assert!(verify(&other, NOW).is_ok());
    }

    #[test]
    fn refuses_a_connection_key_that_is_none() {
        let server = key(KeyKind::Server);
        for bad in ["", "UNOKEY", server.public_key()] {
            let mut claims = claims(&server);
            claims.body.user_nkey = bad.to_owned();
            let token = claims.encode_now(&server).unwrap();
            assert!(matches!(verify_plain(&token, NOW), Err(RequestError::UserNkey(_))), "{bad}");
        }
    }

    #[test]
    fn the_curve_key_of_the_envelope_is_the_one_that_was_signed() {
        let server = key(KeyKind::Server);
        let service = XKey::generate().unwrap().0;
        let recipient = nkeys::XKey::from_public_key(service.public_key().as_str()).unwrap();
        let envelope = Envelope::new(vec![service]);
        let (signed, other) = (nkeys::XKey::new(), nkeys::XKey::new());
        let mut claims = claims(&server);
        claims.body.server.xkey = signed.public_key();
        let token = claims.encode_now(&server).unwrap();

        let verify = |sealed_with: &nkeys::XKey, token: &str| {
            let sealed = sealed_with.seal(token.as_bytes(), &recipient).unwrap();
            let opened = envelope.open(&sealed, Some(&sealed_with.public_key())).unwrap();
            VerifiedRequest::verify(opened, &SpentKeys::default(), NOW)
        };
        assert!(verify(&signed, &token).is_ok());
        assert!(matches!(verify(&other, &token), Err(RequestError::Xkey)));
        claims.body.server.xkey = String::new();
        let unsigned = claims.encode_now(&server).unwrap();
        assert!(matches!(verify(&signed, &unsigned), Err(RequestError::Xkey)));
        assert!(matches!(verify_plain(&token, NOW), Err(RequestError::Xkey)));
    }
}
