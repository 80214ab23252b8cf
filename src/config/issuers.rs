//! `[issuers.NAME]`: whose JWTs are logins, where their keys are, and whom they admit.

use std::collections::BTreeMap;

use super::reader::{Reader, or_set};
use crate::authn::jwt::{
    Algorithm, IntrospectionSettings, IssuerSettings, KeyLocation, PolicyClaim, TenantOf, Users,
    Way, check_proxy, check_url,
};
use crate::protocol::credentials::{Secret, TOKEN_PREFIX};
use crate::store::{TenantId, UserKind};

/// What public keys may be used with unless the configuration says otherwise.
const OF_KEY_SETS: [Algorithm; 5] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];

/// What shared secrets may be used with.
const OF_SECRETS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// What a preset writes: a pod's own ServiceAccount token shows the way to the cluster's keys and says whose
/// it is (kubernetes.io, "Managing Service Accounts", on bound tokens).
const KUBERNETES: [(&str, &str); 7] = [
    ("issuer", "https://kubernetes.default.svc.cluster.local"),
    ("jwks_url", "https://kubernetes.default.svc/openid/v1/jwks"),
    ("ca_file", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"),
    ("bearer_file", "/var/run/secrets/kubernetes.io/serviceaccount/token"),
    ("user_claim", "kubernetes.io.serviceaccount.name"),
    ("tenant_claim", "kubernetes.io.namespace"),
    ("users", "policy"),
];

const SOURCES: &str = "write one of discovery = true, jwks_url, jwks_file and secret";

/// How long the beginning of tokens is: a shorter one has too many passwords with it.
const PREFIX_LENGTHS: std::ops::RangeInclusive<usize> = 4..=64;

pub(super) fn issuers(reader: &mut Reader) -> Vec<IssuerSettings> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut issuers = Vec::new();
    for name in reader.named_tables() {
        let Some(settings) = Table { reader, name: &name }.settings() else { continue };
        let key = format!("issuers.{name}.issuer");
        if let Some(other) = known.insert(settings.issuer.clone(), name) {
            reader.wrong(
                &key,
                format!("is the issuer of [issuers.{other}] too"),
                "give each issuer one table, with its keys and its `introspection_url`: `iss` has to tell which \
                 rules hold",
            );
        }
        issuers.push(settings);
    }
    check_prefixes(reader, &issuers);
    issuers
}

/// A token is shown to one issuer alone, so that the same beginning must not lead to two.
fn check_prefixes(reader: &mut Reader, issuers: &[IssuerSettings]) {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    let prefixes = issuers.iter().filter_map(|it| Some((it.introspection.as_ref()?, &it.name)));
    for (introspection, name) in prefixes {
        let Some(other) = known.insert(&introspection.prefix, name) else { continue };
        let (key, what) = match introspection.prefix.as_str() {
            "" => ("introspection_url", "is asked about tokens with any beginning".to_owned()),
            prefix => ("token_prefix", format!("is asked about tokens that begin with `{prefix}`")),
        };
        reader.wrong(
            &format!("issuers.{name}.{key}"),
            format!("[issuers.{other}] {what} too"),
            "write the token_prefix that the tokens of each begin with: a token is shown to one issuer \
             alone",
        );
    }
}

struct Table<'a, 't> {
    reader: &'a mut Reader<'t>,
    name: &'a str,
}

impl Table<'_, '_> {
    fn key(&self, key: &str) -> String {
        format!("issuers.{}.{key}", self.name)
    }

    fn has(&self, key: &str) -> bool {
        self.reader.has(&self.key(key))
    }

    fn wrong(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.reader.wrong(&self.key(key), what, remedy);
    }

    fn text(&mut self, key: &str, remedy: &str) -> Option<String> {
        self.reader.parsed(&self.key(key), remedy, |text| {
            if text.trim().is_empty() { Err("empty".to_owned()) } else { Ok(text.to_owned()) }
        })
    }

    /// A list of texts, none of which is empty.
    fn list(&mut self, key: &str, remedy: &str) -> Vec<String> {
        let list = self.reader.list(&self.key(key));
        if list.iter().any(|entry| entry.trim().is_empty()) {
            self.wrong(key, "an empty text in the list", remedy);
        }
        list
    }

