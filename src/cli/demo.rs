//! The tenant `demo` of `up`, and the lines that a person pastes to connect as its admin.

use std::path::Path;

use anyhow::Context as _;

use super::database::explain;
use super::env_file::{self, Login};
use super::output::note;
use super::{Context, url};
use crate::admin::{Password, tenants};
use crate::store::{NewTenant, TenantId};

const DEMO: &str = "demo";

/// Makes the tenant where it is missing, and returns its login, which is kept in a file since a
/// password is shown by nothing else later. `None` where the file is gone.
pub(super) async fn login(context: &Context, folder: &Path) -> anyhow::Result<Option<Login>> {
    let id: TenantId = DEMO.parse()?;
    let path = env_file::path(folder, DEMO, DEMO);
    let url = context.admin.config().nats.public_url.clone();
    if context.admin.store().tenant(&id).await.map_err(explain)?.is_some() {
        let kept = env_file::read(&path);
        if kept.is_none() {
            note(&format!(
                "the tenant {DEMO} exists, but its password is not in {}; make a new one with \
                 `nats-callout --config {} user passwd {DEMO} {DEMO} --env-file`",
                path.display(),
                context.admin.config().file.display()
            ));
        }
        return Ok(kept.map(|login| Login { url, ..login }));
    }
    let password = Password::generate()?;
    let login = Login { url, user: DEMO.to_owned(), password: password.expose().to_owned() };
    // The file comes first: a password that only the table knows would be of no use.
    env_file::write(&path, &login)?;
    let new = NewTenant {
        id,
        name: DEMO.to_owned(),
        isolation: None,
        policy: None,
        limits: tenants::default_limits(context.admin.config().isolation),
        answers: false,
        expires_at: None,
    };
    let added = context.admin.insert_tenant(&new, &password).await;
    added.map_err(explain).context("cannot add the tenant demo")?;
    Ok(Some(login))
}

/// The lines to paste.
pub(super) fn lines(login: &Login, config: &Path) -> String {
    let url = url::with_login(&login.url, &login.user, &login.password);
    let file = env_file::path(config.parent().unwrap_or(Path::new(".")), DEMO, DEMO);
    // No password on a command line, where every user of the machine could read it.
    let file = super::init::shell_quote(&file.display().to_string());
    let config = super::init::shell_quote(&config.display().to_string());
    format!(
        "\nNATS with auth callout is running; Ctrl-C ends it. The demo tenant's admin logs in with\n\
         \n\
         {url}\n\
         \n\
         With the nats command line, in two terminals:\n\
         \n\
         (set -a; . {file}; nats subscribe 'hello.>')\n\
         (set -a; . {file}; nats publish hello.world 'it works')\n\
         \n\
         In Python (python3 -m pip install nats-py):\n\
         \n\
         python3 - <<'END'\n\
         import asyncio, nats\n\
         async def main():\n    \
             nc = await nats.connect(\"{url}\")\n    \
             sub = await nc.subscribe(\"hello.>\")\n    \
             await nc.publish(\"hello.world\", b\"it works\")\n    \
             print((await sub.next_msg()).data.decode())\n    \
             await nc.close()\n\
         asyncio.run(main())\n\
         END\n\
         \n\
         Another tenant, and a service of it:\n\
         \n\
         nats-callout --config {config} tenant add acme\n\
         nats-callout --config {config} user add acme order-service -p 'orders.*' -s 'payments.*'"
    )
}
