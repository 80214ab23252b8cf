//! Password hashes: verifies every scheme that a stored hash may have, and makes new ones with the
//! current one. All of it is slow on purpose, so nothing but the [pool](super::hash_pool) calls it
//! while logins are served.

mod memory;
mod pace;
mod stored;

use std::hint::black_box;

use base64::Engine;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub(crate) use self::memory::Memory;
pub(crate) use self::pace::Pace;
pub(crate) use self::stored::Unusable;
use self::stored::{B64, Stored};
use super::random::{self, NoRandomness};
use crate::store::PasswordHash;

const CURRENT_MEMORY: u32 = 19_456;
const CURRENT_PASSES: u32 = 2;
const CURRENT_LANES: u32 = 1;
const SALT_LEN: usize = 16;
const OUTPUT_LEN: usize = 32;

/// bcrypt takes the first 72 bytes of the password and its terminating zero.
const BCRYPT_KEY_LEN: usize = 72;

/// Whether a password is the one that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Match,
    /// It is not.
    Mismatch,
    /// The stored hash cannot be verified against, whatever the password: a fault of the row.
    Unusable(Unusable),
}

/// Why hashing could not be carried out: a fault of this machine, of neither password nor row.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct HashingError(#[from] NoHash);

/// What a [`HashingError`] says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHash {
    /// No salt.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The memory that the scheme needs was not to be had, or the scheme failed otherwise.
    #[error("the password could not be hashed: {0}")]
    Argon2(#[source] argon2::Error),
    /// The threads could not be started.
    #[error("the hashing threads could not be started")]
    Threads(#[source] std::io::Error),
}

/// The hash to store of a password, as the commands make it: argon2id with 19 MiB of memory. It computes for a
/// while: in asynchronous code, call it by `tokio::task::spawn_blocking`.
pub fn hash(password: &str) -> Result<PasswordHash, HashingError> {
    hash_in(&mut Memory::default(), password)
}

/// Compares a password with a stored hash, at the cost that the hash asks for. A hash that is
/// [`Verdict::Unusable`] costs nothing.
pub(crate) fn verify_in(
    memory: &mut Memory,
    password: &str,
    hash: &PasswordHash,
) -> Result<Verdict, HashingError> {
    match Stored::parse(hash.expose()) {
        Ok(stored) => {
            let matches = stored_matches(memory, password, &stored)?;
            Ok(if matches { Verdict::Match } else { Verdict::Mismatch })
        }
        Err(reason) => Ok(Verdict::Unusable(reason)),
    }
}

/// Hashes a password with the current scheme and parameters, and a new salt.
pub(crate) fn hash_in(memory: &mut Memory, password: &str) -> Result<PasswordHash, HashingError> {
    let mut salt = [0; SALT_LEN];
    random::fill(&mut salt).map_err(NoHash::from)?;
    let mut output = [0; OUTPUT_LEN];
    let params =
        argon2::Params::new(CURRENT_MEMORY, CURRENT_PASSES, CURRENT_LANES, Some(OUTPUT_LEN))
            .map_err(NoHash::Argon2)?;
    memory
        .argon2id(argon2::Version::V0x13, params, password.as_bytes(), &salt, &mut output)
        .map_err(NoHash::Argon2)?;
    Ok(PasswordHash::new(format!(
        "$argon2id$v=19$m={CURRENT_MEMORY},t={CURRENT_PASSES},p={CURRENT_LANES}${}${}",
        B64.encode(salt),
        B64.encode(output),
    )))
}

/// Whether [`hash`] would make a stronger one of the same password.
#[must_use]
pub(crate) fn is_outdated(hash: &PasswordHash) -> bool {
    match Stored::parse(hash.expose()) {
        Ok(Stored::Argon2id { version, params, .. }) => {
            version != argon2::Version::V0x13
                || params.m_cost() < CURRENT_MEMORY
                || params.t_cost() < CURRENT_PASSES
                || params.p_cost() < CURRENT_LANES
        }
        _ => true,
    }
}

/// Why no password can be verified against a stored hash, if none can.
pub(crate) fn unusable(text: &str) -> Option<Unusable> {
    Stored::parse(text).err()
}

fn stored_matches(
    memory: &mut Memory,
    password: &str,
    stored: &Stored,
) -> Result<bool, HashingError> {
    let password = password.as_bytes();
    match stored {
        Stored::Argon2id { version, params, salt, output } => {
            let mut computed = Zeroizing::new(vec![0; output.len()]);
            memory
                .argon2id(*version, params.clone(), password, salt, &mut computed)
                .map_err(NoHash::Argon2)?;
            Ok(computed.ct_eq(output).into())
        }
        Stored::Bcrypt { cost, salt, output } => {
            // Others truncate at 72 bytes and stop at a zero, so that a hash would match more
            // than one password. The work is done before such a password is refused.
            let exact = password.len() <= BCRYPT_KEY_LEN && !password.contains(&0);
            let key: Zeroizing<Vec<u8>> =
                Zeroizing::new(password.iter().copied().chain([0]).take(BCRYPT_KEY_LEN).collect());
            let computed = Zeroizing::new(bcrypt::bcrypt(*cost, *salt, &key));
            // The stored form drops the last of the 24 bytes.
            let equal: bool = computed
                .split_at_checked(output.len())
                .is_some_and(|(kept, _)| kept.ct_eq(output).into());
            Ok(black_box(equal) && exact)
        }
        Stored::Pbkdf2 { algorithm, iterations, salt, output } => {
            let mut computed = Zeroizing::new(vec![0; output.len()]);
            aws_lc_rs::pbkdf2::derive(*algorithm, *iterations, salt, password, &mut computed);
            Ok(computed.ct_eq(output).into())
        }
        Stored::Scrypt { params, salt, output } => {
            let mut computed = Zeroizing::new(vec![0; output.len()]);
            let done = scrypt::scrypt(password, salt, params, &mut computed).is_ok();
            let equal: bool = computed.ct_eq(output).into();
            Ok(done && equal)
        }
    }
}

#[cfg(test)]
mod tests;
