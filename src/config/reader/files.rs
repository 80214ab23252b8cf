//! Values that are paths of files.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::super::keys;
use super::Reader;
use crate::keyfile::remedy_of;
use crate::redact::shown_path;

impl Reader<'_> {
    /// The path of a file, which has to be there where files are looked at.
    pub(in crate::config) fn file(&mut self, key: &str) -> PathBuf {
        let text = self.text(key).unwrap_or_default();
        self.existing(key, &text)
    }

    /// A file that there need not be; an empty text names none.
    pub(in crate::config) fn optional_file(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.text(key).filter(|text| !text.is_empty())?;
        Some(self.existing(key, &text))
    }

    /// One or two key files of one purpose, the first of which is the one in use.
    pub(in crate::config) fn generations(&mut self, key: &str) -> Vec<PathBuf> {
        let files = self.list(key);
        if files.len() > 2 {
            self.wrong(
                key,
                format!("{} files", files.len()),
                "list at most two: the one in use, then the next or the previous one",
            );
        }
        files.iter().map(|file| self.existing(key, file)).collect()
    }

    fn existing(&mut self, key: &str, text: &str) -> PathBuf {
        if text.is_empty() {
            self.wrong(key, "an empty path", "name a file");
        }
        let path = self.folder.join(text);
        let shown = shown_path(&path);
        if self.check_files && !text.is_empty() {
            let restore = match self.of_presets.contains(key) {
                true => format!(
                    "it is the file of the preset: run where that is, or write {} of your own",
                    keys::display(key)
                ),
                false => "restore the file, or correct the path (relative ones start at the \
                          configuration file's folder)"
                    .to_owned(),
            };
            match std::fs::metadata(&path) {
                Ok(found) if found.is_file() => {}
                Ok(_) => self.wrong_path(
                    key,
                    format!("{} is no file", shown.display()),
                    "name the file itself",
                ),
                Err(error) => {
                    let remedy = match error.kind() {
                        ErrorKind::PermissionDenied => remedy_of(&error).to_owned(),
                        _ => restore,
                    };
                    self.wrong_path(
                        key,
                        format!("cannot read {}: {error}", shown.display()),
                        remedy,
                    );
                }
            }
        }
        path
    }
}
