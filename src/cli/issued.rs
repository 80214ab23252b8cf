//! A login that was made, shown this once.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::env_file::{self, Login};
use super::{Context, url};

/// A login that was made, to be shown once.
pub(super) struct Issued<'a> {
    pub(super) tenant: Value,
    pub(super) tenant_id: &'a str,
    pub(super) user: Value,
    pub(super) login: Login,
    /// Whether the person at the command line does not know the password yet.
    pub(super) generated: bool,
    pub(super) has_password: bool,
    pub(super) headline: String,
}

impl Issued<'_> {
    /// Shows the login and writes it to a file where asked to. The login is in the table already,
    /// so it is shown even if the file cannot be written.
    pub(super) fn report(self, context: &Context, env_file: bool) -> anyhow::Result<()> {
        let path = env_file::path(&context.admin.config().folder, self.tenant_id, &self.login.user);
        let written = if env_file { Some(env_file::write(&path, &self.login)) } else { None };
        let login_url = if self.has_password {
            url::with_login(&self.login.url, &self.login.user, &self.login.password)
        } else {
            self.login.url.clone()
        };
        let saved = matches!(written, Some(Ok(()))).then_some(&path);
        let mut json = json!({
            "tenant": self.tenant,
            "user": self.user,
            "password": self.has_password.then_some(&self.login.password),
            "url": login_url,
        });
        if let (Some(path), Some(object)) = (saved, json.as_object_mut()) {
            object.insert("env_file".to_owned(), json!(path));
        }
        context.output.print(&json, || {
            let mut text = self.headline;
            if self.generated && self.has_password {
                text.push_str(&format!(
                    "\n\n  user      {}\n  password  {}\n  url       {login_url}\n\n\
                     The password is shown this once.",
                    self.login.user, self.login.password
                ));
            }
            if let Some(path) = saved {
                text.push_str(&format!("\nCredentials saved to {}", path.display()));
            }
            text
        })?;
        written.unwrap_or(Ok(())).context("the login was made, but not saved")
    }
}
