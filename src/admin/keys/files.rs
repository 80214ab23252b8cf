//! The files that a rotation changes: seeds, the lists of nats-callout.toml, the tokens and keys of
//! nats-server.conf. Each is replaced as a whole or not at all, whatever stops the command.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::{KeysError, Result};
use crate::config::Config;
use crate::deployment::KeyRole;
use crate::keyfile;
use crate::keys::{KeyKind, SigningKey, XKey};

/// How many letters of a public key a file's name has.
const LETTERS: usize = 8;

/// The end of a file's name while it is being written.
const UNFINISHED: &str = ".nats-callout-unfinished";

/// Makes sure that nobody else rotates keys meanwhile: for as long as the value is held, or the
/// process lives.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let held = File::open(folder).map_err(KeysError::file("cannot open", folder))?;
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| KeysError::unfit("another `keys rotate` is running here; wait for its end"))?;
    Ok(held)
}

/// Removes what a command left that was stopped while it wrote.
pub(super) fn tidy(folder: &Path) -> Result<()> {
    let mut left = entries(folder);
    left.retain(|path| path.as_os_str().as_encoded_bytes().ends_with(UNFINISHED.as_bytes()));
    left.iter().try_for_each(|path| remove(path))
}

/// Puts `text` in a file's place. One that is there keeps its mode and its owner, also where root
/// writes it; a new one is its owner's alone, who is that of the folder where root writes it.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    // A link is followed, so that it stays one.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().ok_or_else(|| KeysError::unfit("no file name"))?.to_owned();
    name.push(UNFINISHED);
    let beside = path.with_file_name(name);
    // Where a link leads, nobody has tidied.
    remove(&beside)?;
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        let found = fs::metadata(&path).ok();
        keep_owner(&file, found.as_ref(), &path)?;
        if let Some(found) = found {
            file.set_permissions(found.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        sync_folder_of(&path)
    };
    write().map_err(KeysError::file("cannot write", &path))
}

