//! `.credentials/<tenant>[_<user>].env`: a login as shell variables, for its owner alone, in a folder
//! that nobody else can write. No link is followed, to write or to read one.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::init::{random_name, shell_quote};

/// A login to be written, or one that was read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) url: String,
    pub(super) user: String,
    pub(super) password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Where the login of a tenant's user belongs: the admin's file bears the tenant's name alone.
pub(super) fn path(folder: &Path, tenant: &str, user: &str) -> PathBuf {
    // A login name may hold any printable character, a path separator among them.
    let safe: String = user
        .chars()
        .map(|c| if c.is_alphanumeric() || "-_.@+".contains(c) { c } else { '_' })
        .collect();
    let name = if user == tenant { tenant.to_owned() } else { format!("{tenant}_{safe}") };
    folder.join(".credentials").join(format!("{name}.env"))
}

/// Writes the file whole, in place of an earlier one or of a link.
pub(super) fn write(path: &Path, login: &Login) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make(folder)?;
    let draft = folder.join(format!(".draft-{}", random_name()?));
    write_whole(path, &draft, login).with_context(|| {
        format!(
            "cannot write {}; make its folder writable, or leave out --env-file",
            path.display()
        )
    })
}

/// Makes sure of a folder that is none of somebody else's making.
fn make(folder: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let what = format!("cannot make {}; or leave out --env-file", folder.display());
            Err(error).context(what)
        }
        _ => check(folder),
    }
}

/// Refuses a folder in which others can put links and files, or exchange ours.
fn check(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let shown = folder.display();
    let found = fs::symlink_metadata(folder).with_context(|| format!("cannot look at {shown}"))?;
    if !found.is_dir() {
        bail!(
            "{shown} is no folder, or a link to one: put a folder there, or leave out --env-file"
        );
    }
    let is_ours = found.uid() == rustix::process::geteuid().as_raw();
    let is_sticky = found.mode() & 0o1000 != 0;
    if found.mode() & 0o022 != 0 && !(is_sticky && is_ours) {
        bail!(
            "{shown} has mode {:04o}, so that others can put files there: run `chmod 700 {shown}` \
             and look for what is not yours, or leave out --env-file",
            found.mode() & 0o7777
        );
    }
    Ok(())
}

fn write_whole(path: &Path, draft: &Path, login: &Login) -> io::Result<()> {
    let text = format!(
        "NATS_URL={}\nNATS_USER={}\nNATS_PASSWORD={}\n",
        shell_quote(&login.url),
        shell_quote(&login.user),
        shell_quote(&login.password)
    );
    let mut options = fs::OpenOptions::new();
    // What is new is no link.
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(draft)?;
    let written = (|| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(draft);
    }
    written
}

/// Reads a file that [`write`] has written; `None` where there is none or it holds no login.
pub(super) fn read(path: &Path) -> Option<Login> {
    let text =
        fs::symlink_metadata(path).ok()?.is_file().then(|| fs::read_to_string(path).ok())??;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        let value = match line.strip_prefix('\'').and_then(|line| line.strip_suffix('\'')) {
            Some(quoted) => quoted.replace("'\\''", "'"),
            None => line.to_owned(),
        };
        (!value.is_empty()).then_some(value)
    };
    Some(Login {
        url: value("NATS_URL")?,
        user: value("NATS_USER")?,
        password: value("NATS_PASSWORD")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), "42", "o'neil@example.com");
        assert!(path.ends_with(".credentials/42_o_neil@example.com.env"));
        let login = Login {
            url: "nats://127.0.0.1:4222".to_owned(),
            user: "o'neil@example.com".to_owned(),
            password: "a b$c'd".to_owned(),
        };
        write(&path, &login).unwrap();
        assert_eq!(read(&path), Some(login.clone()));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
        let shell = std::process::Command::new("sh")
            .args(["-c", ". \"$0\"; printf %s \"$NATS_PASSWORD\""])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(shell.stdout, login.password.as_bytes());
    }

    #[cfg(unix)]
    fn login() -> Login {
        Login { url: "nats://h".to_owned(), user: "42".to_owned(), password: "new".to_owned() }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), "42", "42");
        let (place, victim) = (path.parent().unwrap(), folder.path().join("victim"));
        fs::create_dir(place).unwrap();
        fs::set_permissions(place, fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(&victim, "NATS_URL=x\nNATS_USER=x\nNATS_PASSWORD=x\n").unwrap();
        // Where an earlier version wrote, whatever its process, and the place itself.
        for id in 0..2_000 {
            symlink(&victim, place.join(format!("42.env.{id}"))).unwrap();
        }
        symlink(&victim, place.join(format!("42.env.{}", std::process::id()))).ok();
        symlink(&victim, &path).unwrap();
        assert_eq!(read(&path), None, "a link is no file of ours");
        write(&path, &login()).unwrap();
        assert_eq!(read(&path), Some(login()));
        assert!(fs::read_to_string(&victim).unwrap().contains("NATS_PASSWORD=x"));
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_write_or_that_is_a_link_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), "42", "42");
        let place = path.parent().unwrap();
        fs::create_dir(place).unwrap();
        for mode in [0o777, 0o770, 0o702] {
            fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
            let error = write(&path, &login()).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 700 {}", place.display())), "{error}");
        }
        assert_eq!(fs::read_dir(place).unwrap().count(), 0);
        fs::remove_dir(place).unwrap();
        symlink(folder.path(), place).unwrap();
        assert!(write(&path, &login()).unwrap_err().to_string().contains("a link"));
        assert!(!folder.path().join("42.env").exists());
    }

    #[test]
    fn the_admin_file_has_the_tenants_name() {
        assert!(path(Path::new("/d"), "42", "42").ends_with(".credentials/42.env"));
        assert!(path(Path::new("/d"), "42", "../x").ends_with(".credentials/42_.._x.env"));
        assert_eq!(read(Path::new("/no/such.env")), None);
    }
}
