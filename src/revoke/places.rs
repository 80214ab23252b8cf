//! Where connections are that a change may close.

use std::time::Duration;

use crate::connections::Selection;
use crate::keys::AccountId;
use crate::store::TenantId;

/// Where connections of tenants' users may be.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The accounts that are not made for a tenant.
    pub(crate) shared: Vec<String>,
    /// Accounts that are left alone, whatever the tenant table says.
    pub(crate) reserved: Vec<AccountId>,
    /// Whether users may be connected that have no row ([`TenantId::login`]).
    pub(crate) without_row: bool,
}

impl Places {
    /// A tenant's account, unless it cannot be one.
    pub(crate) fn own(&self, account: Option<AccountId>) -> Option<AccountId> {
        let shared = |account: &AccountId| self.shared.iter().any(|name| name == account.as_str());
        account.filter(|account| !self.reserved.contains(account) && !shared(account))
    }

    /// Adds the connections of users in the shared accounts and in the account of their tenant.
    pub(crate) fn select_users<'a>(
        &self,
        users: impl IntoIterator<Item = &'a str>,
        own: Option<AccountId>,
        age: Duration,
        selection: &mut Selection,
    ) {
        let own = self.own(own);
        let own = own.as_ref().map(AccountId::as_str);
        for user in users {
            for account in self.shared.iter().map(String::as_str).chain(own) {
                selection.add_user(account, user, age);
            }
        }
    }

    /// Adds the connections of a tenant's users in the shared accounts: of those that have a row,
    /// by name, and of all others.
    pub(crate) fn select_tenant<'a>(
        &self,
        tenant: &TenantId,
        users: impl IntoIterator<Item = &'a str>,
        age: Duration,
        selection: &mut Selection,
    ) {
        self.select_users(users, None, age, selection);
        if self.without_row {
            for account in &self.shared {
                selection.add_prefix(account, tenant.login(""), age);
            }
        }
    }
}
