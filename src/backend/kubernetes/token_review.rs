//! Whose token it is, as the API server sees it.

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};

use super::client::{REQUEST_TIMEOUT, answer};
use crate::access::{ReviewTokens, ReviewedUser};

/// Asks by TokenReview. The server's own account needs the right to create them.
pub struct TokenReviewer {
    client: Client,
    audience: String,
}

impl TokenReviewer {
    pub(super) fn new(client: Client, audience: String) -> Self {
        Self { client, audience }
    }
}

#[async_trait]
impl ReviewTokens for TokenReviewer {
    async fn review(&self, token: &str) -> Result<Option<ReviewedUser>, String> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![self.audience.clone()]),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let reviewed = answer(REQUEST_TIMEOUT, reviews.create(&parameters, &review)).await;
        let status = reviewed.map_err(|error| error.to_string())?.status;
        let Some(status) = status.filter(|status| status.authenticated == Some(true)) else {
            return Ok(None);
        };
        // One that names no audience in its answer has looked at none: the token may be meant for
        // the API server itself (Kubernetes' reference of TokenReviewStatus).
        if !status
            .audiences
            .is_some_and(|given| given.contains(&self.audience))
        {
            return Ok(None);
        }
        Ok(status.user.and_then(|user| {
            Some(ReviewedUser {
                name: user.username?,
                groups: user.groups.unwrap_or_default(),
            })
        }))
    }
}