    /// Writes what a preset says and the table does not. Another place of the keys, or a fixed tenant, takes the
    /// place of its own.
    fn preset(&mut self) {
        let key = self.key("preset");
        let remedy = "write \"kubernetes\", or remove it";
        let known = self.reader.parsed(&key, remedy, |name| match name {
            "kubernetes" => Ok(KUBERNETES),
            _ => Err(format!("there is no preset `{name}`")),
        });
        let has_place = ["discovery", "jwks_file", "secret"].iter().any(|key| self.has(key));
        let has_tenant = self.has("tenant");
        for (key, value) in known.into_iter().flatten() {
            let is_of_place = ["jwks_url", "ca_file", "bearer_file"].contains(&key);
            let is_replaced = is_of_place && has_place || key == "tenant_claim" && has_tenant;
            if !is_replaced && !self.has(key) {
                self.reader.write_preset(&self.key(key), value);
            }
        }
    }

    fn settings(&mut self) -> Option<IssuerSettings> {
        self.preset();
        let issuer_remedy = "write the exact `iss` of its JWTs, such as \
                             \"https://id.example.com/realms/shop\"";
        self.reader.missing(&self.key("issuer"), issuer_remedy);
        let issuer = self.text("issuer", issuer_remedy).unwrap_or_default();
        let keys = self.keys(&issuer);
        let introspection = self.introspection();
        let audience_remedy = "list what its JWTs for this service have in `aud`: [\"nats\"]";
        self.reader.missing(&self.key("audience"), audience_remedy);
        let audience = self.list("audience", audience_remedy);
        self.reader.empty(&self.key("audience"), audience_remedy);
        let claim = "write the name of a claim, such as \"preferred_username\"";
        let audience_claim = self.text("audience_claim", claim).unwrap_or_default();
        let algorithms = self.algorithms(matches!(keys, Some(KeyLocation::Secret(_))));
        let leeway = self.reader.duration(&self.key("leeway"));
        let user_claim = self.text("user_claim", claim).unwrap_or_default();
        let words = "write \"own\" or \"any\"";
        let any_name = self.reader.word(&self.key("user_name"), words) == "any";
        let claims = self.list("claims", "list names of claims: [\"realm_access.roles\"]");
        let split = self.list("split", "list names of claims: [\"scope\"]");
        let words = "write \"refuse\" or \"drop\"";
        let drops_unusable = self.reader.word(&self.key("unusable_values"), words) == "drop";
        let tenant = self.tenant();
        let users = self.users(tenant.is_some());
        let keys = keys?;
        let name = self.name.to_owned();
        Some(IssuerSettings {
            name,
            issuer,
            keys,
            introspection,
            audience,
            audience_claim,
            algorithms,
            leeway,
            user_claim,
            any_name,
            claims,
            split,
            drops_unusable,
            tenant,
            users,
        })
    }

    fn keys(&mut self, issuer: &str) -> Option<KeyLocation> {
        let others: Vec<&str> =
            ["jwks_url", "jwks_file", "secret"].into_iter().filter(|key| self.has(key)).collect();
        let key = self.key("discovery");
        let is_asked = self.has("introspection_url");
        let discovery = self.reader.switch(&key).unwrap_or(others.is_empty() && !is_asked);
        let (first, more) = (others.first().copied(), others.get(1).copied());
        if let Some(other) = more.or(first.filter(|_| discovery)) {
            self.wrong(other, "another place of the keys is written too", SOURCES);
        } else if first.is_none() && !discovery && is_asked {
            return Some(KeyLocation::None);
        } else if first.is_none() && !discovery {
            self.wrong("discovery", "no place of the keys is left", SOURCES);
            return None;
        }
        let way = self.way(matches!(first, None | Some("jwks_url")) || is_asked);
        Some(match first {
            None => {
                // A missing issuer is a mistake already.
                if let Err(error) = check_url(issuer, way.insecure_http)
                    && !issuer.is_empty()
                {
                    let remedy = "write an https URL, or name the keys by jwks_url, jwks_file or \
                                  secret";
                    self.wrong("issuer", format!("`{issuer}`: {error}"), remedy);
                }
                KeyLocation::Discovery(way)
            }
            Some("jwks_url") => {
                let remedy = "write the https URL of its JWK set";
                let url = self.reader.parsed(&self.key("jwks_url"), remedy, |url| {
                    let checked = check_url(url, way.insecure_http);
                    checked.map(|()| url.to_owned()).map_err(|error| error.to_string())
                });
                KeyLocation::Url(url.unwrap_or_default(), way)
            }
            Some("jwks_file") => KeyLocation::File(self.reader.file(&self.key("jwks_file"))),
            Some(_) => {
                let files = self.reader.generations(&self.key("secret"));
                self.reader.empty(&self.key("secret"), "list one or two files");
                KeyLocation::Secret(files)
            }
        })
    }

