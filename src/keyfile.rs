//! Key and credential files: read only while nobody can get at them but the service's user and the groups
//! that it runs in, and only if they hold the kind of key that is asked for. What is wrong names the path,
//! the problem and the remedy, and never what the file holds.

mod beside;
mod contents;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

#[cfg(unix)]
use crate::exposure::Trust;
use crate::keys::{AccountId, KeyError, KeyKind, SigningKey, XKey};
use crate::protocol::claims::UserBody;
use crate::protocol::jwt::{Claims, IssuerKey, Parsed};
use crate::redact::shown_path;

/// No key file is anywhere near this long.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a key file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read the key file {}: {source}; {}", shown_path(path).display(), remedy_of(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it, or exchange it. It says which file or folder, who, and what to do.
    #[error("{0}")]
    Exposed(String),
    /// It does not hold what it should.
    #[error("the key file {} {problem}; restore it from a backup or write a new key", shown_path(path).display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No file is listed where a key is needed.
    #[error("no key file is listed for {0}; list one in the configuration")]
    NoneListed(&'static str),
}

/// What to do about a file that cannot be read.
pub(crate) fn remedy_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the user that the service runs as has to be able to read it, and to enter its folders: make the file \
             that user's, with mode 0600"
        }
        _ => "restore it or correct its path",
    }
}

/// One key in use and all those that are listed beside it.
#[derive(Debug)]
pub struct Generations<K> {
    /// The one that signs.
    pub signing: SigningKey,
    /// The public halves of every generation, the one that signs first.
    pub listed: Vec<K>,
    /// The others of which there is the private half too.
    pub others: Vec<SigningKey>,
}

/// Reads a file of secrets after checking that nobody else can.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let text = read(path)?;
    check_modes(path)?;
    Ok(text)
}

/// Reads a secret that another program has too: the text without white space around it, at least
/// so many bytes long.
pub(crate) fn shared_secret(path: &Path, least: usize) -> Result<Zeroizing<String>, KeyFileError> {
    let secret = Zeroizing::new(read_secret(path)?.trim().to_owned());
    let length = secret.len();
    if length < least {
        let problem = format!("holds {length} bytes, and a shared secret has at least {least}");
        return Err(KeyFileError::Unusable { path: path.to_owned(), problem });
    }
    Ok(secret)
}

/// Reads a seed of the given kind.
pub fn signing_key(path: &Path, kind: KeyKind) -> Result<SigningKey, KeyFileError> {
    SigningKey::from_seed(&read_secret(path)?, kind).map_err(|error| unusable(path, &error))
}

/// Reads a curve seed.
pub fn xkey(path: &Path) -> Result<XKey, KeyFileError> {
    XKey::from_seed(&read_secret(path)?).map_err(|error| unusable(path, &error))
}

/// The account whose user a creds file is.
pub fn account_of_creds(path: &Path) -> Result<AccountId, KeyFileError> {
    let (claims, issuer) = claims_of_creds(path)?;
    Ok(claims.body.issuer_account.unwrap_or(issuer))
}

/// The public key of a creds file's user.
pub(crate) fn user_of_creds(path: &Path) -> Result<String, KeyFileError> {
    claims_of_creds(path).map(|(claims, _)| claims.subject)
}

/// Whether a creds file's user is signed by the account's identity, and not by a signing key of it.
pub(crate) fn is_signed_by_identity(path: &Path) -> Result<bool, KeyFileError> {
    claims_of_creds(path).map(|(claims, _)| claims.body.issuer_account.is_none())
}

/// The seed of a creds file's user.
pub(crate) fn seed_of_creds(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    creds(path).map(|(_, seed)| seed)
}

/// What a creds file holds: the user JWT, and the seed.
pub(crate) fn creds(path: &Path) -> Result<(Zeroizing<String>, Zeroizing<String>), KeyFileError> {
    let text = read_secret(path)?;
    let behind = |mark: &str, what: &str| {
        let mut lines = text.lines().skip_while(|line| !line.contains(mark));
        let line = lines.nth(1).map(|line| Zeroizing::new(line.trim().to_owned()));
        let problem = || format!("is no creds file: it has no {what}");
        line.ok_or_else(|| KeyFileError::Unusable { path: path.to_owned(), problem: problem() })
    };
    Ok((behind("BEGIN NATS USER JWT", "user JWT")?, behind("BEGIN USER NKEY SEED", "user's seed")?))
}

fn claims_of_creds(path: &Path) -> Result<(Claims<UserBody>, AccountId), KeyFileError> {
    let (token, _) = creds(path)?;
    let problem = |problem: String| KeyFileError::Unusable { path: path.to_owned(), problem };
    Parsed::<UserBody>::parse(&token)
        .and_then(Parsed::verify::<AccountId>)
        .map_err(|error| problem(format!("is no creds file: {error}")))
}

/// Reads every generation of a curve key; all are seeds, since each may have to open a request.
pub(crate) fn xkeys(paths: &[PathBuf]) -> Result<Vec<XKey>, KeyFileError> {
    paths.iter().map(|path| xkey(path)).collect()
}

