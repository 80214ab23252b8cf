//! The envelope around a request and its response: NaCl boxes (`xkv1`) between the curve key of the
//! service and the one of each server, or plain text where no curve key is configured.
//!
//! A service that has a curve key never takes plain text, and the answer to a sealed request is
//! always sealed with the same pair of keys. A server would accept either; nothing but this
//! enforces it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crypto_box::SalsaBox;
use crypto_box::aead::Aead as _;
use parking_lot::RwLock;

use super::jwt::MAX_TOKEN_BYTES;
use crate::keys::{XKey, XPublicKey};

/// The header in which a server names its public curve key.
pub(crate) const SERVER_XKEY_HEADER: &str = "Nats-Server-Xkey";

const VERSION: &[u8] = b"xkv1";
const NONCE_LEN: usize = 24;

/// Servers come and go with a new curve key each; beyond this many the cache starts anew.
const MAX_PEERS: usize = 4096;

/// Why an envelope cannot be opened. No answer is sent to such a request.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// Larger than any NATS JWT.
    #[error("request is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// A curve key is configured and the request came in plain text.
    #[error("request is not encrypted, although the service has a curve key")]
    Plaintext,
    /// The header names no curve key.
    #[error("header {SERVER_XKEY_HEADER} holds no public curve key")]
    Header,
    /// The request is encrypted and the service has no curve key.
    #[error("request is encrypted, and the service has no curve key")]
    NoKey,
    /// None of the service's keys opens it.
    #[error("request cannot be decrypted with any curve key of the service")]
    Sealed,
    /// What was inside is no text.
    #[error("decrypted request is not text")]
    NotText,
}

/// The key that the service shares with one server.
#[derive(Clone)]
struct Shared(Arc<SalsaBox>);

/// Opens requests.
pub struct Envelope {
    keys: Vec<XKey>,
    peers: RwLock<HashMap<(usize, XPublicKey), Shared>>,
}

impl Envelope {
    /// An envelope with the service's curve keys, the announced one first; with none, requests
    /// must come in plain text.
    #[must_use]
    pub fn new(keys: Vec<XKey>) -> Self {
        Self { keys, peers: RwLock::default() }
    }

    /// Opens a request; `server_xkey` is the header `Nats-Server-Xkey`.
    pub fn open(&self, payload: &[u8], server_xkey: Option<&str>) -> Result<Opened, EnvelopeError> {
        if payload.len() > MAX_TOKEN_BYTES {
            return Err(EnvelopeError::TooLong);
        }
        let sealed = payload.strip_prefix(VERSION);
        if self.keys.is_empty() {
            return match (sealed, server_xkey) {
                (None, None) => text(payload.to_vec(), Sealer(None)),
                _ => Err(EnvelopeError::NoKey),
            };
        }
        let sealed = sealed.ok_or(EnvelopeError::Plaintext)?;
        let peer: XPublicKey =
            server_xkey.ok_or(EnvelopeError::Header)?.parse().map_err(|_| EnvelopeError::Header)?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(EnvelopeError::Sealed)?;
        for (index, key) in self.keys.iter().enumerate() {
            let (shared, is_new) = self.shared(index, key, peer);
            if let Ok(opened) = shared.0.decrypt(nonce.into(), sealed) {
                if is_new {
                    self.remember(index, peer, shared.clone());
                }
                return text(opened, Sealer(Some((peer, shared))));
            }
        }
        Err(EnvelopeError::Sealed)
    }

    fn shared(&self, index: usize, key: &XKey, peer: XPublicKey) -> (Shared, bool) {
        let peers = self.peers.read();
        match peers.get(&(index, peer)) {
            Some(shared) => (shared.clone(), false),
            None => (Shared(Arc::new(key.shared_with(&peer))), true),
        }
    }

    /// Only what has opened a request is kept, so that forged headers cannot fill the cache.
    fn remember(&self, index: usize, peer: XPublicKey, shared: Shared) {
        let mut peers = self.peers.write();
        if peers.len() >= MAX_PEERS {
            peers.clear();
        }
        peers.insert((index, peer), shared);
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("keys", &self.keys).finish_non_exhaustive()
    }
}

fn text(bytes: Vec<u8>, sealer: Sealer) -> Result<Opened, EnvelopeError> {
    String::from_utf8(bytes)
        .map(|token| Opened { token, sealer })
        .map_err(|_| EnvelopeError::NotText)
}

/// An opened request: a token that nobody has verified yet, and what will seal the answer. The token
/// holds the client's password: shown by no `Debug`.
pub struct Opened {
    pub(super) token: String,
    pub(super) sealer: Sealer,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("bytes", &self.token.len()).finish_non_exhaustive()
    }
}

