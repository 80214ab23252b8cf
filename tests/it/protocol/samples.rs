//! Random claims of every kind, in the form in which the program itself makes them.

use nats_callout::callout::ClientInfo;
use nats_callout::internals::{
    AccountBody, AccountLimits, AuthorizationRequestBody, AuthorizationResponseBody, Claims,
    ClientTls, ConnectOptions, Export, ExportType, ExternalAuthorization, Import, NO_LIMIT,
    OperatorBody, OperatorId, Permission, Permissions, ResponsePermission, ServerId, ServerInfo,
    UserBody,
};
use nats_callout::keys::{AccountId, KeyKind, SigningKey, UserNkey, XKey};
use proptest::array::uniform10;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// A fresh key of a kind.
pub(super) fn key(kind: KeyKind) -> SigningKey {
    SigningKey::generate(kind).expect("a key").0
}

/// A fresh public key.
pub(super) fn account_id() -> AccountId {
    key(KeyKind::Account).public().expect("an account key")
}

pub(super) fn user_nkey() -> UserNkey {
    key(KeyKind::User).public().expect("a user key")
}

fn account() -> impl Strategy<Value = AccountId> {
    Just(()).prop_map(|()| account_id())
}

fn user() -> impl Strategy<Value = UserNkey> {
    Just(()).prop_map(|()| user_nkey())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), any::<String>(), "[ -~]{0,40}"]
}

fn some_text() -> impl Strategy<Value = String> {
    text().prop_map(|text| if text.is_empty() { "x".to_owned() } else { text })
}

fn limit() -> impl Strategy<Value = i64> {
    prop_oneof![Just(NO_LIMIT), Just(0), any::<i64>()]
}

fn permission() -> impl Strategy<Value = Permission> {
    (vec(text(), 0..4), vec(text(), 0..4)).prop_map(|(allow, deny)| Permission { allow, deny })
}

fn permissions() -> impl Strategy<Value = Permissions> {
    let responses =
        option::of(any::<(i64, i64)>().prop_map(|(max, ttl)| ResponsePermission { max, ttl }));
    (permission(), permission(), responses)
        .prop_map(|(publish, subscribe, responses)| Permissions { publish, subscribe, responses })
}

fn with_claims<B: std::fmt::Debug>(
    body: impl Strategy<Value = B>,
) -> impl Strategy<Value = Claims<B>> {
    let time = || any::<i64>().prop_map(|time| if time == 0 { 1 } else { time });
    (
        option::of(some_text()),
        option::of(time()),
        any::<i64>(),
        option::of(some_text()),
        text(),
        body,
    )
        .prop_map(|(audience, expires, issued_at, name, subject, body)| Claims {
            audience,
            expires,
            issued_at,
            name,
            not_before: None,
            subject,
            body,
        })
}

pub(super) fn users() -> impl Strategy<Value = Claims<UserBody>> {
    let types = vec(text(), 0..3);
    let limits = (limit(), limit(), limit());
    let body = (permissions(), limits, any::<bool>(), types, option::of(account()));
    with_claims(body.prop_map(
        |(permissions, limits, bearer_token, allowed_connection_types, issuer_account)| UserBody {
            permissions,
            subs: limits.0,
            data: limits.1,
            payload: limits.2,
            bearer_token,
            allowed_connection_types,
            issuer_account,
        },
    ))
}

fn direction() -> impl Strategy<Value = ExportType> {
    prop_oneof![Just(ExportType::Stream), Just(ExportType::Service)]
}

fn limits() -> impl Strategy<Value = AccountLimits> {
    (vec(limit(), 11), any::<bool>()).prop_map(|(counts, wildcards)| AccountLimits {
        subs: counts[0],
        data: counts[1],
        payload: counts[2],
        imports: counts[3],
        exports: counts[4],
        wildcards,
        conn: counts[5],
        leaf: counts[6],
        mem_storage: counts[7],
        disk_storage: counts[8],
        streams: counts[9],
        consumer: counts[10],
    })
}

