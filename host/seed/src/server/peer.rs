//! Extractors for the member at the other end of a connection, by its certificate.

use super::fault::ApiFault;
use axum::extract::FromRequestParts;
use http::request::Parts;
use protoplex_fleet::{Identity, member_port::PeerCertificate};
use protoplex_wire::manifest::Role;
use std::{collections::BTreeSet, sync::Arc};

/// Extracts the operator who sent the request, by name.
pub(super) struct OperatorPeer(pub String);
/// Extracts the node that sent the request.
pub(super) struct NodePeer {
    pub name: String,
    pub role: Role,
    /// Names and addresses of the node's certificate.
    pub hosts: Arc<BTreeSet<String>>,
}
/// Accepts a request of an operator or a node.
pub(super) struct MemberPeer;

fn identity(parts: &Parts) -> Option<&Identity> {
    parts.extensions.get::<PeerCertificate>()?.identity.as_ref()
}

impl<S: Sync> FromRequestParts<S> for OperatorPeer {
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

impl<S: Sync> FromRequestParts<S> for NodePeer {
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

impl<S: Sync> FromRequestParts<S> for MemberPeer {
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
