//! A folder that appears as a whole or not at all: it is built beside (or, where it exists and is
//! empty, inside) its place, written through to the disk, and moved there at the end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The folder under construction; dropped before [`Stage::commit`], nothing remains of it.
#[derive(Debug)]
pub(super) struct Stage {
    target: PathBuf,
    folder: PathBuf,
    inside: bool,
    done: bool,
}

impl Stage {
    /// Begins to build `target`, which is an absolute path: a folder that does not exist, or an
    /// empty one.
    pub(super) fn begin(target: &Path) -> anyhow::Result<Self> {
        let inside = match fs::read_dir(target) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    bail!(
                        "{} exists and is not empty; nothing is overwritten: name another folder \
                         with --dir, or empty this one",
                        target.display()
                    );
                }
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot use {}; name another folder with --dir", target.display())
                });
            }
        };
        let beside = if inside { Some(target) } else { target.parent() };
        let beside = beside.with_context(|| format!("{} has no parent", target.display()))?;
        let folder = beside.join(format!(".nats-callout-init-{}", random_name()?));
        make_folder(&folder).with_context(|| {
            format!(
                "cannot make a folder in {}; make that folder, and make it writable for you",
                beside.display()
            )
        })?;
        Ok(Self { target: target.to_owned(), folder, inside, done: false })
    }

    /// Makes a folder that its owner alone can enter.
    pub(super) fn folder(&self, name: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        make_folder(&path).with_context(|| format!("cannot make {}", path.display()))
    }

    /// Writes a file that its owner alone can read.
    pub(super) fn file(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        write_new(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Moves the whole to its place.
    pub(super) fn commit(mut self) -> anyhow::Result<()> {
        sync_tree(&self.folder)?;
        if self.inside {
            self.move_entries()?;
            fs::remove_dir(&self.folder)?;
        } else {
            fs::rename(&self.folder, &self.target).with_context(|| {
                format!("cannot move the finished folder to {}", self.target.display())
            })?;
        }
        self.done = true;
        if let Some(parent) = self.target.parent() {
            sync_folder(parent)?;
        }
        sync_folder(&self.target)
    }

    /// The folder itself is kept, since it may be a mount point or somebody's working directory.
    fn move_entries(&self) -> anyhow::Result<()> {
        let staging = self.folder.file_name();
        let mut moved: Vec<PathBuf> = Vec::new();
        let result = (|| -> anyhow::Result<()> {
            for entry in fs::read_dir(&self.target)? {
                if Some(entry?.file_name().as_os_str()) != staging {
                    bail!("{} is no longer empty; name another folder", self.target.display());
                }
            }
            for name in entries(&self.folder)? {
                let to = self.target.join(&name);
                fs::rename(self.folder.join(&name), &to)
                    .with_context(|| format!("cannot move a file to {}", to.display()))?;
                moved.push(to);
            }
            Ok(())
        })();
        if result.is_err() {
            for path in moved {
                let _ =
                    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
        }
        result
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// By name, so that the service's own file, which makes a folder one of ours, is written before
/// the server's and nothing depends on the order of a directory.
fn entries(folder: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable_by_key(|name| (name == OsStr::new("nats-callout.toml"), name.clone()));
    Ok(names)
}

/// A name that nobody else has.
pub(in crate::cli) fn random_name() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).ok().context("no randomness to be had")?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_tree(folder: &Path) -> anyhow::Result<()> {
    for name in entries(folder)? {
        let path = folder.join(name);
        if path.is_dir() {
            sync_tree(&path)?;
        }
    }
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot write {} through to the disk", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        entries(folder).unwrap().into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_new_folder_appears_at_the_end() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("new");
        let stage = Stage::begin(&target).unwrap();
        stage.folder("keys").unwrap();
        stage.file("keys/a", "1").unwrap();
        assert!(!target.exists());
        stage.commit().unwrap();
        assert_eq!(names(parent.path()), ["new"]);
        assert_eq!(fs::read_to_string(target.join("keys/a")).unwrap(), "1");
    }

    #[test]
    fn an_empty_folder_is_filled() {
        let parent = tempfile::tempdir().unwrap();
        let stage = Stage::begin(parent.path()).unwrap();
        stage.file("a", "1").unwrap();
        stage.commit().unwrap();
        assert_eq!(names(parent.path()), ["a"]);
    }

    #[test]
    fn nothing_remains_of_what_is_given_up() {
        let parent = tempfile::tempdir().unwrap();
        for target in [parent.path().join("new"), parent.path().to_owned()] {
            let stage = Stage::begin(&target).unwrap();
            stage.file("a", "1").unwrap();
            assert!(stage.file("no/such/folder", "1").is_err());
            drop(stage);
            assert!(names(parent.path()).is_empty());
        }
    }

    #[test]
    fn what_appears_meanwhile_is_not_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let stage = Stage::begin(parent.path()).unwrap();
        stage.file("a", "ours").unwrap();
        fs::write(parent.path().join("a"), "theirs").unwrap();
        assert!(stage.commit().unwrap_err().to_string().contains("no longer empty"));
        assert_eq!(names(parent.path()), ["a"]);
        assert_eq!(fs::read_to_string(parent.path().join("a")).unwrap(), "theirs");

        let target = parent.path().join("new");
        let stage = Stage::begin(&target).unwrap();
        stage.file("a", "ours").unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(target.join("a"), "theirs").unwrap();
        assert!(stage.commit().is_err());
        assert_eq!(names(parent.path()), ["a", "new"]);
    }

    #[test]
    fn refusals() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let full = Stage::begin(parent.path()).unwrap_err().to_string();
        assert!(full.contains("exists and is not empty"), "{full}");
        assert!(Stage::begin(&file).is_err());
        let orphan = Stage::begin(&parent.path().join("no/such")).unwrap_err().to_string();
        assert!(orphan.contains("make that folder"), "{orphan}");
        assert_eq!(names(parent.path()), ["file"]);
    }
}
