//! The member at the other end of a connection, by its certificate.

use super::fault::ApiFault;
use axum::{
    Router,
    extract::{FromRequestParts, Request},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use http::request::Parts;
use protoplex_fleet::identity::{self, Identity};
use protoplex_wire::manifest::Role;
use rustls::pki_types::CertificateDer;
use std::{collections::BTreeSet, sync::Arc};

/// The owner of a client certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// `None` for a certificate that is good for something else.
    identity: Option<Identity>,
    /// Where its owner may be reached.
    hosts: Arc<BTreeSet<String>>,
}

/// A request of an operator, by name.
pub(super) struct Operator(pub String);
/// A request of a node.
pub(super) struct Node {
    pub name: String,
    pub role: Role,
    /// Names and addresses of its certificate.
    pub hosts: Arc<BTreeSet<String>>,
}
/// A request of either.
pub(super) struct Member;

impl Peer {
    /// Reads a certificate.
    pub(super) fn of(certificate: Option<&CertificateDer<'_>>) -> Self {
        let Some(certificate) = certificate else {
            return Self::default();
        };
        Self {
            identity: Identity::of(certificate),
            hosts: Arc::new(identity::hosts(certificate)),
        }
    }
}

fn identity(parts: &Parts) -> Option<&Identity> {
    parts.extensions.get::<Peer>()?.identity.as_ref()
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiFault> {
        match identity(parts) {
            Some(Identity::Operator { name }) => Ok(Self(name.clone())),
            _ => Err(ApiFault::forbidden(
                "this is for operators; use an operator's certificate",
            )),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Node {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiFault> {
        let peer = parts.extensions.get::<Peer>();
        match peer.and_then(|peer| Some((peer.identity.as_ref()?, &peer.hosts))) {
            Some((Identity::Node { role, name }, hosts)) => Ok(Self {
                name: name.clone(),
                role: *role,
                hosts: Arc::clone(hosts),
            }),
            _ => Err(ApiFault::forbidden(
                "this is for nodes; use a node's certificate, which says `protoplex://node/ROLE/NAME` (one of before \
                 roles were in it is issued anew by the next start of `protoplex up`)",
            )),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Member {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiFault> {
        match identity(parts) {
            Some(Identity::Node { .. } | Identity::Operator { .. }) => Ok(Self),
            Some(Identity::Seed) | None => Err(ApiFault::forbidden(
                "this certificate is neither a node's nor an operator's",
            )),
        }
    }
}

/// Lets operators and the Seed in, and no other member of the fleet: what a node shows and does on its meta port is
/// no other node's business.
pub(super) fn for_operators(router: Router) -> Router {
    router.layer(middleware::from_fn(operators_only))
}

async fn operators_only(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    match peer.and_then(|peer| peer.identity.as_ref()) {
        Some(Identity::Operator { .. } | Identity::Seed) => next.run(request).await,
        Some(Identity::Node { .. }) | None => {
            ApiFault::forbidden("this is for operators and the Seed; use an operator's certificate")
                .into_response()
        }
    }
}