pub(super) fn accounts() -> impl Strategy<Value = Claims<AccountBody>> {
    let import = (option::of(text()), text(), account(), option::of(text()), direction()).prop_map(
        |(name, subject, account, local_subject, kind)| Import {
            name,
            subject,
            account,
            local_subject,
            kind,
        },
    );
    let answers = (option::of(text()), option::of(1..i64::MAX as u64));
    let export = (option::of(text()), text(), direction(), any::<bool>(), answers).prop_map(
        |(name, subject, kind, token_req, (response_type, response_threshold))| Export {
            name,
            subject,
            kind,
            token_req,
            response_type,
            response_threshold,
        },
    );
    let xkey = Just(()).prop_map(|()| *XKey::generate().expect("a key").0.public_key());
    let authorization = (vec(user(), 0..3), vec(text(), 0..3), option::of(xkey)).prop_map(
        |(auth_users, allowed_accounts, xkey)| ExternalAuthorization {
            auth_users,
            allowed_accounts,
            xkey,
        },
    );
    let body = (
        vec(import, 0..4),
        vec(export, 0..4),
        limits(),
        vec(account(), 0..3),
        btree_map(text(), any::<i64>(), 0..4),
        permissions(),
        authorization,
    );
    with_claims(body.prop_map(
        |(imports, exports, limits, signing_keys, revocations, permissions, authorization)| {
            AccountBody {
                imports,
                exports,
                limits,
                signing_keys,
                revocations,
                default_permissions: permissions,
                authorization,
            }
        },
    ))
}

pub(super) fn operators() -> impl Strategy<Value = Claims<OperatorBody>> {
    let operator = Just(())
        .prop_map(|()| key(KeyKind::Operator).public::<OperatorId>().expect("an operator key"));
    let body = (vec(operator, 0..3), option::of(account()), any::<bool>());
    with_claims(body.prop_map(|(signing_keys, system_account, strict_signing_key_usage)| {
        OperatorBody { signing_keys, system_account, strict_signing_key_usage }
    }))
}

pub(super) fn requests() -> impl Strategy<Value = Claims<AuthorizationRequestBody>> {
    let tls = (text(), text(), vec(text(), 0..3), vec(vec(text(), 0..3), 0..3)).prop_map(
        |(version, cipher, unverified_certs, verified_chains)| ClientTls {
            version,
            cipher,
            unverified_certs,
            verified_chains,
        },
    );
    let words = || uniform10(text());
    let body = (words(), words(), words(), vec(text(), 0..3), any::<u64>(), any::<i64>());
    with_claims((body, option::of(tls)).prop_map(
        |((server, client, connect, tags, id, protocol), client_tls)| {
            let [name, host, server_id, version, cluster, xkey, user_nkey, request_nonce, ..] =
                server;
            let server = ServerInfo {
                name,
                host,
                id: server_id,
                version,
                cluster,
                tags: tags.clone(),
                xkey,
            };
            let [host, user, name, name_tag, kind, connection_type, mqtt_id, nonce, ..] = client;
            let client_info = ClientInfo {
                host,
                id,
                user,
                name,
                tags,
                name_tag,
                kind,
                connection_type,
                mqtt_id,
                nonce,
            };
            let [jwt, nkey, signature, auth_token, user, password, name, lang, version, ..] =
                connect;
            let connect_opts = ConnectOptions {
                jwt,
                nkey,
                signature,
                auth_token,
                user,
                password,
                name,
                lang,
                version,
                protocol,
            };
            AuthorizationRequestBody {
                server,
                user_nkey,
                client_info,
                connect_opts,
                client_tls,
                request_nonce,
            }
        },
    ))
}

pub(super) fn responses() -> impl Strategy<Value = Claims<AuthorizationResponseBody>> {
    let body = (option::of(some_text()), option::of(some_text()), option::of(account()));
    with_claims(body.prop_map(|(jwt, error, issuer_account)| AuthorizationResponseBody {
        jwt,
        error,
        issuer_account,
    }))
}

/// The public key of a fresh server.
pub(super) fn server_id() -> ServerId {
    key(KeyKind::Server).public().expect("a server key")
}
