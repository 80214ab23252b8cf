//! Whom a token names that is its issuer's for certain, by the issuer's rules.

use serde_json::{Map, Value};

use super::super::password::MAX_USER_CHARS;
use super::claims;
use super::issuer::{Identified, Issuer, IssuerSettings, TenantOf, Users};
use super::token::{Flaw, Unverified, Verified};
use crate::authn::{Claims, Denied, Handed, Named, WithoutRow};
use crate::causes::quoted;
use crate::clock::UnixSeconds;
use crate::redact::{claimed, holds_secret, shortened};
use crate::store::TenantId;

impl IssuerSettings {
    /// What is made of these claims, or why the token is refused for them whoever it names.
    pub(crate) fn hand(&self, all: &Map<String, Value>) -> Result<Handed, Denied> {
        let handed = self.handed(all).and_then(|claims| {
            let without_row = match &self.users {
                Users::Table => None,
                Users::Policy { kind, .. } => {
                    let by = self.found(&Flaw::NoPolicy, all);
                    Some(WithoutRow { kind: *kind, policy: self.policy(all)?, by })
                }
            };
            let tenant = match &self.tenant {
                Some(TenantOf::Fixed(tenant)) => Some(tenant.clone()),
                _ => None,
            };
            Ok(Handed { claims, tenant, without_row })
        });
        handed.map_err(|flaw| self.explains(flaw, all, None))
    }

    fn handed(&self, all: &Map<String, Value>) -> Result<Claims, Flaw> {
        let mut handed = Claims::new();
        for name in &self.claims {
            if let Some(mut values) = self.values(all, name)? {
                // Tenants' ids are subject tokens, and any token could be one.
                values.retain(|it| !self.drops_unusable || it.parse::<TenantId>().is_ok());
                handed.insert(name.clone(), values);
            }
        }
        Ok(handed)
    }

    /// The values of a claim.
    fn values(&self, all: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, Flaw> {
        let is_split = self.split.iter().any(|split| split == name);
        Ok(match claims::find(all, name)? {
            Some(Value::String(text)) if is_split => {
                Some(text.split_ascii_whitespace().map(str::to_owned).collect())
            }
            found => found.and_then(claims::entries),
        })
    }

    /// The policy of a user without a row, if one is named for it, or why the claims choose none.
    fn policy(&self, all: &Map<String, Value>) -> Result<Result<Option<String>, Denied>, Flaw> {
        let Users::Policy { policy: default, by_claim, .. } = &self.users else {
            return Ok(Ok(None));
        };
        let Some(by_claim) = by_claim else { return Ok(Ok(default.clone())) };
        let values = self.values(all, &by_claim.claim)?.unwrap_or_default();
        let chosen = by_claim.policies.iter().find(|(value, _)| values.contains(value));
        let chosen = chosen.map(|(_, policy)| policy).or(default.as_ref());
        Ok(match chosen {
            Some(policy) => Ok(Some(policy.clone())),
            None => Err(self.explains(Flaw::NoPolicy, all, None)),
        })
    }

    /// The flaw, and what there is in the place that it is about.
    fn explains(&self, flaw: Flaw, all: &Map<String, Value>, user: Option<&str>) -> Denied {
        let issuer = &self.name;
        let found = match flaw {
            Flaw::OtherUser => format!(": `{}`", claimed(user.unwrap_or_default())),
            _ => self.found(&flaw, all),
        };
        let detail = format!("issuer {issuer}: {flaw}{found}");
        Denied::from(flaw).with_detail(detail)
    }

    /// What the claims say that a flaw is about.
    fn found(&self, flaw: &Flaw, all: &Map<String, Value>) -> String {
        let names: &[&str] = match flaw {
            Flaw::OtherIssuer => &["iss"],
            Flaw::Audience => &[&self.audience_claim],
            Flaw::NoEnd | Flaw::Expired => &["exp"],
            Flaw::NoSeconds(name) => &[name],
            Flaw::NotYet => &["nbf", "iat"],
            Flaw::NoUser if self.user_claim == "email" => &["email", "email_verified"],
            Flaw::NoUser => &[&self.user_claim],
            Flaw::NoTenant => match &self.tenant {
                Some(TenantOf::Claim(name)) => &[name],
                _ => &[],
            },
            Flaw::NoPolicy => match &self.users {
                Users::Policy { by_claim: Some(by_claim), .. } => &[&by_claim.claim],
                _ => &[],
            },
            _ => &[],
        };
        let is_time = matches!(flaw, Flaw::NoEnd | Flaw::NotYet);
        let found = |name: &&str| match claims::find(all, name) {
            Ok(Some(Value::String(text))) if is_time => {
                format!("`{name}` is the text {}", quoted(shortened(text)))
            }
            Ok(Some(Value::String(text))) => format!("`{name}` is {}", quoted(shortened(text))),
            Ok(Some(value)) => {
                let text = value.to_string().replace('"', "'");
                format!("`{name}` is {}", quoted(shortened(&text)))
            }
            _ => format!("`{name}` is missing"),
        };
        let found: Vec<String> = names.iter().map(found).collect();
        if found.is_empty() { String::new() } else { format!(" ({})", found.join(", ")) }
    }
}

/// The id that a claim names. A secret in its place is none: it would be in the log.
fn tenant_id(text: &str) -> Option<TenantId> {
    text.parse().ok().filter(|_| !holds_secret(text))
}

impl Issuer {
    /// The refusal of a token that is its own, for what its claims say; `user` stands beside it.
    fn denies(&self, flaw: Flaw, all: &Map<String, Value>, user: Option<&str>) -> Denied {
        let denied = self.settings().explains(flaw, all, user);
        let claim = |name: &str| claims::find(all, name).ok().flatten().and_then(claims::name);
        let tenant = match &self.settings().tenant {
            None => None,
            Some(TenantOf::Fixed(tenant)) => Some(tenant.clone()),
            Some(TenantOf::Claim(name)) => claim(name).and_then(|id| tenant_id(&id)),
        };
        match claim(&self.settings().user_claim) {
            Some(user) => denied.of_named(Named { user, tenant }),
            None => denied,
        }
    }

