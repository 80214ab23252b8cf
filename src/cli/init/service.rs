//! The text of `nats-callout.toml`: the keys that a deployment has to have, and the others as
//! comments with their defaults.

use super::Deployment;
use super::cluster::{replicas, urls};
use crate::deployment::topology::Account;
use crate::keys::AccountId;

pub(super) fn operator(
    deployment: &Deployment,
    id: impl Fn(Account) -> anyhow::Result<AccountId>,
) -> anyhow::Result<String> {
    Ok(format!(
        "{HEAD}\
         [nats]\n\
         mode = \"operator\"\n\
         url = {url}\n\
         {PUBLIC_URL}\
         credentials = \"keys/auth.creds\"\n\
         system_credentials = \"keys/sys.creds\"\n\
         \n\
         [callout]\n\
         account = \"{auth}\"\n\
         {CALLOUT}\
         # Of every key that signs, the first file is in use and the second is listed beside it.\n\
         # `nats-callout keys rotate` changes over from one to the next.\n\
         response_signing = [\"keys/response-signing.nk\", \"keys/response-signing-next.pub\"]\n\
         \n\
         [operator]\n\
         operator_signing = [\"keys/operator-signing.nk\", \"keys/operator-signing-next.pub\"]\n\
         user_signing = [\"keys/user-signing.nk\", \"keys/user-signing-next.pub\"]\n\
         bb_account = \"{bb}\"\n\
         users_account = \"{users}\"\n\
         events_account = \"{events}\"\n\
         answers_account = \"{answers}\"\n\
         # The name of notifications in a tenant's own account: short (Notifications) or full\n\
         # (user.<tenant id>.Notifications).\n\
         # notifications = \"short\"\n\
         \n\
         [intake]\n\
         # Where tenants' events are taken in, and the service's logins there and in USERS.\n\
         account = \"{intake}\"\n\
         credentials = \"keys/intake.creds\"\n\
         users_credentials = \"keys/users.creds\"\n\
         \n\
         [tenants]\n\
         # account: an account for each tenant. shared: the account USERS, for very many tenants.\n\
         # isolation = \"account\"\n\
         \n\
         {tail}",
        url = quote(&urls(deployment)),
        auth = id(Account::Auth)?,
        bb = id(Account::Bb)?,
        users = id(Account::Users)?,
        intake = id(Account::Intake)?,
        events = id(Account::Events)?,
        answers = id(Account::Answers)?,
        tail = tail(deployment),
    ))
}

pub(super) fn config(deployment: &Deployment) -> String {
    format!(
        "{HEAD}\
         [nats]\n\
         mode = \"config\"\n\
         url = {url}\n\
         {PUBLIC_URL}\
         nkey = \"keys/auth.nk\"\n\
         system_nkey = \"keys/sys.nk\"\n\
         \n\
         [callout]\n\
         account = \"AUTH\"\n\
         {CALLOUT}\
         issuer = [\"keys/issuer.nk\"]\n\
         \n\
         [placement]\n\
         # Accounts of nats-server.conf that tenants share; the first is the default.\n\
         accounts = [\"USERS\"]\n\
         # Accounts that are given to one tenant each.\n\
         # dedicated = {{ ALICE = \"42\" }}\n\
         \n\
         [intake]\n\
         # Where tenants' events are taken in, and the service's logins there and in USERS.\n\
         account = \"INTAKE\"\n\
         nkey = \"keys/intake.nk\"\n\
         users_nkey = \"keys/users.nk\"\n\
         \n\
         {tail}",
        url = quote(&urls(deployment)),
        tail = tail(deployment),
    )
}

const HEAD: &str = "# nats-callout: who may log in to nats-server, and what they may do there.\n\
                    # A line that begins with `# key =` shows a default. Every key is overridden by\n\
                    # NATS_CALLOUT_<SECTION>_<KEY>; relative paths start at this file's folder.\n\n";

const PUBLIC_URL: &str = "# The address that apps are told; by default the one above.\n\
                          # public_url = \"nats://nats.example.com:4222\"\n\
                          # connections = 2\n\
                          # Where the servers' certificates are of a private authority, and where\n\
                          # they ask for one (`verify: true`): PEM files.\n\
                          # tls_ca = \"\"\n\
                          # tls_certificate = \"\"\n\
                          # tls_key = \"\"\n";

