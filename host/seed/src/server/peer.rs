//! The member at the other end of a connection, by its certificate.

use super::fault::ApiFault;
use axum::extract::FromRequestParts;
use http::request::Parts;
use protoplex_fleet::{Identity, member_port::PeerCertificate};
use protoplex_wire::manifest::Role;
use std::{collections::BTreeSet, sync::Arc};

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

fn identity(parts: &Parts) -> Option<&Identity> {
    parts.extensions.get::<PeerCertificate>()?.identity.as_ref()
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
        let peer = parts.extensions.get::<PeerCertificate>();
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
