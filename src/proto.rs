//! Generated from proto/: the public API (`v1`) and what the agent speaks (`agent`).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::large_enum_variant,
    unreachable_pub
)]

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// sandpool.v1, what clients speak.
#[cfg(feature = "server")]
pub mod v1 {
    tonic::include_proto!("sandpool.v1");

    /// The file descriptors of sandpool.v1, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sandpool_v1.fds"));

    /// Its value and traceback are its owner's secrets.
    impl std::fmt::Debug for CodeError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let mut shown = f.debug_struct("CodeError");
            shown.field("name", &self.name).finish_non_exhaustive()
        }
    }
}

/// sandpool.agent.v1, what server and agent speak.
pub mod agent {
    tonic::include_proto!("sandpool.agent.v1");

    /// Bytes of input that a program has taken since the server was last told: see `Acknowledged.input_offset`.
    pub const INPUT_ACKNOWLEDGED: u64 = 128 * 1024;
}

/// What a buffer for messages holds at first, and how much more it holds then: most messages to and
/// from an agent are smaller.
const BUFFER: usize = 512;
/// How much is encoded before it is handed to HTTP/2; tonic's own number.
const HANDED_ON: usize = 32 * 1024;

/// tonic's codec with small buffers, for agents: each sandbox that waits has a call open, and thousands
/// may wait. Tonic's buffers begin with 8 KiB.
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, HANDED_ON))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, HANDED_ON))
    }
}