    /// How it is asked about tokens.
    fn introspection(&mut self) -> Option<IntrospectionSettings> {
        if !self.has("introspection_url") {
            for key in ["client_id", "client_secret", "token_prefix"] {
                if self.has(key) {
                    let remedy = "write introspection_url, or remove it";
                    self.wrong(key, "the issuer is asked about no token", remedy);
                }
            }
            return None;
        }
        let way = self.way(true);
        let remedy = "write the https URL of its introspection endpoint";
        let url = self.reader.parsed(&self.key("introspection_url"), remedy, |url| {
            let checked = check_url(url, way.insecure_http);
            checked.map(|()| url.to_owned()).map_err(|error| error.to_string())
        });
        let id = self.text("client_id", "write the id of a client that may ask");
        let secret = self.text("client_secret", "write the client's secret").map(Secret::new);
        let has_id = self.has("client_id");
        let is_told = ["client_id", "client_secret"].map(|it| self.reader.is_wrong(&self.key(it)));
        if is_told.contains(&true) {
            // What cannot be read is no missing one.
        } else if has_id != self.has("client_secret") {
            let (there, other) = match has_id {
                true => ("client_id", "client_secret"),
                false => ("client_secret", "client_id"),
            };
            let or_set = or_set(&self.key(other));
            self.wrong(
                there,
                format!("there is no {other}"),
                format!("write both of them, {or_set}"),
            );
        } else if !has_id && way.bearer_file.is_none() {
            let remedy = "write client_id and client_secret, or bearer_file";
            self.wrong("introspection_url", "nothing is shown to it that says who asks", remedy);
        }
        let (least, most) = (PREFIX_LENGTHS.start(), PREFIX_LENGTHS.end());
        let remedy = format!("write {least} to {most} characters that its tokens begin with");
        let prefix = self.reader.parsed(&self.key("token_prefix"), &remedy, |text| {
            let is_text = text.bytes().all(|byte| byte.is_ascii_graphic());
            match text {
                _ if !is_text || !PREFIX_LENGTHS.contains(&text.len()) => {
                    Err("no beginning of tokens".to_owned())
                }
                _ if text.starts_with("eyJ") => {
                    Err("JWTs begin with eyJ, of whatever issuer".to_owned())
                }
                _ if text.starts_with(TOKEN_PREFIX) => {
                    Err(format!("tokens that begin with {TOKEN_PREFIX} are this service's"))
                }
                _ => Ok(text.to_owned()),
            }
        });
        let (url, prefix) = (url.unwrap_or_default(), prefix.unwrap_or_default());
        Some(IntrospectionSettings { url, prefix, client: id.zip(secret), way })
    }

    /// How its server is asked.
    fn way(&mut self, is_fetched: bool) -> Way {
        for key in ["ca_file", "bearer_file", "proxy", "insecure_http"] {
            if !is_fetched && self.has(key) {
                let what = "its keys are fetched from no server, nor is it asked about tokens";
                self.wrong(key, what, "remove it");
            }
        }
        let mut file = |key| self.has(key).then(|| self.reader.file(&self.key(key)));
        let (ca_file, bearer_file) = (file("ca_file"), file("bearer_file"));
        let remedy = "write http://HOST:PORT or https://HOST:PORT";
        let proxy = self.reader.parsed(&self.key("proxy"), remedy, |url| {
            check_proxy(url).map(|()| Secret::new(url.to_owned()))
        });
        let insecure_http = self.reader.switch(&self.key("insecure_http")).unwrap_or(false);
        Way { ca_file, bearer_file, proxy, insecure_http }
    }