/// Gives the new file the owner of the one that it replaces. The service may run as another user
/// than who rotates its keys, and has to read them.
fn keep_owner(new: &File, replaced: Option<&fs::Metadata>, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let folder = match (replaced, path.parent()) {
        (None, Some(folder)) if rustix::process::geteuid().is_root() => Some(fs::metadata(folder)?),
        _ => None,
    };
    let Some(like) = replaced.or(folder.as_ref()) else { return Ok(()) };
    let now = new.metadata()?;
    if (now.uid(), now.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(new, Some(like.uid()), Some(like.gid())).map_err(|error| {
        let words = format!(
            "its owner (user {}, group {}) cannot be kept; run this as that user or as root: {error}",
            like.uid(),
            like.gid()
        );
        std::io::Error::new(error.kind(), words)
    })
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path).map_err(KeysError::file("cannot sync", path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(KeysError::file("cannot remove", path)(error)),
    }
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The file of a generation: `user-signing-ABCDEFGH.nk`, or `.pub`.
pub(super) fn name_of(key: KeyRole, public: &str, extension: &str) -> String {
    let letters: String = public.chars().skip(1).take(LETTERS).collect();
    format!("{}-{letters}.{extension}", key.name())
}

/// The public half of the seed in a file, if it is one of this key's kind.
pub(super) fn public_of(key: KeyRole, path: &Path) -> Option<String> {
    match key.kind() {
        None => keyfile::xkey(path).ok().map(|found| found.public_key().to_string()),
        Some(kind) => keyfile::signing_key(path, kind).ok().map(|it| it.public_key().to_owned()),
    }
}

/// The seeds of a key in a folder, with their public halves. Files of other keys that begin alike
/// are among them: what they hold is asked for by its public half alone.
pub(super) fn seeds_in(key: KeyRole, folder: &Path) -> Vec<(String, PathBuf)> {
    entries(folder)
        .into_iter()
        .filter(|path| name(path).starts_with(key.name()) && name(path).ends_with(".nk"))
        .filter_map(|path| Some((public_of(key, &path)?, path)))
        .collect()
}

/// Writes a new seed into a folder; gives its public half.
pub(super) fn generate(key: KeyRole, folder: &Path) -> Result<String> {
    let (public, seed) = match key.kind() {
        None => {
            let (made, seed) = XKey::generate()?;
            (made.public_key().to_string(), seed)
        }
        Some(kind) => {
            let (made, seed) = SigningKey::generate(kind)?;
            (made.public_key().to_owned(), seed)
        }
    };
    replace(&folder.join(name_of(key, &public, "nk")), &format!("{}\n", *seed))?;
    Ok(public)
}

/// The operator's identity, which signs the operator's own JWT.
pub(super) fn operator_identity(offline: &Path) -> Result<SigningKey> {
    Ok(keyfile::signing_key(&offline.join("operator.nk"), KeyKind::Operator)?)
}

/// Writes a key's list of files into the configuration, where it differs, and reads that again.
/// Everything else in the file stays as it is, comments included.
pub(super) fn set_list(config: &Config, key: KeyRole, files: &[PathBuf]) -> Result<Option<String>> {
    let same = |a: &Path, b: &Path| a == b || a.canonicalize().ok() == b.canonicalize().ok();
    let now = key.files(config);
    if now.len() == files.len() && now.iter().zip(files).all(|(a, b)| same(a, b)) {
        return Ok(None);
    }
    let (section, name) = key.setting();
    let list: Vec<toml::Value> = files
        .iter()
        .map(|file| file.strip_prefix(&config.folder).unwrap_or(file))
        .map(|file| toml::Value::String(file.display().to_string()))
        .collect();
    let list = format!("[{}]", list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    let line = format!("{name} = {list}");
    let mut text = read(&config.file)?;
    let variable = format!("NATS_CALLOUT_{section}_{name}").to_uppercase();
    if std::env::var_os(&variable).is_some() {
        return Err(KeysError::Unfit(format!(
            "{variable} overrides [{section}] {name}: unset it, and keep the list in the file"
        )));
    }
    let span = span(config, &text, (section, name), &line)?;
    text.replace_range(span, &list);
    replace(&config.file, &text)?;
    Ok(Some(line))
}

/// Writes `[operator] events_account` into the configuration, which has none.
pub(super) fn add_events_account(config: &Config, account: &str) -> Result<()> {
    let line = format!("events_account = \"{account}\"");
    let mut text = read(&config.file)?;
    let before = span(config, &text, ("operator", "users_account"), &line)?;
    text.insert_str(before.end, &format!("\n{line}"));
    replace(&config.file, &text)
}

/// Writes a section into the configuration, which has none of that name.
pub(super) fn add_section(config: &Config, name: &str, keys: &[(&str, &str)]) -> Result<()> {
    let text = read(&config.file)?;
    let mut section = format!("\n[{name}]\n");
    for (key, value) in keys {
        section.push_str(&format!("{key} = {}\n", toml::Value::String((*value).to_owned())));
    }
    let there = DeTable::parse(&text).is_ok_and(|parsed| parsed.get_ref().contains_key(name));
    if there {
        let what = format!("complete [{name}] of {} to be:{section}", config.file.display());
        return Err(KeysError::Unfit(what));
    }
    replace(&config.file, &(text + &section))
}

/// Replaces words in the configurations of servers beside the service's own; gives those files that
/// were changed.
pub(super) fn change_confs(config: &Config, words: &[(String, String)]) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for path in confs(&config.folder) {
        let text = read(&path)?;
        let after = words.iter().fold(text.clone(), |text, (old, new)| text.replace(old, new));
        if after != text {
            replace(&path, &after)?;
            changed.push(path);
        }
    }
    Ok(changed)
}

/// What [`change_confs`] has to replace, so that these tokens are in the place of older ones by
/// their names.
pub(super) fn newer(config: &Config, tokens: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let words = tokens.iter().flat_map(|(name, token)| {
        let old = tokens_in_confs(config, name).into_iter();
        old.filter(move |old| old != token).map(|old| (old, token.clone()))
    });
    words.collect()
}

/// The token that follows a name in the configurations of servers: an account's id, or `operator`.
pub(super) fn tokens_in_confs(config: &Config, name: &str) -> Vec<String> {
    let mut tokens: Vec<String> = confs(&config.folder)
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| {
            let found = text.lines().filter_map(|line| line.trim().strip_prefix(name));
            let found = found.filter_map(|rest| rest.trim().strip_prefix(':'));
            found.map(|token| token.trim().to_owned()).collect::<Vec<_>>()
        })
        .filter(|token| token.starts_with("eyJ"))
        .collect();
    tokens.sort();
    tokens.dedup();
    tokens
}

/// The files of a key in a folder that hold one of these public keys as text.
pub(super) fn publics_in(key: KeyRole, folder: &Path, publics: &[&str]) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        publics.contains(&text.trim())
    };
    let mut paths = entries(folder);
    paths.retain(|path| name(path).starts_with(key.name()) && name(path).ends_with(".pub"));
    paths.retain(holds);
    paths
}

/// Where a value stands in the text of the configuration; where it is not found, a person has to
/// write `line` there.
fn span(
    config: &Config,
    text: &str,
    (section, name): (&str, &str),
    line: &str,
) -> Result<Range<usize>> {
    let by_hand = format!("write `{line}` below [{section}] of {}", config.file.display());
    let parsed = DeTable::parse(text);
    let parsed = parsed.map_err(|error| KeysError::Unfit(format!("{by_hand}: {error}")))?;
    let value = parsed.get_ref().get(section).and_then(|section| section.get_ref().get(name));
    value.map(toml::Spanned::span).ok_or(KeysError::Unfit(by_hand))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(KeysError::file("cannot read", path))
}

fn confs(folder: &Path) -> Vec<PathBuf> {
    let mut paths = entries(folder);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_keeps_its_owner_and_its_mode() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};

        const NOBODY: u32 = 65_534;
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::write(&old, "before").unwrap();
        fs::set_permissions(&old, PermissionsExt::from_mode(0o640)).unwrap();
        // Only root can give files to others.
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            chown(&old, Some(NOBODY), Some(NOBODY)).unwrap();
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let owner = |path: &Path| fs::metadata(path).map(|it| (it.uid(), it.gid())).unwrap();
        let before = owner(&old);
        replace(&old, "after").unwrap();
        replace(&new, "new").unwrap();
        assert_eq!((owner(&old), owner(&new)), (before, before));
        assert_eq!(is_root, before == (NOBODY, NOBODY));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&old), mode(&new)), (0o640, 0o600));
    }

    #[cfg(unix)]
    #[test]
    fn what_was_left_behind_a_link_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "before").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::write(folder.path().join(format!("file{UNFINISHED}")), "aft").unwrap();
        replace(&link, "after").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
