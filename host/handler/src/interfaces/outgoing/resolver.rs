//! DNS for requests of guests: of a name's addresses, those that the handler's grants allow.

use super::policy::Policy;
use hyper_util::client::legacy::connect::dns::Name;
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// DNS, then the policy: what is left may be connected to.
#[derive(Clone)]
pub(super) struct CheckedResolver(pub(super) Arc<Policy>);

impl tower_service::Service<Name> for CheckedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?
                .collect();
            let allowed: Vec<_> = found
                .into_iter()
                .filter(|a| policy.allows_address(name.as_str(), a.ip()))
                .collect();
            if allowed.is_empty() {
                let text = format!(
                    "{} has only addresses that the handler's grants do not name",
                    name.as_str()
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            Ok(allowed.into_iter())
        })
    }
}