/// Seals the answer to the request that it came with.
pub(crate) struct Sealer(Option<(XPublicKey, Shared)>);

/// The answer could not be sealed.
#[derive(Debug, thiserror::Error)]
#[error("response cannot be encrypted")]
pub(crate) struct SealError;

impl Sealer {
    /// The server's public curve key, if the request was encrypted.
    pub(super) fn peer(&self) -> Option<&XPublicKey> {
        self.0.as_ref().map(|(peer, _)| peer)
    }

    /// Seals the token, or leaves it as it is where the request was plain text.
    pub(crate) fn seal(&self, token: String) -> Result<Vec<u8>, SealError> {
        let Some((_, shared)) = &self.0 else { return Ok(token.into_bytes()) };
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError)?;
        let boxed = shared.0.encrypt((&nonce).into(), token.as_bytes()).map_err(|_| SealError)?;
        let mut sealed = Vec::with_capacity(VERSION.len() + NONCE_LEN + boxed.len());
        sealed.extend_from_slice(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&boxed);
        Ok(sealed)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({:?})", self.peer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xkey() -> XKey {
        XKey::generate().unwrap().0
    }

    fn nkeys_pair() -> (nkeys::XKey, XPublicKey) {
        let key = nkeys::XKey::new();
        let public = key.public_key().parse().unwrap();
        (key, public)
    }

    #[test]
    fn opens_and_seals_what_nkeys_seals_and_opens() {
        let service = xkey();
        let recipient = nkeys::XKey::from_public_key(service.public_key().as_str()).unwrap();
        let envelope = Envelope::new(vec![service]);
        let (server, public) = nkeys_pair();
        for _ in 0..2 {
            let sealed = server.seal(b"eyJ request", &recipient).unwrap();
            let opened = envelope.open(&sealed, Some(public.as_str())).unwrap();
            assert_eq!(opened.token, "eyJ request");
            assert_eq!(opened.sealer.peer(), Some(&public));
            let answer = opened.sealer.seal("eyJ response".into()).unwrap();
            assert_eq!(server.open(&answer, &recipient).unwrap(), b"eyJ response");
        }
        assert_eq!(envelope.peers.read().len(), 1);
    }

    #[test]
    fn the_second_generation_of_the_curve_key_opens_and_answers() {
        let old = xkey();
        let recipient = nkeys::XKey::from_public_key(old.public_key().as_str()).unwrap();
        let envelope = Envelope::new(vec![xkey(), old]);
        let (server, public) = nkeys_pair();
        let sealed = server.seal(b"eyJ", &recipient).unwrap();
        let opened = envelope.open(&sealed, Some(public.as_str())).unwrap();
        let answer = opened.sealer.seal("eyJ answer".into()).unwrap();
        assert_eq!(server.open(&answer, &recipient).unwrap(), b"eyJ answer");
    }

    #[test]
    fn takes_no_plain_text_where_a_curve_key_is_configured() {
        let envelope = Envelope::new(vec![xkey()]);
        let (_, public) = nkeys_pair();
        assert_eq!(envelope.open(b"eyJ", None).unwrap_err(), EnvelopeError::Plaintext);
        let header = Some(public.as_str());
        assert_eq!(envelope.open(b"eyJ", header).unwrap_err(), EnvelopeError::Plaintext);
    }

    #[test]
    fn refuses_what_it_cannot_open() {
        let service = xkey();
        let recipient = nkeys::XKey::from_public_key(service.public_key().as_str()).unwrap();
        let envelope = Envelope::new(vec![service]);
        let (server, public) = nkeys_pair();
        let (_, other) = nkeys_pair();
        let sealed = server.seal(b"eyJ", &recipient).unwrap();
        let open = |payload: &[u8], header| envelope.open(payload, header).unwrap_err();
        assert_eq!(open(&sealed, None), EnvelopeError::Header);
        assert_eq!(open(&sealed, Some("XNOKEY")), EnvelopeError::Header);
        assert_eq!(open(&sealed, Some(other.as_str())), EnvelopeError::Sealed);
        assert_eq!(open(b"xkv1short", Some(public.as_str())), EnvelopeError::Sealed);
        assert_eq!(open(&vec![b'x'; MAX_TOKEN_BYTES + 1], None), EnvelopeError::TooLong);
        assert!(envelope.peers.read().is_empty(), "nothing that failed is kept");
        let plain = Envelope::new(vec![]);
        let refused = plain.open(&sealed, Some(public.as_str())).unwrap_err();
        assert_eq!(refused, EnvelopeError::NoKey);
    }
}
