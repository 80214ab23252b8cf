//! Provisioning: each method is one transaction.

use async_trait::async_trait;

use super::{Backend, Durability, IfNone, Statement, Step, Subject, row};
use crate::clock::UnixSeconds;
use crate::keys::AccountId;
use crate::store::{
    HashListing, LoginListing, Misfit, NewTenant, NewToken, NewUser, PasswordHash,
    ProvisioningStore, Result, Status, StoreError, TenantId, TenantRecord, TokenHash, TokenListing,
    UserRecord, queries, readable,
};

/// The last second that the databases can write down: the end of the year 9999.
const LAST_SECOND: UnixSeconds = 253_402_300_799;

/// Logins noted in one transaction.
const LOGINS_AT_ONCE: usize = 256;

fn writable(at: Option<UnixSeconds>, column: &str) -> Result<Option<UnixSeconds>> {
    match at {
        Some(at) if !(0..=LAST_SECOND).contains(&at) => {
            Err(StoreError::Refused(format!("{column}: a time from 1970 to the end of 9999")))
        }
        at => Ok(at),
    }
}

fn amount(amount: Option<u64>, column: &str) -> Result<Option<i64>> {
    amount
        .map(|amount| {
            i64::try_from(amount)
                .map_err(|_| StoreError::Refused(format!("{column}: at most {}", i64::MAX)))
        })
        .transpose()
}

/// The lists of a user, as the table keeps them.
struct Lists {
    publish: String,
    subscribe: String,
}

impl Lists {
    fn of(user: &NewUser) -> Result<Self> {
        let json = |list: &[String], column| {
            serde_json::to_string(list)
                .map_err(|error| StoreError::Refused(format!("{column}: {error}")))
        };
        Ok(Self {
            publish: json(&user.publish, "users.publish")?,
            subscribe: json(&user.subscribe, "users.subscribe")?,
        })
    }
}

fn insert_user<'q>(user: &'q NewUser, lists: &'q Lists) -> Step<'q> {
    let tenant = user.tenant.as_str();
    Step {
        statement: Statement::new(queries::ADD_USER)
            .bind(tenant)
            .bind(&*user.name)
            .bind(user.kind.as_str())
            .bind(user.password_hash.as_ref().map(PasswordHash::expose))
            .bind(user.nkey.as_deref())
            .bind(user.certificate.as_deref())
            .bind(&*lists.publish)
            .bind(&*lists.subscribe)
            .bind(user.policy.as_deref()),
        subject: Subject { what: "user", key: &user.name, parent: tenant },
        if_none: IfNone::Fine,
    }
}

/// A statement about one row that has to be there.
fn change_one<'q>(statement: Statement<'q>, what: &'static str, key: &'q str) -> Vec<Step<'q>> {
    vec![Step { statement, subject: Subject { what, key, parent: key }, if_none: IfNone::Missing }]
}

/// A statement about a tenant's user, who has to be there.
fn change_user<'q>(sql: &'static str, tenant: &'q TenantId, user: &'q str) -> Step<'q> {
    let tenant = tenant.as_str();
    Step {
        statement: Statement::new(sql).bind(tenant).bind(user),
        subject: Subject { what: "user", key: user, parent: tenant },
        if_none: IfNone::NoUser { tenant, user },
    }
}

impl<'q> Step<'q> {
    fn bind(mut self, text: &'q str) -> Self {
        self.statement = self.statement.bind(text);
        self
    }
}

#[async_trait]
impl<B: Backend> ProvisioningStore for B {
    async fn add_tenant(&self, tenant: &NewTenant, admin: &NewUser) -> Result<()> {
        if admin.tenant != tenant.id {
            return Err(StoreError::Refused(
                "users.tenant_id: the first user belongs to the new tenant".into(),
            ));
        }
        let id = tenant.id.as_str();
        let statement = Statement::new(queries::ADD_TENANT)
            .bind(id)
            .bind(&*tenant.name)
            .bind(tenant.isolation.map(|isolation| isolation.as_str()))
            .bind(tenant.policy.as_deref())
            .bind(amount(Some(tenant.limits.memory), "tenants.js_memory")?)
            .bind(amount(Some(tenant.limits.storage), "tenants.js_storage")?)
            .bind(amount(tenant.limits.streams, "tenants.js_streams")?)
            .bind(amount(tenant.limits.consumers, "tenants.js_consumers")?)
            .bind(amount(tenant.limits.connections, "tenants.max_connections")?)
            .bind(writable(tenant.expires_at, "tenants.expires_at")?)
            .bind(tenant.answers);
        let subject = Subject { what: "tenant", key: id, parent: id };
        let lists = Lists::of(admin)?;
        let steps =
            vec![Step { statement, subject, if_none: IfNone::Fine }, insert_user(admin, &lists)];
        self.write(steps, Durability::Lasting).await
    }

    async fn add_user(&self, user: &NewUser) -> Result<()> {
        let lists = Lists::of(user)?;
        self.write(vec![insert_user(user, &lists)], Durability::Lasting).await
    }

    async fn set_password(&self, tenant: &TenantId, user: &str, hash: &PasswordHash) -> Result<()> {
        let step = change_user(queries::SET_PASSWORD, tenant, user).bind(hash.expose());
        self.write(vec![step], Durability::Lasting).await
    }

    async fn set_tenant_status(&self, tenant: &TenantId, status: Status) -> Result<()> {
        let id = tenant.as_str();
        let statement = Statement::new(queries::SET_TENANT_STATUS).bind(id).bind(status.as_str());
        self.write(change_one(statement, "tenant", id), Durability::Lasting).await
    }

