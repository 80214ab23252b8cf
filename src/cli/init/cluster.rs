//! The servers that a deployment has: one, or the nodes of a cluster, which differ in their names
//! alone. Routes carry a password, since whoever can open one is part of the cluster.

use std::str::FromStr;

use super::conf::quote;
use super::{Deployment, HostPort, Usage};
use crate::authn::random;

/// The port of routes where none is named.
const ROUTE_PORT: u16 = 6_222;

/// How many copies of a stream a cluster keeps at most.
const MAX_REPLICAS: usize = 3;

/// Where a node's peers reach it: HOST or HOST:PORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Route(HostPort);

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let has_port = text.rsplit_once(':').is_some_and(|(_, end)| !end.ends_with(']'));
        let text = if has_port { text.to_owned() } else { format!("{text}:{ROUTE_PORT}") };
        text.parse().map(Self)
    }
}

/// One server: its name, the file with its configuration, and its part in a cluster.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) cluster: String,
}

/// Refuses what is no cluster, or one that nobody can reach.
pub(super) fn check(routes: &[Route], listen: &HostPort) -> Result<(), Usage> {
    let hosts = || routes.iter().map(|route| route.0.host.as_str());
    if routes.len() == 1 {
        return Err(Usage("--cluster names one host; name at least two, or leave it out".into()));
    }
    if let Some(twice) = hosts().find(|host| hosts().filter(|other| other == host).count() > 1) {
        return Err(Usage(format!(
            "--cluster names {twice} twice; the nodes have the same ports, so give each its host"
        )));
    }
    let is_local = |host: &str| host == "localhost" || host == "[::1]" || host.starts_with("127.");
    if is_local(&listen.host) && !hosts().all(is_local) {
        return Err(Usage(format!(
            "other hosts cannot reach --listen {listen}; write --listen 0.0.0.0:{}",
            listen.port
        )));
    }
    Ok(())
}

/// How many copies of the service's own streams there are.
pub(super) fn replicas(deployment: &Deployment) -> usize {
    deployment.options.cluster.len().clamp(1, MAX_REPLICAS)
}

/// The servers' addresses for clients, and those of the service among them.
pub(super) fn urls(deployment: &Deployment) -> String {
    let listen = &deployment.options.listen;
    if deployment.options.cluster.is_empty() {
        return format!("nats://{}", listen.reachable());
    }
    let url = |route: &Route| format!("nats://{}:{}", route.0.host, listen.port);
    deployment.options.cluster.iter().map(url).collect::<Vec<_>>().join(",")
}

/// The servers to write a configuration for.
pub(super) fn nodes(deployment: &Deployment) -> anyhow::Result<Vec<Node>> {
    let routes = &deployment.options.cluster;
    if routes.is_empty() {
        let (name, file) = ("nats-1".to_owned(), "nats-server.conf".to_owned());
        return Ok(vec![Node { name, file, cluster: String::new() }]);
    }
    let password = random::generate_password()?;
    let password = password.expose();
    let listed: String = routes
        .iter()
        .map(|route| {
            format!("        {}\n", quote(&format!("nats://route:{password}@{}", route.0)))
        })
        .collect();
    let node = |(at, route): (usize, &Route)| Node {
        name: format!("nats-{}", at + 1),
        file: format!("nats-server-{}.conf", at + 1),
        cluster: format!(
            "\n\
             # Whoever has this password and reaches the port is part of the cluster: keep both\n\
             # private. Over a network that is not yours, add a `tls` block, with `verify: true`.\n\
             cluster {{\n    \
                 name: \"nats\"\n    \
                 listen: {listen}\n    \
                 authorization {{ user: \"route\", password: {password} }}\n    \
                 routes: [\n{listed}    ]\n\
             }}\n",
            listen = quote(&route.listen(&deployment.options.listen)),
            password = quote(password),
        ),
    };
    Ok(routes.iter().enumerate().map(node).collect())
}

impl Route {
    /// Routes are heard on the address on which clients are.
    fn listen(&self, clients: &HostPort) -> String {
        format!("{}:{}", clients.host, self.0.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_a_port() {
        for (text, is) in [
            ("n1", "n1:6222"),
            ("n1:7222", "n1:7222"),
            ("10.0.0.1", "10.0.0.1:6222"),
            ("[fd00::1]", "[fd00::1]:6222"),
            ("[fd00::1]:7222", "[fd00::1]:7222"),
        ] {
            assert_eq!(text.parse::<Route>().unwrap().0.to_string(), is);
        }
        for text in ["", "n 1", "n1:0", "fd00::1", "n1:port"] {
            assert!(text.parse::<Route>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cluster_has_several_hosts_that_clients_reach() {
        let check = |hosts: &[&str], listen: &str| {
            let routes: Vec<Route> = hosts.iter().map(|host| host.parse().unwrap()).collect();
            check(&routes, &listen.parse().unwrap())
        };
        check(&[], "127.0.0.1:4222").unwrap();
        check(&["n1", "n2"], "0.0.0.0:4222").unwrap();
        check(&["127.0.0.1", "127.0.0.2"], "127.0.0.1:4222").unwrap();
        check(&["n1"], "0.0.0.0:4222").unwrap_err();
        check(&["n1", "n1:7222"], "0.0.0.0:4222").unwrap_err();
        check(&["n1", "n2"], "127.0.0.1:4222").unwrap_err();
    }
}
