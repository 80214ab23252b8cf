//! What nats-server's tests lead one to try: credentials of several kinds at once, a JWT of the
//! client's own, speaking before CONNECT, listening where requests are, and a tenant that is deleted
//! in the middle of a login.

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::basics::REFUSED;
use super::wire::{Wire, verdict};
use super::{Row, Scene, Tenant, tokens};
use crate::harness::client::Login;
use crate::harness::deployment::Mode;

/// The user decides where there is one, else the token; one kind never makes up for another.
pub(super) fn mixed_credentials(scene: &Scene) -> Row {
    let mut row = Row::of("credentials of several kinds", scene.mode());
    let (one, two) = (&scene.one, &scene.two);
    let (name, right) = (one.name(), one.password());
    let stranger = KeyPair::new_user().public_key();
    let account = scene.home(one);
    let (in_, out) = (format!("one-app in {account}"), REFUSED.to_owned());
    for (what, expected, fields) in [
        (
            "password, another's token",
            &in_,
            json!({"user": name, "pass": right, "auth_token": two.token}),
        ),
        (
            "wrong password, own token",
            &out,
            json!({"user": name, "pass": "x", "auth_token": one.token}),
        ),
        ("user, token, no password", &in_, json!({"user": name, "auth_token": one.token})),
        ("no user, password", &out, json!({"pass": right})),
        ("empty user, password", &out, json!({"user": "", "pass": right})),
        ("empty user, token as password", &in_, json!({"user": "", "pass": one.token})),
        ("token, wrong password", &in_, json!({"auth_token": one.token, "pass": "x"})),
        ("user:password as token", &out, json!({"auth_token": format!("{name}:{right}")})),
        ("user only", &out, json!({"user": name})),
        ("password, an unknown nkey", &in_, json!({"user": name, "pass": right, "nkey": stranger})),
        ("user with a NUL", &out, json!({"user": format!("{name}\0"), "pass": right})),
        ("another's password", &out, json!({"user": two.name(), "pass": right})),
    ] {
        row.saw(what, expected, outcome(scene, what, &fields));
    }
    row
}

/// Who a client has become, or the words of its refusal.
fn outcome(scene: &Scene, name: &str, fields: &Value) -> String {
    let mut client = Wire::tcp(scene.port());
    match client.login(name, fields).as_str() {
        "admitted" => scene.who(name),
        words => words.to_owned(),
    }
}

/// A JWT that the client sends is no way in, and no way round the service.
pub(super) async fn own_jwt(scene: &mut Scene) -> Row {
    let mut row = Row::of("a JWT of the client's own", scene.mode());
    let (user, account) = (KeyPair::new_user(), KeyPair::new_account());
    let placed = format!("one-app in {}", scene.home(&scene.one));
    let app = scene.one.app.connect_fields();
    verdict(scene.port(), "before the jwts", &Login::Nothing);
    scene.tap.asked("before the jwts").await;
    let mut bearer = tokens::user("stranger", &user, &account.public_key(), &account);
    bearer["nats"]["bearer_token"] = json!(true);
    let forged = tokens::sign(bearer, &account);
    let mut jwts = vec![("garbage", "a.b.c".to_owned(), true), ("a stranger's", forged, false)];
    if scene.mode() == Mode::Operator {
        let sentinel = tokens::configured(&scene.deployment, "default_sentinel");
        jwts.push(("the sentinel's", sentinel, true));
        jwts.push(("the service's", tokens::jwt_of(&scene.deployment, "auth.creds"), false));
        jwts.push(("BB's", tokens::jwt_of(&scene.deployment, "bb.creds"), false));
    }
    for (what, jwt, is_delegated) in jwts {
        // Without an operator nobody looks at it.
        let delegated = is_delegated || scene.mode() == Mode::Config;
        let mut fields = json!({"jwt": jwt});
        row.saw(what, REFUSED, outcome(scene, "jwt alone", &fields));
        fields["user"] = app["user"].clone();
        fields["pass"] = app["pass"].clone();
        let expected = if delegated { placed.as_str() } else { REFUSED };
        row.saw("with a password", expected, outcome(scene, "jwt and password", &fields));
        verdict(scene.port(), "after the jwts", &Login::Nothing);
        let (_, asked) = scene.tap.asked_after("after the jwts").await;
        row.saw("requests", if delegated { 2 } else { 0 }, asked);
    }
    row
}