    async fn set_user_status(&self, tenant: &TenantId, user: &str, status: Status) -> Result<()> {
        let step = change_user(queries::SET_USER_STATUS, tenant, user).bind(status.as_str());
        self.write(vec![step], Durability::Lasting).await
    }

    async fn remove_user(&self, tenant: &TenantId, user: &str) -> Result<()> {
        self.write(vec![change_user(queries::REMOVE_USER, tenant, user)], Durability::Lasting).await
    }

    async fn misfits(&self) -> Result<(u64, Vec<Misfit>)> {
        let rows = self.select(Statement::new(queries::MISFITS)).await?;
        let count = rows.first().map_or(Ok(0), row::count)?;
        Ok((count, rows.iter().map(row::misfit).collect::<Result<_, _>>()?))
    }

    async fn tokens(&self) -> Result<Vec<TokenListing>> {
        let rows = self.select(Statement::new(queries::TOKENS)).await?;
        rows.iter().map(row::token_listing).collect()
    }

    async fn remove_token_by_id(&self, id: &str) -> Result<()> {
        let statement = Statement::new(queries::REMOVE_TOKEN_BY_ID).bind(id);
        self.write(change_one(statement, "token", id), Durability::Lasting).await
    }

    async fn add_token(&self, tenant: &TenantId, token: &NewToken) -> Result<()> {
        let (tenant, user) = (tenant.as_str(), token.user_name.as_str());
        let hash = token.hash.to_hex();
        let statement = Statement::new(queries::ADD_TOKEN)
            .bind(tenant)
            .bind(user)
            .bind(&*hash)
            .bind(token.label.as_deref())
            .bind(writable(token.expires_at, "tokens.expires_at")?);
        let key = token.label.as_deref().unwrap_or("without a label");
        let subject = Subject { what: "token", key, parent: user };
        let if_none = IfNone::NoUser { tenant, user };
        self.write(vec![Step { statement, subject, if_none }], Durability::Lasting).await
    }

    async fn revoke_token(&self, hash: &TokenHash) -> Result<()> {
        let hash = hash.to_hex();
        let statement = Statement::new(queries::REMOVE_TOKEN).bind(&*hash);
        let subject = Subject { what: "token", key: "", parent: "" };
        let step = Step { statement, subject, if_none: IfNone::Fine };
        self.write(vec![step], Durability::Lasting).await
    }

    async fn remove_tenant(&self, id: &TenantId) -> Result<()> {
        let statement = Statement::new(queries::REMOVE_TENANT).bind(id.as_str());
        self.write(change_one(statement, "tenant", id.as_str()), Durability::Lasting).await
    }

    async fn tenants(&self) -> Result<Vec<Result<TenantRecord>>> {
        let rows = self.select(Statement::new(queries::TENANTS)).await?;
        Ok(rows.iter().map(row::tenant).collect())
    }

    async fn answering(&self) -> Result<Vec<TenantRecord>> {
        let rows = self.select(Statement::new(queries::ANSWERING)).await?;
        Ok(readable(rows.iter().map(row::tenant).collect()))
    }

    async fn with_account(&self) -> Result<Vec<TenantRecord>> {
        let rows = self.select(Statement::new(queries::WITH_ACCOUNT)).await?;
        Ok(readable(rows.iter().map(row::tenant).collect()))
    }

    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>> {
        let rows = self.select(Statement::new(queries::TENANT).bind(id.as_str())).await?;
        rows.first().map(row::tenant).transpose()
    }

    async fn tenant_of_account(&self, account: &AccountId) -> Result<Option<TenantRecord>> {
        let statement = Statement::new(queries::TENANT_OF_ACCOUNT).bind(account.as_str());
        let rows = self.select(statement).await?;
        rows.first().map(row::tenant).transpose()
    }

    async fn users(&self, tenant: &TenantId) -> Result<Vec<UserRecord>> {
        let rows = self.select(Statement::new(queries::USERS).bind(tenant.as_str())).await?;
        rows.iter().map(row::user).collect()
    }

    async fn password_hashes(&self, after: &str) -> Result<Vec<HashListing>> {
        let rows = self.select(Statement::new(queries::PASSWORD_HASHES).bind(after)).await?;
        rows.iter().map(row::hash_listing).collect()
    }

    async fn logins(&self, after: &str) -> Result<Vec<LoginListing>> {
        let rows = self.select(Statement::new(queries::LOGINS).bind(after)).await?;
        rows.iter().map(row::login_listing).collect()
    }

    async fn record_logins(&self, logins: &[(String, UnixSeconds)]) -> Result<()> {
        let mut logins: Vec<(&str, UnixSeconds)> = logins
            .iter()
            .filter(|(_, at)| (0..=LAST_SECOND).contains(at))
            .map(|(user, at)| (user.as_str(), *at))
            .collect();
        // In one order everywhere, so that instances do not lock each other's rows crosswise.
        logins.sort_unstable();
        for some in logins.chunks(LOGINS_AT_ONCE) {
            self.note_logins(some).await?;
        }
        Ok(())
    }

    async fn rehash(&self, user: &str, old: &PasswordHash, new: &PasswordHash) -> Result<()> {
        let rehash =
            Statement::new(queries::REHASH).bind(user).bind(old.expose()).bind(new.expose());
        let statements = [
            Statement::new(queries::BEGIN_REHASH).bind(user),
            rehash,
            Statement::new(queries::END_REHASH).bind(user),
        ];
        let subject = Subject { what: "user", key: user, parent: user };
        let steps = statements.map(|statement| Step { statement, subject, if_none: IfNone::Fine });
        self.write(steps.into(), Durability::Lasting).await
    }
}
