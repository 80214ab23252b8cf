//! Which module may import which, and which crates each may know. The list of exceptions is what is
//! left to mend: it may only shrink, and one that is no longer needed has to be struck out here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules of the library, each of which imports only those before it.
const ORDER: &[&str] = &[
    // What knows of nothing else.
    "clock",
    "keys",
    "spelling",
    "hidden",
    "problem",
    "document",
    "causes",
    // A request, and who and what it is about.
    "protocol",
    "redact",
    "exposure",
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
    "callout",
    "testing",
    "intake",
    // What servers, other instances and others are told.
    "servers",
    "connections",
    "accounts",
    "revoke",
    "renewal",
    "streams",
    "events",
    "instance",
    "peers",
    // The program.
    "config",
    "deployment",
    "daemon",
    "admin",
    "cli",
];

/// Crates that stay behind few modules: which may know them, and which do all the same.
const CRATES: &[(&str, &[&str], &[&str])] = &[
    ("anyhow", &["cli"], &[]),
    (
        "async_nats",
        &["service", "callout", "testing", "servers", "accounts", "streams"],
        &["admin", "cli", "daemon", "deployment", "events", "instance", "peers"],
    ),
    ("axum", &["daemon"], &[]),
    ("clap", &["cli", "main"], &[]),
    ("comfy_table", &["cli"], &[]),
    ("jsonwebtoken", &["authn"], &[]),
    ("metrics_exporter_prometheus", &["daemon"], &[]),
    ("reqwest", &["authn"], &[]),
    ("sqlx", &["store"], &[]),
    ("tracing_subscriber", &["cli"], &["config"]),
];

/// A source file without its comments and its tests.
struct Source {
    /// The names of the modules that it is in, from the outermost.
    module: Vec<String>,
    path: PathBuf,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        &self.module[0]
    }
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
                let inner = path.strip_prefix(&root).unwrap().with_extension("");
                sources.push(Source {
                    module: inner.iter().map(|name| name.to_str().unwrap().to_owned()).collect(),
                    text: code(&std::fs::read_to_string(&path).unwrap()),
                    path,
                });
            }
        }
    }
    // These look at everything, and nobody imports them.
    sources.retain(|source| source.room() != "internals");
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

