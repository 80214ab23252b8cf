//! A stored password hash, parsed: PHC strings, the modular crypt form of bcrypt, and what passlib
//! writes. What parses can be verified at a cost that this service is willing to pay.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Stray bits and padding make no difference to what a hash means, and some tools write them.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// The base64 of PHC strings.
pub(super) const B64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BCRYPT_B64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, LENIENT);

const MAX_TEXT: usize = 2_048;
const MAX_SALT: usize = 1_024;
/// A shorter output would be matched by chance; a longer one only multiplies the work.
const OUTPUT: std::ops::RangeInclusive<usize> = 10..=64;

const MAX_MEMORY: u64 = 256 << 20;
/// N blocks of 128 r bytes, of which there may be 256 MiB, and p more beside them.
const MAX_SCRYPT_MEMORY: u64 = MAX_MEMORY + (1 << 20);
const MAX_ARGON2_PASSES: u32 = 16;
const MAX_PARALLELISM: u32 = 16;
const MAX_SCRYPT_LN: u32 = 18;
const MAX_PBKDF2_ITERATIONS: u32 = 10_000_000;
const BCRYPT_COST: std::ops::RangeInclusive<u32> = 4..=15;

/// Why no password can be verified against a stored hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// The prefix is of no scheme that is accepted.
    #[error("its scheme is none of argon2id, bcrypt, pbkdf2 and scrypt")]
    Scheme,
    /// The prefix is right and the rest is not.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
    /// One login would cost more than this service is willing to pay.
    #[error("it asks for too much work: {0}")]
    Excessive(&'static str),
}

/// A stored hash that can be verified against.
pub(super) enum Stored {
    /// `$argon2id$v=19$m=19456,t=2,p=1$salt$output`
    Argon2id { version: argon2::Version, params: argon2::Params, salt: Vec<u8>, output: Vec<u8> },
    /// `$2b$12$` and 53 characters of salt and output
    Bcrypt { cost: u32, salt: [u8; 16], output: [u8; 23] },
    /// `$pbkdf2-sha256$i=600000,l=32$salt$output` or passlib's `$pbkdf2-sha256$600000$salt$output`
    Pbkdf2 { algorithm: pbkdf2::Algorithm, iterations: NonZeroU32, salt: Vec<u8>, output: Vec<u8> },
    /// `$scrypt$ln=16,r=8,p=1$salt$output`
    Scrypt { params: scrypt::Params, salt: Vec<u8>, output: Vec<u8> },
}

