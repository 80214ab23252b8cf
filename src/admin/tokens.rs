//! Tokens, further credentials of a user: added, listed and removed.

use super::{Admin, Name, Result, When};
use crate::authn::token::Token;
use crate::clock::UnixSeconds;
use crate::store::{NewToken, StoreError, TenantId, TokenListing};

/// A token to be added.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewTokenRequest {
    /// The tenant of its user.
    pub(crate) tenant: TenantId,
    /// The user whose credential it becomes.
    pub(crate) user: String,
    /// A note, to tell tokens apart.
    pub label: Option<Name>,
    /// When it ends.
    pub expires: Option<When>,
}

impl NewTokenRequest {
    /// A token without a label or an end.
    #[must_use]
    pub fn new(tenant: TenantId, user: impl Into<String>) -> Self {
        Self { tenant, user: user.into(), label: None, expires: None }
    }
}

/// A token that was added.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TokenAdded {
    /// The token, which nothing shows later.
    pub token: Token,
    /// When it ends.
    pub expires_at: Option<UnixSeconds>,
}

impl Admin {
    /// Adds a token to a user.
    pub async fn add_token(&self, request: NewTokenRequest) -> Result<TokenAdded> {
        let expires_at = self.ends(request.expires)?;
        let token = Token::generate()?;
        let new = NewToken {
            user_name: request.user,
            hash: token.hash(),
            label: request.label.map(Into::into),
            expires_at,
        };
        self.store.add_token(&request.tenant, &new).await?;
        Ok(TokenAdded { token, expires_at })
    }

    /// The tokens of all users, of a tenant's, or of one user, which have to exist: never the token
    /// itself.
    pub async fn tokens(
        &self,
        tenant: Option<&TenantId>,
        user: Option<&str>,
    ) -> Result<Vec<TokenListing>> {
        if let Some(id) = tenant {
            self.tenant(id).await?;
            if let Some(user) = user {
                self.user(id, user).await?;
            }
        }
        let mut tokens = self.store.tokens().await?;
        tokens.retain(|token| {
            tenant.is_none_or(|id| token.tenant == *id)
                && user.is_none_or(|user| token.user_name == user)
        });
        Ok(tokens)
    }

    /// A token by its public id, which has to exist.
    pub async fn token(&self, id: &str) -> Result<TokenListing> {
        let missing = || StoreError::Missing { what: "token", key: id.to_owned() };
        let tokens = self.store.tokens().await?;
        Ok(tokens.into_iter().find(|token| token.id == id).ok_or_else(missing)?)
    }

    /// Removes a token by its public id: nobody logs in with it any more when this returns. The user's
    /// connections are closed some minutes later, and come back with what else they have.
    pub async fn remove_token(&self, id: &str) -> Result<()> {
        self.store.remove_token_by_id(id).await?;
        self.settle().await;
        Ok(())
    }
}