/// Reads the generations of a key that signs: the first is a seed, the others are seeds or public
/// keys. `purpose` is for the error where none is listed.
pub fn generations<K: IssuerKey + PartialEq>(
    paths: &[PathBuf],
    purpose: &'static str,
) -> Result<Generations<K>, KeyFileError> {
    let (first, others) = paths.split_first().ok_or(KeyFileError::NoneListed(purpose))?;
    let signing = signing_key(first, K::KIND)?;
    let mut listed = vec![signing.public().map_err(|error| unusable(first, &error))?];
    let mut private = Vec::new();
    for path in others {
        let (other, key) = other_generation(path)?;
        if listed.contains(&other) {
            return Err(KeyFileError::Unusable {
                path: path.clone(),
                problem: format!(
                    "holds the same key as another file of {purpose}; list each generation once, \
                     the one that signs first"
                ),
            });
        }
        listed.push(other);
        private.extend(key);
    }
    Ok(Generations { signing, listed, others: private })
}

/// A generation that does not sign: its public half, and its private one if that is what is there.
fn other_generation<K: IssuerKey>(path: &Path) -> Result<(K, Option<SigningKey>), KeyFileError> {
    let text = read(path)?;
    let unusable = |error| unusable(path, &error);
    if !text.starts_with('S') {
        return Ok((text.trim().parse().map_err(unusable)?, None));
    }
    check_modes(path)?;
    let key = SigningKey::from_seed(&text, K::KIND).map_err(unusable)?;
    Ok((key.public().map_err(unusable)?, Some(key)))
}

/// What a check of key files has found.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// What others can get at, each once.
    pub(crate) faults: Vec<KeyFileError>,
    /// Where too much lies beside a secret to look at all of it, with what to do about that.
    pub(crate) unsearched: Vec<String>,
}

/// Checks that nobody else can read or exchange these files, each with the key of the configuration that names
/// it, nor read a secret that lies beside them: in the folders that they lie in, those below, and where links
/// lead.
pub(crate) fn audit<'a>(files: impl IntoIterator<Item = (String, &'a Path)>) -> Audit {
    let files: Vec<(String, &Path)> = files.into_iter().collect();
    let paths: Vec<&Path> = files.iter().map(|(_, path)| *path).collect();
    let mut faults = exchanged(&paths);
    let mut seen = HashSet::new();
    for file in &paths {
        let is_new = file.canonicalize().map_or(true, |real| seen.insert(real));
        if is_new && !is_public(file) {
            faults.extend(readable(file));
        }
    }
    beside::search(&files, seen, faults)
}

/// Checks that a file which its group may need too, such as the key of a certificate, is nobody
/// else's to read.
#[cfg(unix)]
pub(crate) fn audit_shared(path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt as _;

    let found = fs::metadata(path)
        .map_err(|source| KeyFileError::Unreadable { path: path.to_owned(), source })?;
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o007 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(KeyFileError::Exposed(format!(
        "{path} has mode {mode:04o}, so that others can get at the keys; run `chmod 640 {path}`"
    )))
}

/// Whether a file is one of public keys, by its name and by what it holds: seeds begin with an `S`.
fn is_public(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "pub")
        && read(path).is_ok_and(|text| !text.trim_start().starts_with('S'))
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(unreadable)?;
    let problem = |problem: &str| {
        Err(KeyFileError::Unusable { path: path.to_owned(), problem: problem.to_owned() })
    };
    if !found.is_file() {
        return problem("is no file");
    }
    if found.len() > MAX_BYTES {
        return problem("is far too long for a key");
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    if text.trim().is_empty() {
        return problem("is empty");
    }
    Ok(text)
}

/// A file of secrets, and where it lies.
fn check_modes(path: &Path) -> Result<(), KeyFileError> {
    readable(path).into_iter().chain(exchanged(&[path])).next().map_or(Ok(()), Err)
}

/// Whether others can read a file.
#[cfg(unix)]
fn readable(path: &Path) -> Option<KeyFileError> {
    let found = Trust::of_key(path).readers(path, "get at the keys");
    found.map(|exposure| KeyFileError::Exposed(exposure.to_string()))
}

/// Who else can put other files in the place of these: each file and folder that they can write, once.
#[cfg(unix)]
fn exchanged(files: &[&Path]) -> Vec<KeyFileError> {
    let found = files.iter().flat_map(|path| Trust::of_key(path).writers(path, "the keys"));
    let texts: std::collections::BTreeSet<String> = found.map(|it| it.to_string()).collect();
    texts.into_iter().map(KeyFileError::Exposed).collect()
}

#[cfg(not(unix))]
fn readable(_: &Path) -> Option<KeyFileError> {
    None
}

#[cfg(not(unix))]
fn exchanged(_: &[&Path]) -> Vec<KeyFileError> {
    Vec::new()
}

#[cfg(not(unix))]
pub(crate) fn audit_shared(_: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

fn unusable(path: &Path, error: &KeyError) -> KeyFileError {
    KeyFileError::Unusable { path: path.to_owned(), problem: format!("is of no use: {error}") }
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
