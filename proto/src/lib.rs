//! The wire: messages, clients and servers generated from the `.proto` files here, and nothing else.
//!
//! The generated code is committed so that no build needs a generator; `cargo test -p taskyard-proto` proves that it
//! is what the `.proto` files say, and `UPDATE=1 cargo test -p taskyard-proto` writes it anew.

mod secret;

/// The public interface, package `taskyard.v1`.
pub mod v1 {
    #![expect(
        clippy::all,
        reason = "generated code answers to its generator, not to our lints"
    )]
    include!("generated/taskyard.v1.rs");
}

/// What KEDA calls to scale pools of workers, package `externalscaler`.
pub mod externalscaler {
    include!("generated/externalscaler.rs");
}

/// The control plane's own rows, package `taskyard.storage.v1`.
pub mod storage {
    /// First version of the rows.
    pub mod v1 {
        include!("generated/taskyard.storage.v1.rs");
    }
}

/// Every file of all packages as an encoded `google.protobuf.FileDescriptorSet`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.binpb");
