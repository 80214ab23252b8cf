//! Which module may import which, and which crates each may know. The lists of exceptions are what is
//! left to mend: they may only shrink, and one that is no longer needed has to be struck out here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules of the library, each of which imports only those before it.
const ORDER: &[&str] = &[
    // What knows of nothing else.
    "clock",
    "keys",
    "spelling",
    "problem",
    "causes",
    "redact",
    // A request, and who and what it is about.
    "protocol",
    "credentials",
    "keyfile",
    "store",
    "authn",
    "policy",
    "placement",
    "mint",
    "authorize",
    // What looks at decisions, and what carries them.
    "audit",
    "telemetry",
    "service",
    "intake",
    // What servers, other instances and others are told.
    "provision",
    "events",
    "instance",
    "peers",
    // The program.
    "config",
    "daemon",
    "cli",
];

/// Imports against the order: from, to.
const AGAINST: &[(&str, &str)] = &[
    ("authn", "audit"),
    ("authorize", "audit"),
    ("protocol", "credentials"),
    ("protocol", "mint"),
    ("redact", "authn"),
];

/// Crates that stay behind few modules: which may know them, and which do all the same.
const CRATES: &[(&str, &[&str], &[&str])] = &[
    ("anyhow", &["cli"], &[]),
    ("async_nats", &["service", "provision"], &["cli", "daemon", "events", "instance", "peers"]),
    ("axum", &["daemon"], &[]),
    ("clap", &["cli", "main"], &["daemon"]),
    ("comfy_table", &["cli"], &[]),
    ("jsonwebtoken", &["authn"], &[]),
    ("metrics_exporter_prometheus", &["daemon"], &[]),
    ("reqwest", &["authn"], &[]),
    ("sqlx", &["store"], &[]),
    ("tracing_subscriber", &["cli"], &["config"]),
];

/// A source file without its comments and its tests.
struct Source {
    room: String,
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !["tests.rs", "fakes.rs", "lib.rs"].contains(&name) {
                let inner = path.strip_prefix(&root).unwrap();
                let room = Path::new(inner.iter().next().unwrap()).with_extension("");
                sources.push(Source {
                    room: room.to_str().unwrap().to_owned(),
                    text: code(&std::fs::read_to_string(&path).unwrap()),
                    path,
                });
            }
        }
    }
    // These look at everything, and nobody imports them.
    sources.retain(|source| source.room != "fuzzing");
    sources
}

fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first names behind `crate::`, in a list in braces too.
fn imported(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for (at, found) in text.match_indices("crate::") {
        let behind = &text[at + found.len()..];
        let Some(list) = behind.strip_prefix('{') else {
            names.insert(word(behind));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && !c.is_whitespace() => {
                    begins = false;
                    names.insert(word(&list[at..]));
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn each_module_imports_only_those_before_it() {
    let place = |room: &str| ORDER.iter().position(|it| *it == room);
    let mut against = BTreeSet::new();
    for Source { room, path, text } in sources().iter().filter(|source| source.room != "main") {
        let here = place(room).unwrap_or_else(|| panic!("give `{room}` its place in ORDER"));
        for other in imported(text) {
            if place(other).is_some_and(|there| there > here) {
                let known = AGAINST.contains(&(room.as_str(), other));
                assert!(known, "{}: `{room}` must not import `{other}`", path.display());
                against.insert((room.clone(), other.to_owned()));
            }
        }
    }
    for (from, to) in AGAINST {
        let used = against.contains(&((*from).to_owned(), (*to).to_owned()));
        assert!(used, "`{from}` imports `{to}` no longer: strike it out");
    }
}

#[test]
fn crates_stay_behind_their_modules() {
    let sources = sources();
    for (name, may, do_so) in CRATES {
        let users: BTreeSet<&str> = sources
            .iter()
            .filter(|source| {
                source.text.match_indices(name).any(|(at, _)| {
                    let inside =
                        source.text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                    !inside && source.text[at + name.len()..].starts_with("::")
                })
            })
            .map(|source| source.room.as_str())
            .collect();
        for user in &users {
            assert!(may.contains(user) || do_so.contains(user), "`{user}` must not know {name}");
        }
        for room in *do_so {
            assert!(users.contains(room), "`{room}` knows {name} no longer: strike it out");
        }
    }
}

#[test]
fn imports_are_found_in_lists_and_paths() {
    let text =
        "use crate::a::B;\nuse crate::{b, c::{d, E}, f};\nfn x() -> crate::g::H { crate::i() }";
    assert_eq!(imported(text), ["a", "b", "c", "f", "g", "i"].into());
    assert_eq!(code("// crate::x\nuse crate::a;\n#[cfg(test)]\nmod tests {\n"), "use crate::a;\n");
}