    fn algorithms(&mut self, by_secret: bool) -> Vec<Algorithm> {
        let (kind, allowed): (_, Vec<Algorithm>) = if by_secret {
            ("a shared secret", OF_SECRETS.to_vec())
        } else {
            let others = [Algorithm::RS384, Algorithm::RS512, Algorithm::PS384, Algorithm::PS512];
            ("public keys", OF_KEY_SETS.into_iter().chain(others).collect())
        };
        let named = |list: &[Algorithm]| {
            list.iter().map(|it| format!("{it:?}")).collect::<Vec<_>>().join(", ")
        };
        let remedy = format!("choose out of {}", named(&allowed));
        if !self.has("algorithms") {
            return if by_secret { vec![Algorithm::HS256] } else { OF_KEY_SETS.to_vec() };
        }
        self.reader.empty(&self.key("algorithms"), &remedy);
        let mut algorithms = Vec::new();
        for name in self.list("algorithms", &remedy) {
            match name.parse() {
                Ok(algorithm) if allowed.contains(&algorithm) => algorithms.push(algorithm),
                _ => self.wrong(
                    "algorithms",
                    format!("`{name}` is no algorithm for {kind}"),
                    &*remedy,
                ),
            }
        }
        algorithms
    }

    fn tenant(&mut self) -> Option<TenantOf> {
        if self.has("tenant") && self.has("tenant_claim") {
            let remedy = "write one of tenant and tenant_claim";
            self.wrong("tenant_claim", "the tenant is written too", remedy);
        }
        let fixed = self.reader.parsed(&self.key("tenant"), "write a tenant's id", |id| {
            id.parse::<TenantId>().map_err(|error| format!("`{id}` is none: {error}"))
        });
        let claim = "write the name of the claim that holds the tenant's id";
        fixed.map(TenantOf::Fixed).or_else(|| self.text("tenant_claim", claim).map(TenantOf::Claim))
    }

    fn users(&mut self, has_tenant: bool) -> Users {
        let remedy = "write \"table\" (users that have a row) or \"policy\" (others too)";
        let key = self.key("users");
        let by_policy = self.reader.word(&key, remedy) == "policy";
        let kind = self.reader.parsed(&self.key("kind"), "write \"bb\" or \"service\"", str::parse);
        let policy = self.text("policy", "write a policy's name");
        let by_claim = self.policy_claim();
        if by_policy {
            if !has_tenant && !self.has("tenant") && !self.has("tenant_claim") {
                let remedy = "write tenant = \"ID\", or tenant_claim = \"CLAIM\"";
                self.wrong("users", "nothing says which tenant such users belong to", remedy);
            }
            return Users::Policy { kind: kind.unwrap_or(UserKind::Bb), policy, by_claim };
        }
        for key in ["kind", "policy", "policy_claim"] {
            if self.has(key) {
                self.wrong(key, "a user's row says it", "remove it, or write users = \"policy\"");
            }
        }
        Users::Table
    }

    /// What chooses the policy of users without a row.
    fn policy_claim(&mut self) -> Option<PolicyClaim> {
        let claim = self.text("policy_claim", "write the name of a claim, such as \"roles\"");
        let remedy = "list them as [\"VALUE=POLICY\"], the one that goes first before the others";
        let mut policies = Vec::new();
        for entry in self.list("policies", remedy) {
            let halves =
                entry.rsplit_once('=').map(|(value, policy)| (value.trim(), policy.trim()));
            match halves {
                Some((value, policy)) if !value.is_empty() && !policy.is_empty() => {
                    policies.push((value.to_owned(), policy.to_owned()));
                }
                _ => self.wrong("policies", format!("`{entry}` is no VALUE=POLICY"), remedy),
            }
        }
        match claim {
            Some(_) if policies.is_empty() => {
                self.wrong("policy_claim", "no value of it has a policy", remedy);
            }
            None if !policies.is_empty() => {
                let remedy = "write policy_claim = \"CLAIM\"";
                self.wrong("policies", "nothing says which claim chooses", remedy);
            }
            _ => {}
        }
        claim.map(|claim| PolicyClaim { claim, policies })
    }
}

#[cfg(test)]
mod tests;
