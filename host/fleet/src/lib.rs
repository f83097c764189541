//! Foundations of a fleet: the authority that signs for its members, the identity in a certificate, mutual TLS
//! between members, the framing of their links, the ports that only members reach, and the token of internal requests.
//!
//! It knows who a member is, and not what members say to each other: messages are `protoplex-wire`'s.

pub mod accept;
pub mod admission;
pub mod authority;
pub mod build_token;
pub mod identity;
pub mod lines;
pub mod member_port;
pub mod mutual_tls;

pub use authority::Authority;
pub use identity::{Expected, Identity};
pub use member_port::MemberPort;
pub use mutual_tls::{FleetIdentity, MemberFiles, SideFile, TlsSetupError};
