//! The parts of `nats-server.conf` that both modes share.

use super::Deployment;
use super::cluster::{Node, replicas};
use super::conf::{quote, quote_path};
use crate::config::units::format_size;
use crate::deployment::topology::Account;

/// Everything but the accounts.
pub(super) fn head(deployment: &Deployment, node: &Node, versions: &str) -> String {
    let shares = Account::CONFIG.map(|account| account.share(replicas(deployment)));
    let own_memory: u64 = shares.iter().map(|share| share.memory).sum();
    let own_storage: u64 = shares.iter().map(|share| share.storage).sum();
    let mut text = format!(
        "# nats-server ({versions}) with auth callout to nats-callout.\n\
         # Run it with: nats-server -c {conf}\n\
         \n\
         # Unique in a cluster.\n\
         server_name: {name}\n\
         listen: {listen}\n\
         # Monitoring, for /varz, /connz and /healthz: no login, so keep it private.\n\
         http: {monitor}\n\
         \n\
         # A client that is silent for 40 to 80 s is given up. An instance of nats-callout that\n\
         # hangs is closed by the other instances long before.\n\
         ping_interval: \"20s\"\n\
         ping_max: 2\n",
        conf = deployment.folder.join(&node.file).display(),
        name = quote(&node.name),
        listen = quote(&deployment.options.listen.to_string()),
        monitor = quote(&deployment.options.monitor.to_string()),
    );
    if let Some(connections) = deployment.options.max_connections {
        text.push_str(&format!("max_connections: {connections}\n"));
    }
    if let Some(payload) = deployment.options.max_payload {
        text.push_str(&format!("max_payload: {payload}\n"));
    }
    text.push_str(&node.cluster);
    text.push_str(&format!(
        "\n\
         # The maxima are ceilings for the sum of all accounts' limits, not a reservation: JetStream\n\
         # admits a tenant only while its limits fit in. They are {memory} of memory and {storage}\n\
         # of storage for the tenants, and {own_memory} and {own_storage} on top for the accounts\n\
         # AUTH (the service's events) and BB. A full disk is another matter: watch it.\n\
         jetstream {{\n    \
             store_dir: {store}\n    \
             max_mem: {max_mem}\n    \
             max_file: {max_file}\n\
         }}\n",
        memory = format_size(deployment.options.max_memory),
        storage = format_size(deployment.options.max_storage),
        own_memory = format_size(own_memory),
        own_storage = format_size(own_storage),
        store = quote_path(&deployment.folder.join("jetstream")),
        max_mem = deployment.options.max_memory.saturating_add(own_memory),
        max_file = deployment.options.max_storage.saturating_add(own_storage),
    ));
    text
}