const CALLOUT: &str = "# Under the server's own authorization timeout of 2 s.\n\
                       # deadline = \"1800ms\"\n\
                       # max_in_flight = 1024\n\
                       # The longest life of a login; the client then reconnects by itself.\n\
                       # ttl = \"15m\"\n\
                       xkey = [\"keys/xkey.nk\"]\n";

fn tail(deployment: &Deployment) -> String {
    format!(
        "[bb]\n\
         # What BB's stream ReceivedEvents may hold, of BB's own share of JetStream storage in\n\
         # nats-server.conf. A tenant that floods loses its own oldest events alone, while\n\
         # messages_per_tenant times message_size is well below max_bytes.\n\
         # messages_per_tenant = 10000\n\
         # message_size = \"64KB\"\n\
         # max_bytes = \"4GB\"\n\
         # max_age = \"7d\"\n\
         # Copies in a cluster.\n\
         {replicas}\n\
         \n\
         [events]\n\
         # CloudEvents of what changes in the tenant table (stream AUTH_EVENTS) and of logins and\n\
         # closed connections (stream AUTH_DECISIONS), in AUTH, read with keys/events.*. Which\n\
         # deployment they come from:\n\
         # source = \"nats-callout\"\n\
         # Logins: \"queue\" publishes them afterwards (what the queue cannot hold is counted and\n\
         # dropped); \"before-grant\" admits nobody whose grant the stream has not taken; or \"off\".\n\
         # decisions = \"queue\"\n\
         # queue = 10000\n\
         # The durable consumers of each stream, for one program each. Another one than these has\n\
         # to be brought within reach of keys/events.*: see deploy/README.md.\n\
         # changes_consumers = [\"events\"]\n\
         # decisions_consumers = [\"decisions\"]\n\
         # What each stream may hold, of AUTH's share of JetStream storage in nats-server.conf.\n\
         # 0 messages is as many as fit.\n\
         # changes_max_bytes = \"1GB\"\n\
         # changes_max_age = \"90d\"\n\
         # changes_max_messages = 0\n\
         # decisions_max_bytes = \"1GB\"\n\
         # decisions_max_age = \"7d\"\n\
         # decisions_max_messages = 0\n\
         {replicas}\n\
         \n\
         [database]\n\
         url = {database}\n\
         # timeout = \"1500ms\"\n\
         \n\
         [cache]\n\
         # ttl = \"30s\"\n\
         # entries = 100000\n\
         # password_idle = \"10m\"\n\
         \n\
         [hashing]\n\
         # 0 is one thread per core.\n\
         # threads = 0\n\
         # queue = 4096\n\
         # rehash = true\n\
         \n\
         [guessing]\n\
         # Wrong passwords within a minute, on one account and from one source (an IPv4 address, a\n\
         # /64 of IPv6), that slow down nobody; 0 counts none. Behind a proxy all come from one.\n\
         # account_failures = 10\n\
         # source_failures = 100\n\
         # Whose JWTs are logins: a table for each issuer.\n\
         # [issuers.keycloak]\n\
         # issuer = \"https://id.example.com/realms/shop\"\n\
         # audience = [\"nats\"]\n\
         # user_claim = \"sub\"\n\
         \n\
         [policies]\n\
         # A folder of your own policies, beside those that are built in.\n\
         # folder = \"\"\n\
         \n\
         [http]\n\
         # /healthz, /readyz and /metrics, for whoever reaches the port; \"\" serves nothing.\n\
         # Several instances on one machine need a port each: NATS_CALLOUT_HTTP_LISTEN.\n\
         # listen = \"127.0.0.1:9222\"\n\
         \n\
         [log]\n\
         # level = \"info\"\n\
         # format = \"text\"\n",
        database = quote(&deployment.database),
        replicas = match replicas(deployment) {
            1 => "# replicas = 1".to_owned(),
            copies => format!("replicas = {copies}"),
        },
    )
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