/// Without a `no_auth_user` nobody has a say before CONNECT.
pub(super) async fn speaks_first(scene: &mut Scene) -> Row {
    let mut row = Row::of("protocol before CONNECT", scene.mode());
    verdict(scene.port(), "before", &Login::Nothing);
    scene.tap.asked("before").await;
    for (what, line) in
        [("PING", "PING\r\n"), ("SUB", "SUB > 1\r\n"), ("PUB", "PUB Events 1\r\nx\r\n")]
    {
        let mut client = Wire::tcp(scene.port());
        client.send(line);
        row.saw(what, REFUSED, client.verdict());
    }
    verdict(scene.port(), "after", &Login::Nothing);
    let (_, asked) = scene.tap.asked_after("after").await;
    row.saw("requests", 0, asked);
    row
}

/// A tenant's admin listens and speaks where servers and the service do.
pub(super) async fn another_tenants_reach(scene: &mut Scene) -> Row {
    let mut row = Row::of("a bystander in a tenant's account", scene.mode());
    let mut client = Wire::tcp(scene.port());
    let mut fields = scene.two.admin.connect_fields();
    fields["echo"] = json!(false);
    row.saw("admin", "admitted", client.login("bystander", &fields));
    client.send(
        "SUB $SYS.REQ.USER.AUTH 1\r\nSUB $SYS.REQ.USER.AUTH nats-callout 2\r\nSUB $SYS._INBOX.> 3\r\n\
         PING\r\n",
    );
    let mut said = until_pong(&mut client);
    for login in [scene.one.app.clone(), Login::password("nobody", "wrong")] {
        verdict(scene.port(), "heard", &login);
        let (asked, answered) = scene.tap.exchange("heard").await;
        // Into the ears of a server that still waits, had it come this far.
        let payload = String::from_utf8_lossy(&answered.payload).into_owned();
        client.send(&format!("PUB {} {}\r\n{payload}\r\n", asked.reply, payload.len()));
    }
    client.send("PING\r\n");
    said.extend(until_pong(&mut client));
    let heard = said.iter().filter(|line| line.starts_with("MSG")).count();
    row.saw("heard", 0, heard);
    let denied = said.iter().filter(|line| line.contains("Permissions Violation")).count();
    let expected = match scene.mode() {
        // In its own account it may, and nobody is there.
        Mode::Operator => 0,
        Mode::Config => 5,
    };
    row.saw("denied", expected, denied);
    row
}

fn until_pong(client: &mut Wire) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match client.line() {
            Some(line) if line == "PONG" => return lines,
            Some(line) => lines.push(line),
            None => panic!("closed after {lines:?}"),
        }
    }
}

/// The request is made, the tenant deleted, the request answered.
pub(super) async fn deleted_during_connect(scene: &mut Scene) -> Row {
    let mut row = Row::of("a tenant deleted during a login", scene.mode());
    let port = scene.port();
    // Known by the service before, and not.
    for (known, id) in [(true, "known"), (false, "unknown")] {
        let tenant = Tenant::add(&scene.deployment, id);
        if known {
            row.saw(id, "admitted", verdict(port, "early", &tenant.app));
        }
        scene.deployment.freeze(&scene.deployment.service);
        let mut client = Wire::tcp(port);
        client.offer(id, &tenant.app.connect_fields());
        scene.tap.asked(id).await;
        scene.deployment.sql(&format!("DELETE FROM tenants WHERE id = '{id}';"));
        scene.deployment.service.thaw();
        // By what it knew it may let the client in, and has to put it out then.
        if client.verdict() == "admitted" {
            client.end();
        }
        row.saw("in the end", "not connected", scene.gone(id));
        row.saw("again", REFUSED, verdict(port, "again", &tenant.app));
    }
    row.saw("another tenant", "admitted", verdict(port, "other", &scene.two.app));
    row
}