/// All paths that begin with `crate` or `super`, those of lists in braces too.
fn paths(text: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in text.match_indices(root) {
            if !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                walk(&text[at..], &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Notes the paths that begin with `path` and go on in the text; what is behind them is left.
fn walk<'a>(text: &'a str, path: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) -> &'a str {
    if let Some(mut list) = text.strip_prefix('{') {
        while !list.is_empty() {
            list = list.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if let Some(rest) = list.strip_prefix('}') {
                return rest;
            }
            list = walk(list, path, found);
        }
        return list;
    }
    let name = word(text);
    let rest = &text[name.len()..];
    path.push(name);
    let rest = match rest.strip_prefix("::") {
        Some(rest) if !name.is_empty() => walk(rest, path, found),
        // A star, or the end of a path.
        _ => {
            found.push(path.clone());
            rest.strip_prefix(|c: char| name.is_empty() && c != '}').unwrap_or(rest)
        }
    };
    path.pop();
    rest
}

/// The module that a path in another leads to.
fn target(from: &[String], path: &[&str], modules: &BTreeSet<&[String]>) -> Vec<String> {
    let up = path.iter().take_while(|name| **name == "super").count();
    let from = if path[0] == "crate" { &[] } else { &from[..from.len().saturating_sub(up)] };
    let names = path.iter().skip(up.max(1)).map(|name| (*name).to_owned());
    let mut target: Vec<String> = from.iter().cloned().chain(names).collect();
    while !target.is_empty() && !modules.contains(target.as_slice()) {
        target.pop();
    }
    target
}

#[test]
fn each_module_imports_only_those_before_it() {
    let place = |room: &str| ORDER.iter().position(|it| *it == room);
    for source in sources().iter().filter(|source| source.room() != "main") {
        let room = source.room();
        let here = place(room).unwrap_or_else(|| panic!("give `{room}` its place in ORDER"));
        for path in paths(&source.text).iter().filter(|path| path[0] == "crate") {
            let before = place(path[1]).is_none_or(|there| there <= here);
            assert!(before, "{}: `{room}` must not import `{}`", source.path.display(), path[1]);
        }
    }
}

/// Everything else is the crate's own: what applications rely on cannot be changed at will.
#[test]
fn the_interface_has_these_modules_and_no_others() {
    let lib = include_str!("../../src/lib.rs");
    let public: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub ")).collect();
    let interface = [
        "use async_nats;",
        "use async_trait::async_trait;",
        "use self::callout::Callout;",
        "mod admin;",
        "mod callout;",
        "mod cli;",
        "mod clock;",
        "mod config;",
        "mod daemon;",
        "mod internals;",
        "mod keys;",
        "mod policy;",
        "mod store;",
        "mod testing;",
    ];
    assert_eq!(public, interface);
    for hidden in ["cli", "internals"] {
        assert!(lib.contains(&format!("#[doc(hidden)]\npub mod {hidden};")), "`{hidden}` is shown");
    }
}

/// For those who read before they look.
#[test]
fn the_page_about_the_modules_has_all_of_them_in_their_order() {
    let page = include_str!("../../docs/architecture.md");
    let (_, table) = page.split_once("|---|---|\n").expect("a table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let cells = table.lines().map(|row| row.split('|').nth(1).expect("a cell"));
    let named: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(named, ORDER);
}

/// Among the modules of one parent, at any depth.
#[test]
fn no_modules_import_each_other_in_a_circle() {
    let sources = sources();
    let modules = sources.iter().map(|source| source.module.as_slice()).collect();
    // By parent: which of its modules imports which others.
    let mut imports: BTreeMap<&[String], BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
    for Source { module, text, .. } in &sources {
        for path in paths(text) {
            let target = target(module, &path, &modules);
            let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(common), target.get(common)) {
                let siblings = imports.entry(&module[..common]).or_default();
                siblings.entry(from).or_default().insert(to.clone());
            }
        }
    }
    assert!(imports.len() > 20, "imports were found below {} modules alone", imports.len());
    for (parent, mut siblings) in imports {
        // Whoever imports none of those that are left is in no circle.
        loop {
            let left: BTreeSet<String> = siblings.keys().map(|name| (*name).to_owned()).collect();
            siblings.retain(|_, others| !others.is_disjoint(&left));
            if siblings.len() == left.len() {
                break;
            }
        }
        assert!(siblings.is_empty(), "in {parent:?} there is a circle: {siblings:?}");
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
            .map(Source::room)
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
    let text = "use crate::a::B;\nuse super::super::{b, c::{d, E}, f::*};\nmacro_rules! x {}\n\
                fn x() -> crate::g::<H> { crate::i() }";
    let found: Vec<String> = paths(text).iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::a::B",
        "crate::g::",
        "crate::i",
        "super::super::b",
        "super::super::c::d",
        "super::super::c::E",
        "super::super::f::",
    ];
    assert_eq!(found, expected);
    assert_eq!(code("// crate::x\nuse crate::a;\n#[cfg(test)]\nmod tests {\n"), "use crate::a;\n");
    let module = ["a", "b", "c"].map(str::to_owned);
    let modules = [&module[..1], &module[..2], &module[..]].into();
    for (path, is) in [
        (["super", "B", "C"], 2),
        (["super", "c", "C"], 3),
        (["super", "super", "C"], 1),
        (["crate", "a", "b"], 2),
        (["crate", "x", "b"], 0),
    ] {
        assert_eq!(target(&module, &path, &modules), module[..is], "{path:?}");
    }
}