    /// Whom the JWT names, if it is for us, holds at `now`, and is that of the user beside it.
    pub(super) fn identify(
        &self,
        token: &Verified,
        user: Option<&str>,
        now: UnixSeconds,
    ) -> Result<Identified, Denied> {
        let all = token.claims();
        let identified = claims::check_times(all, self.leeway(), now).and_then(|end| {
            claims::check_purpose(all)?;
            let identified = self.named(all, Some(end))?;
            self.check_name(&identified, user)?;
            Ok(identified)
        });
        identified.map_err(|flaw| self.denies(flaw, all, user))
    }

    /// Checks what a JWT says of itself that its issuer is asked about: nobody has verified it, so that it counts
    /// against the JWT alone.
    pub(super) fn check_own_word(
        &self,
        token: &Unverified<'_>,
        now: UnixSeconds,
    ) -> Result<(), Denied> {
        let (all, settings) = (token.claims(), self.settings());
        let checked = token.check_header().and_then(|()| {
            claims::check_said(all, &settings.issuer)?;
            claims::check_end(all, self.leeway(), now)?;
            match claims::find(all, &settings.audience_claim)? {
                Some(_) => {
                    claims::check_audience(all, &settings.audience_claim, &settings.audience)
                }
                None => Ok(()),
            }
        });
        checked.map_err(|flaw| settings.explains(flaw, all, None))
    }

    /// Whom the issuer names by what it says of a token, likewise; such a token may have no end.
    pub(super) fn identify_said(
        &self,
        said: &Map<String, Value>,
        user: Option<&str>,
        now: UnixSeconds,
    ) -> Result<Identified, Denied> {
        let identified = claims::check_said(said, &self.settings().issuer).and_then(|()| {
            let end = claims::check_end(said, self.leeway(), now)?;
            let identified = self.named(said, end)?;
            self.check_name(&identified, user)?;
            Ok(identified)
        });
        identified.map_err(|flaw| self.denies(flaw, said, user))
    }

    fn leeway(&self) -> UnixSeconds {
        UnixSeconds::try_from(self.settings().leeway.as_secs()).unwrap_or(0)
    }

    /// Whom claims that hold until `expires_at` name, if they are for us.
    fn named(
        &self,
        all: &Map<String, Value>,
        expires_at: Option<UnixSeconds>,
    ) -> Result<Identified, Flaw> {
        let settings = self.settings();
        claims::check_audience(all, &settings.audience_claim, &settings.audience)?;
        let tenant = match &settings.tenant {
            None => None,
            Some(TenantOf::Fixed(tenant)) => Some(tenant.clone()),
            Some(TenantOf::Claim(name)) => {
                let named = claims::find(all, name)?.and_then(claims::name);
                Some(named.and_then(|id| tenant_id(&id)).ok_or(Flaw::NoTenant)?)
            }
        };
        let (claims, policy) = (settings.handed(all)?, settings.policy(all)?);
        Ok(Identified { user: self.user(all)?, tenant, expires_at, claims, policy })
    }

    /// Checks the user name beside a token: its own, or as logs and events have that of a user without a row.
    fn check_name(&self, identified: &Identified, user: Option<&str>) -> Result<(), Flaw> {
        let Identified { user: own, tenant, .. } = identified;
        let is_own = |user: &str| {
            user == own || tenant.as_ref().is_some_and(|tenant| user == tenant.login(own))
        };
        let is_sound = self.settings().any_name || user.is_none_or(is_own);
        if is_sound { Ok(()) } else { Err(Flaw::OtherUser) }
    }

    fn user(&self, all: &Map<String, Value>) -> Result<String, Flaw> {
        let name = &self.settings().user_claim;
        let user = claims::find(all, name)?.and_then(claims::name).ok_or(Flaw::NoUser)?;
        // Whoever may enter any address at the issuer could be anybody here. Some write the truth as a text.
        let is_true = |verified: &Value| *verified == Value::Bool(true) || *verified == "true";
        let is_verified = name != "email" || all.get("email_verified").is_none_or(is_true);
        let is_name = !user.is_empty()
            && user.chars().nth(MAX_USER_CHARS).is_none()
            && !user.chars().any(char::is_control);
        if is_name && is_verified { Ok(user) } else { Err(Flaw::NoUser) }
    }
}