impl Stored {
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        if text.len() > MAX_TEXT {
            return Err(Unusable::Malformed("it is too long"));
        }
        let fields: Vec<&str> = text.split('$').collect();
        match *fields.as_slice() {
            ["", "argon2id", version, params, salt, output] if version.starts_with("v=") => {
                Self::argon2id(version, params, salt, output)
            }
            // The version of the first release went without saying.
            ["", "argon2id", params, salt, output] => Self::argon2id("v=16", params, salt, output),
            ["", "2a" | "2b" | "2y", cost, rest] => Self::bcrypt(cost, rest),
            ["", "pbkdf2", params, salt, output] => {
                Self::pbkdf2(pbkdf2::PBKDF2_HMAC_SHA1, params, salt, output)
            }
            ["", "pbkdf2-sha256", params, salt, output] => {
                Self::pbkdf2(pbkdf2::PBKDF2_HMAC_SHA256, params, salt, output)
            }
            ["", "pbkdf2-sha512", params, salt, output] => {
                Self::pbkdf2(pbkdf2::PBKDF2_HMAC_SHA512, params, salt, output)
            }
            ["", "scrypt", params, salt, output] => Self::scrypt(params, salt, output),
            [
                "",
                "argon2id" | "2a" | "2b" | "2y" | "pbkdf2" | "pbkdf2-sha256" | "pbkdf2-sha512"
                | "scrypt",
                ..,
            ] => Err(Unusable::Malformed("it has a wrong number of fields")),
            _ => Err(Unusable::Scheme),
        }
    }

    fn argon2id(version: &str, params: &str, salt: &str, output: &str) -> Result<Self, Unusable> {
        let version = match version {
            "v=19" => argon2::Version::V0x13,
            "v=16" => argon2::Version::V0x10,
            _ => return Err(Unusable::Malformed("argon2 has versions 16 and 19")),
        };
        let [m, t, p] = numbers(params, ["m", "t", "p"])?;
        if u64::from(m) * 1024 > MAX_MEMORY {
            return Err(Unusable::Excessive("argon2 with m above 262144 (256 MiB)"));
        }
        if t > MAX_ARGON2_PASSES {
            return Err(Unusable::Excessive("argon2 with t above 16"));
        }
        if p > MAX_PARALLELISM {
            return Err(Unusable::Excessive("argon2 with p above 16"));
        }
        let (salt, output) = (salt_of(salt)?, output_of(output)?);
        if !(argon2::MIN_SALT_LEN..=argon2::MAX_SALT_LEN).contains(&salt.len()) {
            return Err(Unusable::Malformed("argon2 takes a salt of at least 8 bytes"));
        }
        let params = argon2::Params::new(m, t, p, Some(output.len()))
            .map_err(|_| Unusable::Malformed("no argon2 parameters"))?;
        Ok(Self::Argon2id { version, params, salt, output })
    }

    fn bcrypt(cost: &str, rest: &str) -> Result<Self, Unusable> {
        let malformed = Unusable::Malformed("no bcrypt hash");
        let cost = if cost.len() == 2 { number(cost)? } else { return Err(malformed) };
        if cost > *BCRYPT_COST.end() {
            return Err(Unusable::Excessive("bcrypt with a cost above 15"));
        }
        if !BCRYPT_COST.contains(&cost) {
            return Err(malformed);
        }
        let (salt, output) = rest.split_at_checked(22).ok_or(malformed)?;
        let decode = |text: &str| BCRYPT_B64.decode(text).map_err(|_| malformed);
        Ok(Self::Bcrypt {
            cost,
            salt: decode(salt)?.try_into().map_err(|_| malformed)?,
            output: decode(output)?.try_into().map_err(|_| malformed)?,
        })
    }

    fn pbkdf2(
        algorithm: pbkdf2::Algorithm,
        params: &str,
        salt: &str,
        output: &str,
    ) -> Result<Self, Unusable> {
        let output = output_of(output)?;
        let (iterations, length) = if !params.contains('=') {
            (number(params)?, None)
        } else if params.contains("l=") {
            let [iterations, length] = numbers(params, ["i", "l"])?;
            (iterations, Some(length))
        } else {
            let [iterations] = numbers(params, ["i"])?;
            (iterations, None)
        };
        if iterations > MAX_PBKDF2_ITERATIONS {
            return Err(Unusable::Excessive("pbkdf2 with more than 10000000 iterations"));
        }
        if length.is_some_and(|length| usize::try_from(length) != Ok(output.len())) {
            return Err(Unusable::Malformed("pbkdf2 with another length than it says"));
        }
        let iterations =
            NonZeroU32::new(iterations).ok_or(Unusable::Malformed("pbkdf2 without iterations"))?;
        Ok(Self::Pbkdf2 { algorithm, iterations, salt: salt_of(salt)?, output })
    }

    fn scrypt(params: &str, salt: &str, output: &str) -> Result<Self, Unusable> {
        let [ln, r, p] = numbers(params, ["ln", "r", "p"])?;
        if ln > MAX_SCRYPT_LN {
            return Err(Unusable::Excessive("scrypt with ln above 18"));
        }
        if p > MAX_PARALLELISM {
            return Err(Unusable::Excessive("scrypt with p above 16"));
        }
        if u64::from(r) * 128 * ((1 << ln) + u64::from(p)) > MAX_SCRYPT_MEMORY {
            return Err(Unusable::Excessive("scrypt with more than 256 MiB"));
        }
        let malformed = Unusable::Malformed("no scrypt parameters");
        let ln = u8::try_from(ln).ok().filter(|&ln| ln > 0).ok_or(malformed)?;
        let params = scrypt::Params::new(ln, r, p).map_err(|_| malformed)?;
        Ok(Self::Scrypt { params, salt: salt_of(salt)?, output: output_of(output)? })
    }
}

fn number(text: &str) -> Result<u32, Unusable> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Unusable::Malformed("a parameter is no number"));
    }
    text.parse().map_err(|_| Unusable::Excessive("a parameter above 4294967295"))
}

/// The numbers of `a=1,b=2`, in whichever order: each of these once, and nothing else.
fn numbers<const N: usize>(text: &str, names: [&str; N]) -> Result<[u32; N], Unusable> {
    let mut values = [None; N];
    for pair in text.split(',') {
        let (key, digits) =
            pair.split_once('=').ok_or(Unusable::Malformed("a parameter without a value"))?;
        let place = names.iter().zip(&mut values).find(|(name, _)| **name == key);
        let (_, value) = place.ok_or(Unusable::Malformed("an unknown parameter"))?;
        if value.replace(number(digits)?).is_some() {
            return Err(Unusable::Malformed("a parameter twice"));
        }
    }
    let mut all = [0; N];
    for (value, given) in all.iter_mut().zip(values) {
        *value = given.ok_or(Unusable::Malformed("a parameter is missing"))?;
    }
    Ok(all)
}

/// Base64 as in PHC strings, or passlib's own, which has `.` in the place of `+`.
fn decode(text: &str) -> Option<Vec<u8>> {
    B64.decode(text.replace('.', "+")).ok()
}

fn salt_of(text: &str) -> Result<Vec<u8>, Unusable> {
    decode(text)
        .filter(|salt| salt.len() <= MAX_SALT)
        .ok_or(Unusable::Malformed("the salt is no base64 of at most 1024 bytes"))
}

fn output_of(text: &str) -> Result<Vec<u8>, Unusable> {
    decode(text)
        .filter(|output| OUTPUT.contains(&output.len()))
        .ok_or(Unusable::Malformed("the hash is no base64 of 10 to 64 bytes"))
}
