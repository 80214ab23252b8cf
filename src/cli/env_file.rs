//! `.credentials/<tenant>[_<user>].env`: a login as shell variables, for its owner alone.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::init::shell_quote;

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

/// Writes the file whole, in place of an earlier one.
pub(super) fn write(path: &Path, login: &Login) -> anyhow::Result<()> {
    write_whole(path, login).with_context(|| {
        format!(
            "cannot write {}; make its folder writable, or leave out --env-file",
            path.display()
        )
    })
}

fn write_whole(path: &Path, login: &Login) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let draft = path.with_extension(format!("env.{}", std::process::id()));
    let text = format!(
        "NATS_URL={}\nNATS_USER={}\nNATS_PASSWORD={}\n",
        shell_quote(&login.url),
        shell_quote(&login.user),
        shell_quote(&login.password)
    );
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Reads a file that [`write`] has written; `None` where there is none or it holds no login.
pub(super) fn read(path: &Path) -> Option<Login> {
    let text = fs::read_to_string(path).ok()?;
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

    #[test]
    fn the_admin_file_has_the_tenants_name() {
        assert!(path(Path::new("/d"), "42", "42").ends_with(".credentials/42.env"));
        assert!(path(Path::new("/d"), "42", "../x").ends_with(".credentials/42_.._x.env"));
        assert_eq!(read(Path::new("/no/such.env")), None);
    }
}
