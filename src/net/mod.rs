//! What inputs and outputs share: TLS, who a peer is, and where a target is.

pub mod compression;
pub mod lookup;
pub mod peers;
pub mod target;
pub mod tls;
