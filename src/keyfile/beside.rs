//! What lies beside a secret: in its folder, in those below and where links lead, the nearest first. A secret may
//! lie in the folder of a whole project, so that folders of libraries and of what is built are passed over, and
//! only so much is looked at.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::contents::{self, Likeness};
use super::{Audit, KeyFileError, readable};

/// Folders that programs fill, and nobody with keys.
const FILLED: [&str; 10] = [
    ".git",
    ".hg",
    ".svn",
    ".tox",
    ".venv",
    "__pycache__",
    "node_modules",
    "site-packages",
    "target",
    "venv",
];

/// So many files and folders are looked at for each folder that the configuration brings in.
const MOST: usize = 1_000;

/// So many files that look like secrets have a line each, and so many names one line for all of them.
const FEW: usize = 3;

/// A folder with a secret that the configuration names.
struct Place<'a> {
    /// The first key of the configuration that brings it in.
    key: &'a str,
    folder: &'a Path,
    /// How much was met, of which what is beyond the most was not looked at.
    met: usize,
    /// Files that look like secrets, and that others can read.
    likely: Vec<(PathBuf, KeyFileError)>,
}

/// Looks beside these files, and adds what it finds to what was found before.
pub(super) fn search(
    files: &[(String, &Path)],
    mut seen: HashSet<PathBuf>,
    faults: Vec<KeyFileError>,
) -> Audit {
    let mut audit = Audit { faults, unsearched: Vec::new() };
    let mut places: Vec<Place<'_>> = Vec::new();
    // Where there is no key, its path may be a mistake, and its folder anything.
    for (key, file) in files.iter().filter(|(_, file)| file.exists()) {
        let Some(folder) = file.parent() else { continue };
        if places.iter().all(|place| place.folder != folder) {
            places.push(Place { key, folder, met: 0, likely: Vec::new() });
        }
    }
    places.sort_by_key(|place| place.folder);
    // The folders of all keys come first, so that what is below each is looked at on its own account.
    let folders = places.iter().enumerate().map(|(index, it)| (index, it.folder.to_owned()));
    let mut folders: VecDeque<_> = folders.collect();
    while let Some((index, folder)) = folders.pop_front() {
        let Some(place) = places.get_mut(index).filter(|place| place.met <= MOST) else { continue };
        let below = place.look(&folder, &mut seen, &mut audit.faults);
        folders.extend(below.into_iter().map(|folder| (index, folder)));
    }
    for place in places {
        audit.unsearched.extend(place.unsearched());
        audit.faults.extend(place.into_faults());
    }
    audit
}

impl Place<'_> {
    /// Looks at the files of a folder. Returns the folders in it.
    fn look(
        &mut self,
        folder: &Path,
        seen: &mut HashSet<PathBuf>,
        faults: &mut Vec<KeyFileError>,
    ) -> Vec<PathBuf> {
        let unreadable = |source| KeyFileError::Unreadable { path: folder.to_owned(), source };
        let mut is_new = |path: &Path| path.canonicalize().map(|real| seen.insert(real));
        let entries = match is_new(folder) {
            Ok(true) => fs::read_dir(folder),
            Ok(false) => return Vec::new(),
            Err(source) => Err(source),
        };
        let entries = match entries {
            Ok(entries) => entries,
            // What this process may not look into is no place of its keys.
            Err(source) if folder != self.folder && is_denied(&source) => return Vec::new(),
            Err(source) => {
                faults.push(unreadable(source));
                return Vec::new();
            }
        };
        let mut folders = Vec::new();
        for entry in entries {
            self.met += 1;
            if self.met > MOST {
                break;
            }
            match entry.map(|entry| entry.path()) {
                // Files first: what a link leads to is named by the link.
                Ok(path) if path.is_dir() => folders.push(path),
                Ok(path) if !path.is_file() => {}
                Ok(path) => {
                    if is_new(&path).unwrap_or(true)
                        && let Some(fault) = readable(&path)
                    {
                        match contents::of_secret(&path) {
                            Some(Likeness::Certain) => faults.push(fault),
                            Some(Likeness::Likely) => self.likely.push((path, fault)),
                            None => {}
                        }
                    }
                }
                Err(source) => faults.push(unreadable(source)),
            }
        }
        // Below the root is everything, and some of it never ends.
        if folder.canonicalize().is_ok_and(|real| real.parent().is_none()) {
            return Vec::new();
        }
        folders.retain(|folder| !is_filled(folder));
        folders
    }

    fn unsearched(&self) -> Option<String> {
        (self.met > MOST).then(|| {
            format!(
                "{} brings in {}, where more than {MOST} files and folders lie: no others were looked at for \
                 secrets that somebody else can read; put the secret into a folder of its own",
                self.key,
                self.folder.display()
            )
        })
    }

    /// A line for each file, or one for all of them.
    fn into_faults(mut self) -> Vec<KeyFileError> {
        if self.likely.len() <= FEW {
            return self.likely.into_iter().map(|(_, fault)| fault).collect();
        }
        self.likely.sort_by(|one, next| one.0.cmp(&next.0));
        let shown =
            |path: &Path| path.strip_prefix(self.folder).unwrap_or(path).display().to_string();
        let names: Vec<_> = self.likely.iter().take(FEW).map(|(path, _)| shown(path)).collect();
        vec![KeyFileError::Exposed(format!(
            "{} brings in {}: {} files in it and below look like secrets, and others can read them, such as {}; put \
             the secret into a folder of its own, or, where they are secrets, run `chmod 600` on each",
            self.key,
            self.folder.display(),
            self.likely.len(),
            names.join(", ")
        ))]
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn is_filled(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| FILLED.iter().any(|filled| name == *filled))
}
